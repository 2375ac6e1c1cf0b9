"""docs/reliability.md names tests that exist, and SECURITY.md and the lock file what is pinned."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)(?: ; ([^\\\n]*?))?(?: \\)?$", re.MULTILINE)


def test_every_test_that_the_tables_name_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", RELIABILITY)
    assert len(named) > 60
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in tests, f"{file}::{name}"


def test_every_line_of_the_tables_names_a_test() -> None:
    inside = RELIABILITY[RELIABILITY.index("## Hostile input") : RELIABILITY.index("## Fuzzing")]
    lines = [line for line in inside.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(lines) > 60
    for line in lines:
        assert "::test_" in line.split("|")[-2], line


def test_every_test_of_hostile_input_stands_in_the_tables() -> None:
    """But for those of the tests' own helpers."""
    helpers = {
        "test_any_bytes_are_surveyed_or_refused",
        "test_metadata_of_an_export_is_sound",
        "test_operators_that_are_allowed_are_those_that_are_written",
        "test_the_unchanged_checkpoint_is_gone_on_with",
        "test_a_file_here_wins_over_a_shipped_config",
    }
    for file in (ROOT / "tests").glob("test_hostile_*.py"):
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            assert name in helpers or f"`{file.name}::{name}`" in RELIABILITY, name


def test_the_lock_file_holds_the_constraints_and_hashes() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    locked = {(name, version) for name, version, _ in PIN.findall(LOCK)}
    pinned = {(name, version) for name, version, _ in PIN.findall(constraints)}
    assert len(pinned) > 80
    assert pinned <= locked
    blocks = re.split(r"\n(?=[a-z])", LOCK[LOCK.index("\nabsl-py") :].strip())
    assert len(blocks) == len(PIN.findall(LOCK))
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?:|file:|--index|--find|@ ", LOCK)


@pytest.mark.parametrize("package", ["torch", "lightning", "onnx", "protobuf", "pillow", "werkzeug"])
def test_versions_that_were_audited_are_those_that_are_pinned(package: str) -> None:
    [row] = [line for line in SECURITY.splitlines() if line.startswith(f"| {package} |")]
    audited = row.split("|")[2].strip().split(", ")
    assert set(audited) == {version for name, version, _ in PIN.findall(LOCK) if name == package}


def test_oldest_versions_that_are_accepted_are_not_known_to_be_vulnerable() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for bound in ("torch>=2.10", "lightning>=2.6.6", "onnx>=1.21"):
        assert f'"{bound}"' in project
