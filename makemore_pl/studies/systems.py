"""The systems of the makemore lectures, S1 to S8, trained or taken apart, beside what was printed."""

import copy
import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator

from makemore_pl.data.batches import Windows
from makemore_pl.inspect.findings import UPDATE_GUIDE
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.logits import FLOAT64, float32_tolerance
from makemore_pl.studies import backward, recipes
from makemore_pl.studies.fold_comparison import compare_folded, inference_seconds
from makemore_pl.studies.ngrams import counting_nll
from makemore_pl.studies.recipes import BLOCK_SIZE, LADDER, VOCAB_SIZE, Recipe
from makemore_pl.studies.sgd import LECTURE_SEED, advance_watched, sweep_learning_rate
from makemore_pl.studies.tables import Row, Table, figure
from makemore_pl.studies.workbench import Workbench

Study = Callable[[Workbench], Iterator[Row | Table]]
"""Trains a system, or takes one apart: rows of the one table, and tables of its own."""

EXACT = 1e-4
CLOSE = 0.01
FIVE_NAMES = (17.7697, 13.6564, 11.2988, 9.4525, 7.9843, 6.8913, 6.1000, 5.4520, 4.8982, 4.4147)
"""S1's losses in ten steps on the first five names."""
EARLY = 2_001
"""Steps after which S4's notebook was stopped."""


def study_s1(bench: Workbench) -> Iterator[Row | Table]:
    """The MLP of Bengio et al.: ten steps on five names, the learning rate, 30,000 steps."""
    few = recipes.S1.start(bench.examples)
    for step, expected in enumerate(FIVE_NAMES):
        few.step_on(*bench.examples["five names"])
        yield figure(f"five names, loss at step {step}", expected, few.losses[-1], EXACT)
    sweep = sweep_learning_rate(recipes.S1.start(bench.examples))
    best, rise = math.log10(sweep.middle), sweep.smoothed[-1] / sweep.smoothed.min()
    yield figure("sweep, log10 of the best learning rate", -1, best, 0.25, digits=2)
    yield Row("sweep, beyond it", "explodes", f"{rise:.1f} × the lowest loss", bool(rise > 1.5))
    nll = bench.train("S1", recipes.S1).evaluate(bench.examples["all"])
    yield figure("all names", 2.3457, nll, 0.03)
    yield start_of("S1", recipes.S1, bench)


def study_rung(name: str, train: float, dev: float, tolerance: float = CLOSE, digits: int = 4) -> Study:
    """The study of one rung of the initialisation ladder, S2, with what was printed for it."""

    def study(bench: Workbench) -> Iterator[Row | Table]:
        run = bench.train(name, LADDER[name])
        for split, printed in (("train", train), ("dev", dev)):
            yield figure(split, printed, run.evaluate(bench.examples[split]), tolerance, digits)
        yield start_of(name, LADDER[name], bench)

    return study


def study_s2a(bench: Workbench) -> Iterator[Row | Table]:
    """The ladder's foot, of which the first loss was printed, too."""
    yield from study_rung("S2a", 2.1245, 2.1682)(bench)
    first = bench.train("S2a", LADDER["S2a"]).losses[0]
    yield figure("loss at step 0", 27.88, first, CLOSE, digits=2)


def study_s2e(bench: Workbench) -> Iterator[Row | Table]:
    """The ladder's top twice: from PyTorch's layers, and from the lectures' tensors."""
    yield from study_rung("S2e", 2.0668, 2.1048)(bench)
    raw = bench.train("S2e-raw", recipes.S2E_RAW)
    for split, printed in (("train", 2.0668), ("dev", 2.1048)):
        yield figure(f"{split}, from raw tensors", printed, raw.evaluate(bench.examples[split]), CLOSE)


def study_s3(bench: Workbench) -> Iterator[Row | Table]:
    """The deep network: its size. S7 looks inside it."""
    yield figure("parameters", 47_024, recipes.S3.start(bench.examples).model.n_parameters, 0, 0)
    yield start_of("S3", recipes.S3, bench)


