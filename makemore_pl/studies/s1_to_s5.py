"""S1 to S5: networks trained, from their start to their end, beside the printed figures."""

import copy
import json
import math
import statistics
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator

from makemore_pl.data.batches import Windows
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies import recipes
from makemore_pl.studies.ngrams import ngram_nll, ngram_probabilities
from makemore_pl.studies.recipes import BLOCK_SIZE, LADDER, VOCAB_SIZE, Recipe
from makemore_pl.studies.sgd import LECTURE_SEED, sweep_learning_rate
from makemore_pl.studies.tables import Outcome, Row, Table, figure
from makemore_pl.studies.workbench import Study, Workbench

EXACT = 1e-4
CLOSE = 0.01
EARLY = 2_001
"""Steps after which S4's notebook was stopped."""


def study_s1(bench: Workbench) -> Outcome:
    """The MLP of Bengio et al.: ten steps on five names, the learning rate, 30,000 steps."""
    printed = [17.7697, 13.6564, 11.2988, 9.4525, 7.9843, 6.8913, 6.1000, 5.4520, 4.8982, 4.4147]
    few = recipes.S1.start(bench.examples)
    for _ in printed:
        few.step_on(*bench.examples["five names"])
    rows = [
        figure("S1", f"five names, loss at step {step}", expected, loss, EXACT)
        for step, (expected, loss) in enumerate(zip(printed, few.losses, strict=True))
    ]
    sweep = sweep_learning_rate(recipes.S1.start(bench.examples))
    best, rise = math.log10(sweep.suggestion), sweep.smoothed[-1] / sweep.smoothed.min()
    rows.append(figure("S1", "sweep, log10 of the best learning rate", -1, best, 0.25, digits=2))
    rows.append(Row("S1", "sweep, beyond it", "explodes", f"{rise:.1f} × the lowest loss", bool(rise > 1.5)))
    nll = bench.train("S1", recipes.S1).evaluate(bench.examples["all"])
    rows.append(figure("S1", "all names", 2.3457, nll, 0.03))
    return Outcome(rows, [_start_table("S1", recipes.S1, bench)])


def study_rung(name: str, train: float, dev: float, tolerance: float = CLOSE, digits: int = 4) -> Study:
    """The study of one rung of the initialisation ladder, S2, with what was printed for it."""

    def study(bench: Workbench) -> Outcome:
        run = bench.train(name, LADDER[name])
        rows = [
            figure(name, split, printed, run.evaluate(bench.examples[split]), tolerance, digits)
            for split, printed in (("train", train), ("dev", dev))
        ]
        return Outcome(rows, [_start_table(name, LADDER[name], bench)])

    return study


def study_s2a(bench: Workbench) -> Outcome:
    """The ladder's foot, of which the first loss was printed, too."""
    outcome = study_rung("S2a", 2.1245, 2.1682)(bench)
    first = bench.train("S2a", LADDER["S2a"]).losses[0]
    outcome.rows.append(figure("S2a", "loss at step 0", 27.88, first, CLOSE, digits=2))
    return outcome


def study_s2e(bench: Workbench) -> Outcome:
    """The ladder's top twice: from PyTorch's layers, and from the lectures' tensors."""
    outcome = study_rung("S2e", 2.0668, 2.1048)(bench)
    raw = bench.train("S2e-raw", recipes.S2E_RAW)
    for split, printed in (("train", 2.0668), ("dev", 2.1048)):
        ours = raw.evaluate(bench.examples[split])
        outcome.rows.append(figure("S2e", f"{split}, from raw tensors", printed, ours, CLOSE))
    return outcome


def study_s3(bench: Workbench) -> Outcome:
    """The deep network: its size. S7 looks inside it."""
    model = recipes.S3.start(bench.examples).model
    rows = [figure("S3", "parameters", 47_024, model.n_parameters, 0, 0)]
    return Outcome(rows, [_start_table("S3", recipes.S3, bench)])


