"""`sampler.onnx` under onnxruntime-web: the names that a browser would show."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from makemore_pl.runtime.decoding import Decoding
from makemore_pl.runtime.engines import open_engine
from makemore_pl.runtime.ways import to_text

ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node.js finds onnxruntime-web."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed: onnxruntime-web cannot be run")
    folder = tmp_path_factory.mktemp("web")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", ONNXRUNTIME_WEB]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {ONNXRUNTIME_WEB}: {done.stderr.strip()[:200]}")
    return folder


@pytest.mark.slow
def test_same_uniforms_same_names_as_in_python(node_folder: Path, run_folder: Path) -> None:
    uniforms = np.random.default_rng(3).random((300, 30), dtype=np.float32)
    uniforms.astype("<f4").tofile(node_folder / "uniforms")
    command = ["node", ROOT / "scripts" / "web_names.mjs", run_folder / "sampler.onnx", "300", "uniforms"]
    done = subprocess.run([str(c) for c in command], cwd=node_folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    engine = open_engine(run_folder / "sampler.onnx")
    codepoints, _ = engine.generate(uniforms, np.array([], dtype=np.int64), Decoding())
    assert done.stdout.splitlines() == to_text(codepoints)
