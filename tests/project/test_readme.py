"""What the README shows is run: its shell commands, its Python, in the order of the page."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers import BLOCK, ROOT, RunCommand

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_commands_and_code(
    makemore: RunCommand, short_list: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(short_list, "mynames.txt")
    ran = 0
    for block in BLOCK.finditer(README):
        if block["language"] == "python":
            exec(compile(block["code"], "README.md", "exec"), {})
            ran += 1
            continue
        for line in block["code"].splitlines():
            program, *args = shlex.split(line)
            assert program == "makemore", line
            if block["mark"]:
                args.append("--print_config")  # what cannot be run here is still parsed
            result = makemore(*args)
            assert result.code == 0, f"{line}\n{result.err}"
            ran += 1
    assert ran > 15


def test_file_tree_names_every_module() -> None:
    tree = README[README.index("## Files") :]
    for file in (ROOT / "makemore_pl").rglob("*.py"):
        if not file.name.startswith("__"):
            assert file.name in tree, file


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_configs_named_are_those_shipped() -> None:
    section = README[README.index("## Configuration") : README.index("## Files")]
    for config in (ROOT / "makemore_pl" / "configs").glob("*.yaml"):
        assert f"`{config.stem}`" in section