def study_s4(bench: Workbench) -> Iterator[Row | Table]:
    """The network of S2e from modules, stopped where the notebook was, and trained to the end."""
    early = bench.train("S4", recipes.S4, EARLY)
    yield figure("parameters", 12_097, early.model.n_parameters, 0, 0)
    yield figure("loss at step 0", 3.31, early.losses[0], CLOSE, digits=2)
    gain_1 = replace(recipes.S4, options={**recipes.S4.options, "hidden_gain": 1.0}).start(bench.examples)
    others = [recipes.S4.start(bench.examples, seed) for seed in range(8)]
    for other in (gain_1, *others):
        other.advance(early.step)
    for split, printed in (("train", 2.3725), ("dev", 2.3664)):
        examples = bench.examples[split]
        yield figure(f"{split} after 2,001 steps", printed, nll_of_one_batch(early.model, examples), CLOSE)
        values = [nll_of_one_batch(other.model, examples) for other in others]
        spread = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        yield Row(f"{split}, mean ± deviation of 8 other seeds", "not printed", spread)
        other_gain = f"{nll_of_one_batch(gain_1.model, examples):.4f}"
        yield Row(f"{split}, with a hidden gain of 1", "not printed", other_gain)
    run = bench.train("S4", recipes.S4)
    figures = [f"{run.evaluate(bench.examples[split]):.4f}" for split in ("train", "dev")]
    yield Row("train / dev at the end", "not printed", " / ".join(figures))
    names = sample_one_by_one(run.model, 5)
    yield Row("names, from batches of one", "crashed", ", ".join(names), len(names) == 5)
    yield start_of("S4", recipes.S4, bench)


def study_s5(bench: Workbench) -> Iterator[Row | Table]:
    """All weights zero: what moves, why, and where it ends."""
    dev = bench.examples["dev"]
    start = recipes.S5.start(bench.examples)
    yield figure("parameters", 46_497, start.model.n_parameters, 0, 0)
    run = bench.train("S5", recipes.S5)
    batch = start.draw_batch()
    names = [name.removeprefix("layers.") for name, _ in start.model.named_parameters()]
    first, last = (training.gradients(*batch)[1] for training in (start, run))
    changes = [after - before for before, after in zip(start.parameters, run.parameters, strict=True)]
    table = Table(
        "zero", ["parameter", "numbers", "largest gradient at step 0", "at the end", "largest change"]
    )
    for name, *tensors in zip(names, first, last, changes, strict=True):
        table.rows.append(
            [name, f"{tensors[0].numel():,}", *(f"{x.abs().max().item():.3g}" for x in tensors)]
        )
    moved = [name for name, change in zip(names, changes, strict=True) if change.any()]
    yield Row("what ever moves", "output.bias", ", ".join(moved), moved == ["output.bias"])
    two_steps = []
    for seed in (LECTURE_SEED, *range(8)):
        short = recipes.S5.start(bench.examples, seed)
        short.advance(2)
        two_steps.append(short.evaluate(dev))
    yield figure("dev after 2 steps", 3.2870, two_steps[0], CLOSE)
    spread = f"{min(two_steps[1:]):.4f} … {max(two_steps[1:]):.4f}"
    yield Row("dev after 2 steps, 8 other seeds", "not printed", spread)
    floor = counting_nll(bench.examples["train"], dev, n_context=0, vocab_size=VOCAB_SIZE)
    yield figure("dev at the end, beside unigram counts", floor, run.evaluate(dev), CLOSE)
    yield start_of("S5", recipes.S5, bench)
    yield table


def study_s6(bench: Workbench) -> Iterator[Row | Table]:
    """Three BatchNorms folded, and what they cost in use."""
    model = bench.train("S6", recipes.S6).model.eval()
    found = compare_folded(model)
    tolerance = float32_tolerance(FoldedWeights.from_layers(fold(model.layers)))
    for what, difference, allowed in (
        ("folded, float64: largest difference of a logit", found["folded"], FLOAT64),
        ("folded, float32: the same", found["float32"], tolerance),
        ("fused by PyTorch, float64: the same", found["fused"], FLOAT64),
    ):
        yield Row(what, "equal", f"{difference:.1e}", difference <= allowed, difference, allowed)
    dropped = found["dropped"]
    yield Row("BatchNorm dropped, nothing folded", "differs", f"{dropped:.1f}", dropped > 1)
    table = Table("folding", ["batch", "with BatchNorm, µs", "folded, µs", "ratio"])
    for size in (1, 32, 1_000):
        before, after = inference_seconds(model, size)
        microseconds = (f"{seconds * 1e6:,.0f}" for seconds in (before, after))
        table.rows.append([f"{size:,}", *microseconds, f"{before / after:.2f}"])
    yield table


def study_s7(bench: Workbench) -> Iterator[Row | Table]:
    """The health of S3 after its first 1,000 steps."""
    run = recipes.S3.start(bench.examples)
    *_, last = advance_watched(run, bench.steps_of(recipes.S3))
    snapshot = take_snapshot(run.model, *run.draw_batch())
    saturated = max(snapshot.of(tanh, "saturated") for tanh in snapshot.at_ends)
    yield Row("S3's worst layer: saturated", "few", f"{saturated:.1%}", saturated < 0.05)
    dead = sum(int(at_ends.all(axis=0).sum()) for at_ends in snapshot.at_ends.values())
    yield Row("S3's dead units", "none", str(dead), dead == 0)
    hidden = [last.figures[f"linear_{i}.weight/log10_update_to_data"] for i in range(1, 6)]
    farthest = max(hidden, key=lambda ratio: abs(ratio - UPDATE_GUIDE))
    # Near 10^-3 is an order of magnitude.
    yield figure("S3's hidden layers: log10 update / data, farthest", UPDATE_GUIDE, farthest, 1, digits=1)


