"""What several test files share. conftest.py imports this file before any other."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

# Before PyTorch is imported, here and in processes that tests start: networks this small train fastest on one
# thread, and on a busy machine threads that wait for each other take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import lightning as L
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from makemore_pl.exported.metadata import Form, ModelInfo
from makemore_pl.graph.forms import build_model
from makemore_pl.inspect.step_table import StepRow
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes.automata import DEAD, Automaton

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
LETTERS = "abeijlmnorsvz"
"""Of `short_list`."""
LABELS = ["girl", "böy", "x, y"]
"""Of `labelled_run`. Sorted, the second is the first."""
EVIL = "<script>alert(1)</script>"
"""A name that must not become part of a page."""
BLOCK = re.compile(r"(?P<mark><!--[^>]*-->\n)?```(?P<language>bash|python)\n(?P<code>.*?)```", re.DOTALL)


@dataclass
class Result:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def succeeds(self) -> "Result":
        assert self.code == 0, self.err
        return self

    def fails_with(self, message: str, code: int = 2) -> "Result":
        """One line says why."""
        assert self.code == code, self.err
        assert_one_line_error(self.err, message)
        return self


RunCommand = Callable[..., Result]


def in_a_process(*command: object, **options: Any) -> Result:
    """Run a command as a process of its own, with options of `subprocess.run`."""
    shared = {"capture_output": True, "text": True, "encoding": "utf-8"}
    done = subprocess.run([str(part) for part in command], **{**shared, **options})
    return Result(done.returncode, done.stdout, done.stderr)


QUICK = (
    *("--trainer.max_epochs", "3"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
)
"""Options of a `fit` that takes a second."""


def assert_one_line_error(err: str, message: str) -> None:
    [line] = err.strip().splitlines()
    assert line.startswith("makemore: error: ")
    assert message in line


def trainer(**options: object) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **{**quiet, **options})  # type: ignore[arg-type]


def load(name: str) -> ModuleType:
    """A script as a module."""
    return import_file(SCRIPTS / f"{name}.py", name)


def import_file(file: Path, name: str) -> ModuleType:
    """A file as the module of that name."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


class Reproduce:
    """Runs the script in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module = load("reproduce")
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # would outlast the test

    def __call__(self, *args: object) -> int:
        """The exit code."""
        self.monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            self.module.main()
        return int(end.value.code or 0)


def open_graph(model: onnx.ModelProto) -> ort.InferenceSession:
    """A graph under ONNX Runtime's default options, in one thread."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def trained_like(model: BatchNormMLP, seed: int = 0) -> BatchNormMLP:
    """Weights, gains and running statistics as after training: none is 0 or 1, which would hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) * 3 + 0.1)
                if module.affine:
                    module.weight.copy_(torch.rand(module.num_features, generator=generator) * 2 + 0.2)
                    module.weight[::3] *= -1  # training may turn a gain's sign
                    module.bias.copy_(torch.randn(module.num_features, generator=generator))
    return model.eval()


def random_weights(
    vocab_size: int = 27,
    block_size: int = 3,
    n_embd: int = 6,
    hidden: Sequence[int] = (32,),
    boundary: float = 1.5,
    spread: float = 2.5,
    n_labels: int = 0,
) -> FoldedWeights:
    """A folded network; `boundary` is added to its logit and sets the length of names."""
    rng = np.random.default_rng(0)
    sizes = [(block_size + (n_labels > 0)) * n_embd, *hidden, vocab_size]
    linears = [
        (rng.standard_normal((b, a)) * spread / np.sqrt(a), rng.standard_normal(b) * 0.3)
        for a, b in itertools.pairwise(sizes)
    ]
    linears[-1][1][0] += boundary
    embedding = rng.standard_normal((vocab_size + n_labels, n_embd))
    return FoldedWeights(block_size, embedding, linears[:-1], linears[-1], n_labels)


def write_model(file: Path, characters: str, block_size: int, form: Form, **others: Any) -> Path:
    """A `model.onnx` of such a network; `others`: entries of its metadata."""
    weights = random_weights(len(characters) + 1, block_size, n_labels=len(others.get("labels", ())))
    model = build_model(weights, form)
    info = ModelInfo(characters, block_size, 6, 32, 1, 1, form, 9, "list", "0", "id", **others)
    onnx.helper.set_model_props(model, info.to_metadata())
    file.write_bytes(model.SerializeToString())
    return file


def random_batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts (n, 3) and targets (n,) over 27 characters."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(27, (n, 3), generator=generator), torch.randint(27, (n,), generator=generator)


def rows_with(figures: Callable[[int], dict[str, float]], n: int = 40) -> list[StepRow]:
    """Rows of `diagnostics.csv` of a healthy network, but for some figures of the i-th row."""
    healthy = {
        "tanh_1/dead": 0.0,
        "linear_1.weight/gradient_mean": 0.0,
        "linear_1.weight/gradient_std": 0.1,
        "linear_1.weight/gradient_to_data": 0.1,
        "linear_1.weight/log10_update_to_data": -3.0,
    }
    return [StepRow(10 * i, healthy | figures(i)) for i in range(n)]


def accepted(automaton: Automaton, vocabulary: Vocabulary, names: list[str]) -> list[str]:
    """The names that the automaton accepts, read id by id."""

    def accepts(name: str) -> bool:
        state = 0
        for i in vocabulary.encode(name):
            state = automaton.following[state, i]
            if state == DEAD:
                return False
        return bool(automaton.accepts[state])

    return [name for name in names if accepts(name)]


class Visit:
    """A page opened in the browser, and everything it complained of or asked the network for.

    Args:
        browser: Chromium.
        address: of the page.
        width: of the window, in pixels.
        route: a pattern of addresses, and what answers for them.
        options: others of the browser's context.
    """

    def __init__(
        self,
        browser: Any,
        address: str,
        width: int = 1280,
        route: tuple[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.tab.set_default_timeout(120_000)  # ms: a busy machine is no failure
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        if route is not None:
            self.tab.route(*route)
        self.tab.goto(address, wait_until="networkidle")
