"""The runtime half stands on its own: NumPy and ONNX Runtime, nothing of the training half."""

import ast
import os
import subprocess
import sys
import venv
from functools import partial
from pathlib import Path

import pytest
from helpers import ROOT, in_a_process

PACKAGE = ROOT / "makemore_pl"
TRAINING_PACKAGES = {
    "torch",
    "lightning",
    "torchmetrics",
    "jsonargparse",
    "onnx",
    "onnxscript",
    "rich",
    "yaml",
}


def imported_modules(code: str) -> set[str]:
    """Top-level names of all modules loaded by `code`, in a fresh interpreter."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = in_a_process(sys.executable, "-c", script).succeeds()
    return {line.partition(".")[0] for line in done.err.split()}


@pytest.mark.parametrize("command", ["sample", "score", "info"])
def test_runtime_commands_never_import_the_training_half(run_folder: Path, command: str) -> None:
    names = run_folder / "config.yaml" if command == "score" else ""
    code = (
        "from makemore_pl.cli import main\n"
        f"try: main([a for a in ['{command}', '{run_folder}', '{names}'] if a])\n"
        "except SystemExit as end: assert end.code == 0, end.code"
    )
    modules = imported_modules(code)
    assert "onnxruntime" in modules
    assert not modules & TRAINING_PACKAGES


def test_names_without_a_wish_load_nothing_of_wishes(run_folder: Path) -> None:
    code = (
        "import sys; from makemore_pl import Sampler\n"
        f"Sampler({str(run_folder)!r}).sample(3, prefix='a', min_length=3)\n"
        "assert not [name for name in sys.modules if name.startswith('makemore_pl.wishes')]"
    )
    assert "numpy" in imported_modules(code)


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert not imported_modules("import makemore_pl") & (TRAINING_PACKAGES | {"numpy", "onnxruntime"})


def test_runtime_sources_import_nothing_of_the_training_half() -> None:
    for file in [*PACKAGE.glob("*.py"), *PACKAGE.glob("runtime/*.py"), *PACKAGE.glob("wishes/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {module.partition(".")[0] for module in modules} & TRAINING_PACKAGES, file


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the project and no extra."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", ROOT]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return python


@pytest.mark.slow
def test_bare_installation_samples_and_brings_only_what_it_imports(
    bare_environment: Path, run_folder: Path, tmp_path: Path
) -> None:
    makemore = bare_environment.parent / "makemore"

    run = partial(in_a_process, makemore, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    result = run("sample", run_folder / "model.onnx", "-n", 20, "--seed", 1).succeeds()
    assert len(result.out.splitlines()) == 20
    run("info", run_folder).succeeds()

    listing = in_a_process(bare_environment, "-m", "pip", "list", "--format", "freeze").succeeds()
    installed = {line.partition("==")[0].lower().replace("_", "-") for line in listing.out.split()}
    assert {"numpy", "onnxruntime", "makemore-pl"} <= installed
    assert not installed & {"torch", "lightning", "onnx", "jsonargparse", "rich", "matplotlib"}

    result = run("fit")
    assert result.code == 2
    assert result.err.strip().endswith("pip install -e '.[train]'")
