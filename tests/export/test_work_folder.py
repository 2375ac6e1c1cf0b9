"""An export's files come all together or not at all, and a failed one leaves no folder."""

from pathlib import Path

import pytest

from makemore_pl.errors import RequestError
from makemore_pl.export.work_folder import work_folder
from makemore_pl.files import move_into_place

NAMES = ("a", "b", "c")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    for name in NAMES:
        (work / name).write_text(f"new {name}")
    return work


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize("failing", [None, *NAMES])
@pytest.mark.parametrize("earlier", [(), ("b",), NAMES], ids=str)
def test_all_files_are_moved_or_none(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: tuple[str, ...], failing: str | None
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in earlier:
        (folder / name).write_text(f"old {name}")
    before = contents(folder)
    replace = Path.replace

    def failing_replace(path: Path, target: Path) -> Path:
        if path == work / str(failing):
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", failing_replace)
    if failing is None:
        move_into_place(work, folder, NAMES)
        assert contents(folder) == {name: f"new {name}" for name in NAMES}
    else:
        with pytest.raises(OSError, match="No space left"):
            move_into_place(work, folder, NAMES)
        assert contents(folder) == before


def test_an_interrupt_between_two_files_puts_the_earlier_ones_back(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("old")
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "b":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move_into_place(work, folder, NAMES)
    assert contents(folder) == {"a": "old"}


def test_folders_of_a_failed_export_are_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), work_folder(tmp_path / "p" / "q" / "r"):
        raise ValueError("wrong")
    assert not (tmp_path / "p").exists()


def test_folders_above_one_that_cannot_be_made_are_removed(tmp_path: Path) -> None:
    too_long = tmp_path / "p" / "q" / ("r" * 300)
    with pytest.raises(RequestError, match="cannot be written to"), work_folder(too_long):
        pass
    assert not (tmp_path / "p").exists()


def test_folders_of_files_stay(tmp_path: Path) -> None:
    with work_folder(tmp_path / "p" / "q") as work:
        (work / "file").write_text("")
        (work / "file").replace(tmp_path / "p" / "q" / "file")
    assert [path.name for path in (tmp_path / "p" / "q").iterdir()] == ["file"]