def study_s8(bench: Workbench) -> Iterator[Row | Table]:
    """The backward pass by hand: every gradient of the first batch, and a training run on such gradients."""
    start = recipes.S8.start(bench.examples)
    batch = start.draw_batch()
    s = backward.forward_steps(start.model, *batch)
    d, by_autograd = backward.backward_steps(start.model, s, *batch), backward.autograd_steps(start.model, s)
    short = {
        "logits": backward.cross_entropy_backward(s.logits, batch[1]),
        "preactivation": backward.batch_norm_backward(
            d["scaled"], s.normalised, s.inverse_std, start.model.gain
        ),
    }
    in_short = [
        replace(found, name=f"{found.name}, in one expression")
        for found in backward.compare(short, by_autograd)
    ]
    comparisons = [*backward.compare(d, by_autograd), *in_short]
    table = Table("gradients", ["gradient of", "equal exactly", "close", "largest difference"])
    for found in comparisons:
        marks = ("yes" if mark else "" for mark in (found.exact, found.close))
        table.rows.append([found.name, *marks, f"{found.largest:.1e}"])
    yield figure("parameters", 12_297, sum(parameter.numel() for parameter in start.parameters), 0, 0)
    close = sum(found.close for found in comparisons)
    yield figure("gradients close to autograd's, short forms among them", 28, close, 0, 0)
    logits = in_short[0].largest
    yield Row("logits in one expression: largest difference", "6e-09", f"{logits:.0e}", logits < 1e-8)
    run = bench.train("S8", recipes.S8)
    run.model.calibrate(bench.examples["train"][0])
    for split, printed in (("train", 2.0668), ("dev", 2.1048)):
        yield figure(f"{split}, trained by hand", printed, run.evaluate(bench.examples[split]), CLOSE)
    yield table


def start_of(name: str, recipe: Recipe, bench: Workbench) -> Table:
    """A line on the start of a network: options, the loss to expect, the loss, and saturation."""
    start = recipe.start(bench.examples)
    snapshot = take_snapshot(start.model, *(batch := start.draw_batch()))
    loss = start.gradients(*batch)[0].item()
    saturated = statistics.mean(snapshot.of(tanh, "saturated") for tanh in snapshot.at_ends)
    options = ", ".join(
        f"{option}: {round(value, 4) if isinstance(value, float) else json.dumps(value)}"
        for option, value in recipe.options.items()
    )
    columns = ["system", "options of the model", "ln V", "loss of the first batch", "tanh saturated"]
    line = [name, f"`{options}`", f"{math.log(VOCAB_SIZE):.4f}", f"{loss:.4f}", f"{saturated:.1%}"]
    return Table("start", columns, [line])


@torch.no_grad()
def nll_of_one_batch(model: BatchNormMLP, examples: Windows) -> float:
    """NLL with the statistics of all examples as one batch, and the running ones left as they are.

    The notebook's BatchNorm was still in training mode when its names crashed, so it was for its figures.
    """
    network = copy.deepcopy(model).train()
    return F.cross_entropy(network(examples[0]), examples[1]).item()


@torch.no_grad()
def sample_one_by_one(model: BatchNormMLP, n: int) -> list[str]:
    """Names drawn one character at a time, each from a batch of one context.

    Folded first: a network without BatchNorm has no training mode to be left in.
    """
    generator = Generator().manual_seed(LECTURE_SEED)
    network = fold(model.eval().layers).float()
    names = []
    for _ in range(n):
        ids = [0] * BLOCK_SIZE
        while len(ids) == BLOCK_SIZE or ids[-1] != 0:
            probabilities = network(torch.tensor([ids[-BLOCK_SIZE:]])).softmax(1)  # (1, T) -> (1, V)
            ids.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        names.append("".join(chr(ord("a") + i - 1) for i in ids[BLOCK_SIZE:-1]))
    return names


STUDIES: dict[str, Study] = {
    "S1": study_s1,
    "S2a": study_s2a,
    "S2b": study_rung("S2b", 2.07, 2.13, digits=2),
    "S2c": study_rung("S2c", 2.0355966, 2.1026783, EXACT, digits=7),
    "S2d": study_rung("S2d", 2.0376642, 2.1069896, EXACT, digits=7),
    "S2e": study_s2e,
    "S3": study_s3,
    "S4": study_s4,
    "S5": study_s5,
    "S6": study_s6,
    "S7": study_s7,
    "S8": study_s8,
}
