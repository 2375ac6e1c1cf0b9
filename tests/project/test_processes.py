"""Pools of processes: what crosses their borders can be pickled, and nobody waits for what never comes."""

import multiprocessing
import pickle
import pkgutil
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import makemore_pl
from makemore_pl import Sampler, Scorer
from makemore_pl.errors import (
    MakemoreError,
    MissingPackageError,
    ModelFileError,
    TooFewNamesError,
    VocabularyError,
)
from makemore_pl.parsing.training_errors import InterruptedFit

SECONDS = 120
"""Long enough for any machine; only a deadlock takes longer."""
METHODS = [
    name for name in ("fork", "spawn", "forkserver") if name in multiprocessing.get_all_start_methods()
]
each_method = pytest.mark.parametrize("method", METHODS)
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def all_errors(kind: type[MakemoreError] = MakemoreError) -> Iterator[type[MakemoreError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


def test_every_error_can_be_pickled() -> None:
    for module in pkgutil.walk_packages(makemore_pl.__path__, "makemore_pl."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    arguments = {
        TooFewNamesError: (3, 1, ["anna"]),
        InterruptedFit: ("stopped", 15),
        MissingPackageError: ("a table", "pyarrow", "columns"),
    }
    kinds = [kind for kind in all_errors() if kind.__module__.startswith("makemore_pl.")]
    assert len(kinds) > 12
    for kind in kinds:
        error = kind(*arguments.get(kind, ("what came",)))
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.args, str(copy), vars(copy)) == (kind, error.args, str(error), vars(error))
        assert copy.exit_code == error.exit_code


@pytest.mark.slow
@each_method
def test_pools_over_samplers_and_scorers(run_folder: Path, method: str) -> None:
    """After use in many threads; errors come back as what they are."""
    sampler, scorer = Sampler(run_folder), Scorer(run_folder)
    with ThreadPoolExecutor(4) as threads:
        alone = list(threads.map(lambda seed: sampler.sample(3_000, seed=seed), range(4)))
    with multiprocessing.get_context(method).Pool(2) as pool:
        names = pool.map_async(partial(sampler.sample, 3_000, seed=0), []).get(SECONDS)
        assert names == []
        together = [pool.apply_async(sampler.sample, (3_000,), {"seed": seed}) for seed in range(4)]
        assert [one.get(SECONDS) for one in together] == alone
        some = [names[:20] for names in alone]
        assert pool.map_async(scorer.score, some).get(SECONDS) == [scorer.score(names) for names in some]
        with pytest.raises(VocabularyError, match="does not know 'ö'"):
            pool.map_async(partial(sampler.sample, prefix="ö"), [1]).get(SECONDS)
        with pytest.raises(TooFewNamesError) as too_few:
            pool.map_async(partial(sampler.sample, temperature=0, unique=True), [2]).get(SECONDS)
        assert too_few.value.names == sampler.sample(1, temperature=0)


@pytest.mark.slow
@each_method
def test_a_file_that_is_gone_is_an_error_of_the_task(run_folder: Path, tmp_path: Path, method: str) -> None:
    """Not of the process that takes the task: a pool loses both, and waits."""
    for name in ("model.onnx", "sampler.onnx"):
        shutil.copy(run_folder / name, tmp_path)
    sampler, scorer = Sampler(tmp_path), Scorer(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    with multiprocessing.get_context(method).Pool(1) as pool:
        for function, argument in ((sampler.sample, 1), (scorer.score, ["emma"])):
            with pytest.raises(ModelFileError, match="No such file"):
                pool.map_async(function, [argument]).get(SECONDS)
