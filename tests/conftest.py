"""Fixtures: small lists, a trained and exported run, and a way to call the command line."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from helpers import LABELS, LETTERS, QUICK, Result, RunCommand
from hypothesis import HealthCheck, settings

from makemore_pl.cli import main
from makemore_pl.data.lists import find_list
from makemore_pl.errors import DataError

# A busy machine is no failure of a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

UNICODE_NAMES = """
Žofie Řehoř Ťapka Ñuñez José María Zoë Øystein Åse Ðóra Łukasz Çağlar Đặng Nguyễn Ωρίων Иван Ольга
Михаил 美咲 太郎 さくら 서연 지훈 נועה יעל محمد ليلى O'Brien D'Angelo Jean-Luc St._John J.R. Anne_Marie
""".replace("_", " ")


@pytest.fixture
def makemore(capfd: pytest.CaptureFixture[str]) -> RunCommand:
    """Run the program in this process."""

    def run(*args: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(arg) for arg in args])
        captured = capfd.readouterr()
        return Result(int(exit_info.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_list(folder: Path, letters: str = ascii_lowercase) -> Path:
    """400 names of the shipped list over these letters."""
    names = [name for name in find_list("names").names() if set(name) <= set(letters)]
    file = folder / "short.txt"
    file.write_text("\n".join(names[:400]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def short_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 names of few letters: a proof compares all contexts there are."""
    return write_list(tmp_path_factory.mktemp("lists"), LETTERS)


@pytest.fixture(scope="session")
def list_of_all_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 names, for what is not proven."""
    return write_list(tmp_path_factory.mktemp("lists"))


@pytest.fixture(scope="session")
def unicode_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names with accents, spaces, apostrophes, full stops and other scripts; CRLF ends and a BOM."""
    names = UNICODE_NAMES.replace(" John", "\0John").replace(" Marie", "\0Marie").split()
    file = tmp_path_factory.mktemp("lists") / "unicode.txt"
    content = "\r\n".join(name.replace("\0", " ") for name in names) + "\r\n"
    file.write_bytes(b"\xef\xbb\xbf" + content.encode())
    return file


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, short_list: Path) -> Path:
    """A finished run: `makemore fit` on the short list, with everything it leaves behind."""
    place = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(place)
    try:
        with pytest.raises(SystemExit) as exit_info:
            main(["fit", "--data.path", str(short_list), "--data.batch_size", "64", *QUICK])
    finally:
        os.chdir(before)
    assert exit_info.value.code == 0
    return place / "checkpoints" / "short"


@pytest.fixture(scope="session")
def labelled_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on names of a few letters, to keep contexts few; é is among them."""
    place = tmp_path_factory.mktemp("labelled")
    names = [name for name in find_list("names").names() if set(name) <= set("aeilmnr")][:300]
    rows = [f'{name.replace("ee", "é")},"{LABELS[len(name) % 3]}"' for name in names]
    (place / "list.csv").write_text("name,kind\n" + "\n".join(rows) + "\n", encoding="utf-8")
    columns = ["--data.name_column", "name", "--data.label_column", "kind", "--data.batch_size", "64"]
    options = ["--trainer.default_root_dir", str(place), "--run", "run", "--model.n_hidden", "24"]
    with pytest.raises(SystemExit) as end:
        main(["fit", "--data.path", str(place / "list.csv"), *columns, *options, *QUICK])
    assert end.value.code == 0
    return place / "run"


@pytest.fixture(scope="session")
def makemore_names() -> list[str]:
    """The lectures' list, where it is available without a download."""
    if not os.environ.get("MAKEMORE_DATA_DIR"):
        pytest.skip(
            "the makemore list is not available: set MAKEMORE_DATA_DIR to a folder with its names.txt"
        )
    try:
        return find_list("makemore").names()
    except DataError as error:
        pytest.skip(f"the makemore list is not available: {error}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium as the system has it, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox is not available to root, as whom containers run.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
