"""One name for each id: the hash by its description, and names that depend on nothing else."""

import hashlib
import json
import random
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, RunCommand, in_a_process
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl import Sampler
from makemore_pl.errors import RejectionWarning, RequestError, TooFewNamesError
from makemore_pl.exported.metadata import MAX_LENGTH
from makemore_pl.runtime.ways import PATIENCE
from makemore_pl.wishes import automata
from makemore_pl.wishes.id_uniforms import IdUniforms, uniforms_of_attempt

IDS = [f"user-{i}" for i in range(2_000)]


@pytest.fixture(scope="module")
def sampler(run_folder: Path) -> Sampler:
    return Sampler(run_folder)


@given(st.text(), st.text(max_size=16), st.integers(0, 70))
def test_uniforms_as_docs_describe_them(text: str, key: str, step: int) -> None:
    try:
        name, secret = text.encode(), key.encode()
    except UnicodeEncodeError:  # single surrogates, which other programs do not have
        return
    uniforms = IdUniforms(["other", text], key)
    for i in range(step + 1):
        [drawn] = uniforms(i, np.array([1]))
    block = hashlib.blake2b((step // 16).to_bytes(4, "little") + name, key=secret, digest_size=64).digest()
    word = block[step % 16 * 4 : step % 16 * 4 + 4]
    assert drawn == int.from_bytes(word, "little") / 2**32


def test_vectors_of_the_docs() -> None:
    text = (ROOT / "docs" / "wishes.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `user-")]
    assert len(rows) >= 3
    for name, key, *words in rows:
        uniforms = IdUniforms([name.strip("`")], key.strip("`").replace("(none)", ""))
        for step, word in enumerate(words):
            assert uniforms(step, np.array([0]))[0] == int(word, 16) / 2**32


def test_a_name_depends_on_id_key_and_wish_alone(
    sampler: Sampler, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = dict(zip(IDS, sampler.for_ids(IDS, suffix="a"), strict=True))
    shuffled = random.Random(0).sample(IDS, len(IDS))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(partial(sampler.for_ids, suffix="a"), [shuffled[:700], shuffled[700:]]))
    assert dict(zip(shuffled, [*parts[0], *parts[1]], strict=True)) == names
    monkeypatch.setattr("makemore_pl.runtime.ways.BATCH_ENTRIES", 14 * 100)
    assert Sampler(run_folder / "model.onnx").for_ids(IDS, suffix="a") == list(names.values())
    assert all(name.endswith("a") for name in names.values())
    with_key = sampler.for_ids(IDS, key="secret", suffix="a")
    assert sum(a == b for a, b in zip(names.values(), with_key, strict=True)) < 100


def test_as_many_ids_share_a_name_as_is_said(sampler: Sampler) -> None:
    """The pairs' standard deviation is below twice its square root here; 6 of them are once in 10^8 keys."""
    wish = {"suffix": "lia", "max_length": 7}
    names = sampler.for_ids(IDS, **wish)
    pairs = sum(count * (count - 1) / 2 for count in Counter(names).values())
    expected = len(IDS) * (len(IDS) - 1) / 2 * sampler.collision_probability(**wish)
    assert expected > 1_000
    assert abs(pairs / expected - 1) < 0.25


def test_where_names_are_rejected(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks with too many contexts, and expressions without an automaton."""
    sampler = Sampler(run_folder)
    ids = IDS[:200]
    wish = {"match": r"([a-z])\1", "max_length": 8}
    with pytest.warns(RejectionWarning, match="back-reference"):
        names = sampler.for_ids(ids, key="k", **wish)
    assert all(re.search(wish["match"], name) and len(name) <= 8 for name in names)
    with pytest.warns(RejectionWarning):
        assert sampler.for_ids(ids[::-1], key="k", **wish) == names[::-1]
    monkeypatch.setattr(automata, "MOST_TRANSITIONS", 100)
    with pytest.warns(RejectionWarning, match="at most 100 are made"):
        plain = sampler.for_ids(ids)
    assert len(set(plain)) > 150
    monkeypatch.setattr("makemore_pl.runtime.ways.PATIENCE", 5)
    with pytest.warns(RejectionWarning), pytest.raises(TooFewNamesError):
        sampler.for_ids(ids, suffix="zzz")


def test_uniforms_of_attempts() -> None:
    blocks = [
        hashlib.blake2b((3 * 4_096 + b).to_bytes(4, "little") + b"anna", key=b"k", digest_size=64).digest()
        for b in range(2)
    ]
    words = np.frombuffer(b"".join(blocks), dtype="<u4")[:20]
    assert (uniforms_of_attempt("anna", "k", 20, 3) == (words >> 8) / 2.0**24).all()
    assert uniforms_of_attempt("anna", "k", 20, 3).dtype == np.float32
    assert uniforms_of_attempt("anna", "k", MAX_LENGTH, PATIENCE - 1).shape == (
        1,
        MAX_LENGTH,
    )


def test_other_processes_give_the_same_names(
    makemore: RunCommand, sampler: Sampler, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids").write_text("\n".join(reversed(IDS)))
    result = makemore(
        "sample", run_folder, "--ids", tmp_path / "ids", "--key", "k", "--format", "json"
    ).succeeds()
    rows = [(row["id"], row["name"]) for row in json.loads(result.out)]
    assert rows == list(zip(IDS[::-1], sampler.for_ids(IDS[::-1], key="k"), strict=True))
    [line] = result.err.splitlines()
    assert line.startswith("ids: two get the same name with probability ")
    assert "of 2,000," in line
    command = ["-m", "makemore_pl", "sample", run_folder, "--ids", tmp_path / "ids", "--key", "k"]
    done = in_a_process(sys.executable, *command, cwd=ROOT)
    assert done.out == "".join(f"{text}\t{name}\n" for text, name in rows)


def test_ids_that_are_refused(
    makemore: RunCommand, sampler: Sampler, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="ids: several texts are needed"):
        sampler.for_ids("anna")
    with pytest.raises(RequestError, match="key must have at most 64 bytes"):
        sampler.for_ids(["anna"], key="é" * 33)
    assert sampler.for_ids([]) == []
    (tmp_path / "ids").write_text("anna\n")
    for args in (["--ids", tmp_path / "ids", "--seed", 1], ["--ids", "missing"], ["--key", "k"]):
        assert makemore("sample", run_folder, *args).fails_with("").out == ""
