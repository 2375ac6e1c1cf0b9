"""The folder that `makemore page` writes: whole or not at all, and nothing of a list's in its HTML."""

import base64
import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from helpers import EVIL, RunCommand

from makemore_pl import Sampler
from makemore_pl.errors import ModelFileError, RequestError
from makemore_pl.exported.metadata import ModelInfo
from makemore_pl.page import web_runtime as web_runtime_module
from makemore_pl.page.page_folder import INDEX, write_page
from makemore_pl.page.web_runtime import CDN, INTEGRITY, SCRIPT, WASM

OWN = {"page.css", "page.js", "pcg64.js", "sampler.js", "settings.js", "icon.svg"}
FILES = OWN | {INDEX, "model.json", "sampler.onnx"}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def policy(folder: Path) -> dict[str, str]:
    """Directives of the page's content security policy."""
    [text] = re.findall(r'Content-Security-Policy" content="([^"]*)"', (folder / INDEX).read_text())
    return dict(directive.split(" ", 1) for directive in text.split("; "))


@pytest.fixture
def false_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for the npm package: small files whose hashes pass for the right ones."""
    dist = tmp_path / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name in (SCRIPT, WASM):
        (dist / name).write_text(name)
        monkeypatch.setitem(INTEGRITY, name, web_runtime_module.integrity(name.encode()))
    return dist.parent


def test_command_writes_all_of_the_page(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder.parents[1])  # the newest export
    result = makemore("page", "-o", tmp_path / "a" / "page")
    assert (result.code, result.out) == (0, f"{tmp_path / 'a' / 'page'}\n")
    written = contents(tmp_path / "a" / "page")
    assert set(written) == FILES
    assert written["sampler.onnx"] == (run_folder / "sampler.onnx").read_bytes()
    assert written["model.json"] == (run_folder / "model.json").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["page"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a" / "page").stat().st_mode & 0o777 == 0o777 & ~umask  # a server's user may read it


def test_model_json_holds_the_metadata_of_the_sampler(run_folder: Path) -> None:
    held = json.loads((run_folder / "model.json").read_text(encoding="utf-8"))
    assert held == asdict(Sampler(run_folder).info)
    assert held["verification"]["passed"] is True


def test_model_json_has_null_for_what_is_no_number() -> None:
    info = ModelInfo("a", 1, 1, 1, 1, 1, "mlp", 1, "l", "0", "0", {}, {"bound": float("inf")})
    assert json.loads(info.to_json(), parse_constant=pytest.fail)["verification"] == {"bound": None}


def test_addresses_change_with_any_file_and_hashes_are_those_of_the_files(
    run_folder: Path, evil_export: Path, tmp_path: Path
) -> None:
    pages = [write_page(model, tmp_path / model.name) for model in (run_folder, evil_export)]
    versions = []
    for page in pages:
        html = (page / INDEX).read_text()
        [version] = set(re.findall(r"\?v=(\w+)", html + (page / "page.js").read_text()))
        versions.append(version)
        assert all(
            f'"./{name}?v={version}"' in (page / "page.js").read_text()
            for name in ("sampler.js", "settings.js")
        )
        for name in ("model", "sampler"):
            [sha] = re.findall(f'data-{name}-integrity="sha384-([^"]+)"', html)
            [address] = re.findall(f'data-{name}="([^"?]+)', html)
            assert base64.b64decode(sha) == hashlib.sha384((page / address).read_bytes()).digest()
    assert versions[0] != versions[1]
    again = write_page(run_folder, tmp_path / "again")
    assert contents(again) == contents(pages[0])


def test_nothing_of_a_list_is_in_the_html(evil_export: Path, tmp_path: Path) -> None:
    html = (write_page(evil_export, tmp_path / "page") / INDEX).read_text()
    assert EVIL not in html
    assert "alert(" not in html
    assert html.count("<script ") == html.count("<script") == 2  # each has a source
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)


def test_the_cdn_is_named_file_by_file(run_folder: Path, tmp_path: Path) -> None:
    page = write_page(run_folder, tmp_path / "page")
    assert policy(page) == {
        "default-src": "'none'",
        "script-src": f"'self' 'wasm-unsafe-eval' {CDN}{SCRIPT}",
        "connect-src": f"'self' {CDN}{WASM}",
        "style-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    html = (page / INDEX).read_text()
    assert f'src="{CDN}{SCRIPT}" integrity="{INTEGRITY[SCRIPT]}"' in html
    assert f'data-wasm="{CDN}{WASM}" data-wasm-integrity="{INTEGRITY[WASM]}"' in html


@pytest.mark.parametrize("inside", ["", "dist"])
def test_with_a_runtime_no_other_address_is_named(
    run_folder: Path, tmp_path: Path, false_runtime: Path, inside: str
) -> None:
    page = write_page(run_folder, tmp_path / "page", false_runtime / inside)
    assert set(contents(page)) == FILES | {SCRIPT, WASM}
    assert policy(page)["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy(page)["connect-src"] == "'self'"
    texts = [file.read_text() for file in page.iterdir() if file.name in {*OWN, INDEX} - {"icon.svg"}]
    assert not [text for text in texts if "http://" in text or "https://" in text]


def test_hashes_are_those_of_the_package(web_runtime: Path) -> None:
    for name, sha in INTEGRITY.items():
        assert web_runtime_module.integrity((web_runtime / name).read_bytes()) == sha


def test_another_runtime_is_refused(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, false_runtime: Path
) -> None:
    def fails(runtime: Path, message: str) -> None:
        makemore("page", run_folder, "-o", tmp_path / "page", "--runtime", runtime).fails_with(message)
        assert not (tmp_path / "page").exists()

    fails(tmp_path / "nowhere", f"there is no {tmp_path / 'nowhere' / SCRIPT}")
    (false_runtime / "dist" / WASM).write_text("another")
    fails(false_runtime, "is another version's, or has been changed")
    (false_runtime / "dist" / WASM).unlink()
    (false_runtime / "dist" / WASM).mkdir()
    fails(false_runtime, f"there is no {false_runtime / 'dist' / WASM}")


def test_what_lies_in_a_folder_stays(makemore: RunCommand, run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text("mine")
    (tmp_path / "other").write_text("also mine")
    makemore("page", run_folder, "-o", tmp_path).fails_with(
        f"{tmp_path} is not empty; choose another folder, or add --overwrite"
    )
    assert contents(tmp_path) == {"page.js": b"mine", "other": b"also mine"}
    makemore("page", run_folder, "-o", tmp_path, "--overwrite").succeeds()
    assert set(contents(tmp_path)) == FILES | {"other"}
    assert (tmp_path / "other").read_text() == "also mine"
    assert (tmp_path / "page.js").read_text() != "mine"
    makemore("page", run_folder, "-o", tmp_path / "other").fails_with("is a file; a folder is needed")


@pytest.mark.parametrize("existing", [None, "empty", "earlier"])
@pytest.mark.parametrize("failing", ["index.html", "page.css", "sampler.onnx"])
def test_a_page_that_cannot_be_written_leaves_nothing(
    run_folder: Path,
    evil_export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: str | None,
    failing: str,
) -> None:
    folder = tmp_path / "page"
    if existing == "empty":
        folder.mkdir()
    elif existing == "earlier":
        write_page(evil_export, folder)
    before = contents(folder) if existing else None
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target) == folder / failing or (not existing and Path(target).name == failing):
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RequestError, match="No space left"):
        write_page(run_folder, folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == (["page"] if existing else [])
    if existing:
        assert contents(folder) == before


def test_an_old_index_never_names_new_files_while_they_are_moved(
    run_folder: Path, evil_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is moved into place last: who is killed before leaves the earlier one, or none."""
    moved = []
    replace = Path.replace
    write_page(evil_export, tmp_path / "page")

    def recorded(path: Path, target: Path) -> Path:
        if Path(target).parent == tmp_path / "page":
            moved.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", recorded)
    write_page(run_folder, tmp_path / "page", overwrite=True)
    assert set(moved) == FILES
    assert moved[-1] == INDEX


def test_a_file_that_makes_no_names_is_refused(run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "model.onnx", tmp_path)
    for model in (tmp_path, run_folder / "model.onnx"):
        with pytest.raises(
            ModelFileError, match=r"gives no names but logits; sampler\.onnx of the same export"
        ):
            write_page(model, tmp_path / "page")
    (tmp_path / "damaged.onnx").write_bytes((run_folder / "sampler.onnx").read_bytes()[:5_000])
    with pytest.raises(ModelFileError, match="not a readable ONNX model"):
        write_page(tmp_path / "damaged.onnx", tmp_path / "page")
    assert not (tmp_path / "page").exists()
