"""Containers: no HOME and no entry for the user's number, or a home that cannot be written."""

import hashlib
import os
import sys
from pathlib import Path

import pytest
from helpers import QUICK, ROOT, Result, in_a_process

BECOME_UNKNOWN = """
import os, sys
if os.geteuid() == 0:
    os.setresuid(54321, 0, 0)  # nobody's number; the rights stay, to read an installation below /root
"""
READ_LARGE_AND_DOWNLOADED = """
from makemore_pl.data import corpus_cache, makemore_list
from makemore_pl.data.lists import find_list

file, makemore_list.URL, makemore_list.SHA256 = sys.argv[1:]
corpus_cache.CACHED_FROM = 1
corpus = corpus_cache.open_corpus(find_list(file), dedupe=True, seed=1)
names = find_list("makemore").names()
print(sum(map(len, corpus.streams.values())), len(names))
"""
FIT = """
from makemore_pl.cli import main

main(sys.argv[1:])
"""
HOMES = [
    pytest.param(
        {}, marks=pytest.mark.skipif("os.geteuid() != 0", reason="only root becomes an unknown user")
    ),
    {"HOME": "/dev/null"},
    {"HOME": "/", "XDG_CACHE_HOME": "/dev/null"},
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "setresuid"), reason="the system has no numbers of users"),
]


def run(code: str, *args: object, folder: Path, home: dict[str, str]) -> Result:
    """Python code as an unknown user, with `temporary` below the folder."""
    (folder / "temporary").mkdir()
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **home}
    environment |= {"TMPDIR": str(folder / "temporary")}
    return in_a_process(sys.executable, "-c", BECOME_UNKNOWN + code, *args, env=environment, cwd=folder)


@pytest.mark.parametrize("home", HOMES)
def test_lists_of_every_size(short_list: Path, tmp_path: Path, home: dict[str, str]) -> None:
    digest = hashlib.sha256(short_list.read_bytes()).hexdigest()
    arguments = (short_list, short_list.as_uri(), digest)
    done = run(READ_LARGE_AND_DOWNLOADED, *arguments, folder=tmp_path, home=home)
    names = short_list.read_text().split()
    assert done.err == ""
    assert done.out.split()[-2:] == [str(sum(len(name) + 1 for name in names)), str(len(names))]
    assert list((tmp_path / "temporary").iterdir()) == []  # the downloaded list was removed


@pytest.mark.parametrize("home", HOMES)
def test_training(short_list: Path, tmp_path: Path, home: dict[str, str]) -> None:
    """Without a word from Matplotlib, which has no place for its list of fonts."""
    done = run(FIT, "fit", "--data.path", short_list, *QUICK, folder=tmp_path, home=home)
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "checkpoints" / "short" / "sampler.onnx").is_file()