def study_s4(bench: Workbench) -> Outcome:
    """The network of the default configuration, stopped where the notebook was, and trained to the end."""
    early = bench.train("S4", recipes.S4, EARLY)
    rows = [
        figure("S4", "parameters", 12_097, early.model.n_parameters, 0, 0),
        figure("S4", "loss at step 0", 3.31, early.losses[0], CLOSE, digits=2),
    ]
    gain_1 = replace(recipes.S4, options={**recipes.S4.options, "hidden_gain": 1.0}).start(bench.examples)
    others = [recipes.S4.start(bench.examples, seed) for seed in range(8)]
    for other in (gain_1, *others):
        other.advance(early.step)
    for split, printed in (("train", 2.3725), ("dev", 2.3664)):
        examples = bench.examples[split]
        ours = _nll_of_one_batch(early.model, examples)
        rows.append(figure("S4", f"{split} after 2,001 steps", printed, ours, CLOSE))
        values = [_nll_of_one_batch(other.model, examples) for other in others]
        spread = f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        rows.append(Row("S4", f"{split}, mean ± deviation of 8 other seeds", "not printed", spread, None))
        other_gain = f"{_nll_of_one_batch(gain_1.model, examples):.4f}"
        rows.append(Row("S4", f"{split}, with a hidden gain of 1", "not printed", other_gain, None))
    run = bench.train("S4", recipes.S4)
    figures = [f"{run.evaluate(bench.examples[split]):.4f}" for split in ("train", "dev")]
    rows.append(Row("S4", "train / dev at the end", "not printed", " / ".join(figures), None))
    names = sample_one_by_one(run.model, 5)
    rows.append(Row("S4", "names, from batches of one", "crashed", ", ".join(names), len(names) == 5))
    return Outcome(rows, [_start_table("S4", recipes.S4, bench)])


@torch.no_grad()
def _nll_of_one_batch(model: BatchNormMLP, examples: Windows) -> float:
    """NLL with the statistics of all examples as one batch, and the running ones left as they are.

    The notebook's BatchNorm was still in training mode when its names crashed, so it was for its figures.
    """
    network = copy.deepcopy(model).train()
    return F.cross_entropy(network(examples[0]), examples[1]).item()


def study_s5(bench: Workbench) -> Outcome:
    """All weights zero: what moves, why, and where it ends."""
    dev = bench.examples["dev"]
    start = recipes.S5.start(bench.examples)
    two_steps = []
    for seed in (LECTURE_SEED, *range(8)):
        short = recipes.S5.start(bench.examples, seed)
        short.advance(2)
        two_steps.append(short.evaluate(dev))
    run = bench.train("S5", recipes.S5)
    batch = start.draw_batch()
    table = Table(
        "zero", ["parameter", "numbers", "largest gradient at step 0", "at the end", "largest change"]
    )
    moved = []
    for (name, before), after, first, last in zip(
        start.model.named_parameters(),
        run.parameters,
        start.gradients(*batch)[1],
        run.gradients(*batch)[1],
        strict=True,
    ):
        change = (after - before).abs().max().item()
        if change > 0:
            moved.append(name.removeprefix("layers."))
        gradients = (f"{gradient.abs().max().item():.3g}" for gradient in (first, last))
        table.rows.append([name.removeprefix("layers."), f"{before.numel():,}", *gradients, f"{change:.3g}"])
    unigrams = ngram_probabilities(bench.examples["train"], n_context=0, vocab_size=VOCAB_SIZE)
    floor = ngram_nll(unigrams, dev)
    spread = f"{min(two_steps[1:]):.4f} … {max(two_steps[1:]):.4f}"
    rows = [
        figure("S5", "parameters", 46_497, start.model.n_parameters, 0, 0),
        Row("S5", "what ever moves", "output.bias", ", ".join(moved), moved == ["output.bias"]),
        figure("S5", "dev after 2 steps", 3.2870, two_steps[0], CLOSE),
        Row("S5", "dev after 2 steps, 8 other seeds", "not printed", spread, None),
        figure("S5", "dev at the end, beside unigram counts", floor, run.evaluate(dev), CLOSE),
    ]
    return Outcome(rows, [_start_table("S5", recipes.S5, bench), table])


def _start_table(name: str, recipe: Recipe, bench: Workbench) -> Table:
    """A line on the start of a network: options, the loss to expect, the loss, and saturation."""
    start = recipe.start(bench.examples)
    snapshot = take_snapshot(start.model, *(batch := start.draw_batch()))
    loss = start.gradients(*batch)[0].item()
    saturated = statistics.mean(snapshot.of(tanh, "saturated") for tanh in snapshot.at_ends)
    options = ", ".join(
        f"{option}: {round(value, 4) if isinstance(value, float) else json.dumps(value)}"
        for option, value in recipe.options.items()
    )
    columns = ["system", "options of the model", "ln V", "loss at step 0", "tanh saturated"]
    line = [name, f"`{options}`", f"{math.log(VOCAB_SIZE):.4f}", f"{loss:.4f}", f"{saturated:.1%}"]
    return Table("start", columns, [line])


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
