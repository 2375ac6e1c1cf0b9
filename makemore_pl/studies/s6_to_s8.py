"""S6 to S8: networks opened up. Folding, signs of health, and gradients."""

from dataclasses import replace

from makemore_pl.inspect.findings import UPDATE_GUIDE
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.proof.logits import FLOAT64, float32_tolerance
from makemore_pl.studies import recipes
from makemore_pl.studies.backward import (
    autograd_steps,
    backward_steps,
    batch_norm_backward,
    compare,
    cross_entropy_backward,
    forward_steps,
)
from makemore_pl.studies.fold_comparison import compare_folded, inference_seconds
from makemore_pl.studies.sgd import advance_watched
from makemore_pl.studies.tables import Outcome, Row, Table, figure
from makemore_pl.studies.workbench import Workbench

CLOSE = 0.01


def study_s6(bench: Workbench) -> Outcome:
    """Three BatchNorms folded, and what they cost in use."""
    model = bench.train("S6", recipes.S6).model.eval()
    found = compare_folded(model)
    dropped = found["dropped"]
    float32 = float32_tolerance(FoldedWeights.from_layers(fold(model.layers)))
    rows = [
        _equal("S6", "folded, float64: largest difference of a logit", found["folded"], FLOAT64),
        _equal("S6", "folded, float32: the same", found["float32"], float32),
        _equal("S6", "fused by PyTorch, float64: the same", found["fused"], FLOAT64),
        Row("S6", "BatchNorm dropped, nothing folded", "differs", f"{dropped:.1f}", dropped > 1),
    ]
    table = Table("folding", ["batch", "with BatchNorm, µs", "folded, µs", "ratio"])
    for batch_size in (1, 32, 1_000):
        before, after = inference_seconds(model, batch_size)
        table.rows.append(
            [f"{batch_size:,}", f"{before * 1e6:,.0f}", f"{after * 1e6:,.0f}", f"{before / after:.2f}"]
        )
    return Outcome(rows, [table])


def study_s7(bench: Workbench) -> Outcome:
    """The health of S3 after its first 1,000 steps."""
    run = recipes.S3.start(bench.examples)
    *_, last = advance_watched(run, bench.steps_of(recipes.S3))
    snapshot = take_snapshot(run.model, *run.draw_batch())
    saturated = max(snapshot.of(tanh, "saturated") for tanh in snapshot.at_ends)
    dead = sum(int(at_ends.all(axis=0).sum()) for at_ends in snapshot.at_ends.values())
    hidden = [last.figures[f"linear_{i}.weight/log10_update_to_data"] for i in range(1, 6)]
    what = "S3's hidden layers: log10 update / data, farthest"
    farthest = max(hidden, key=lambda ratio: abs(ratio - UPDATE_GUIDE))
    rows = [
        Row("S7", "S3's worst layer: saturated", "few", f"{saturated:.1%}", saturated < 0.05),
        Row("S7", "S3's dead units", "none", str(dead), dead == 0),
        # Near 10^-3 is an order of magnitude.
        figure("S7", what, UPDATE_GUIDE, farthest, 1, digits=1),
    ]
    return Outcome(rows)


def study_s8(bench: Workbench) -> Outcome:
    """The backward pass by hand: every gradient of the first batch, and a training run on such gradients."""
    start = recipes.S8.start(bench.examples)
    batch = start.draw_batch()
    s = forward_steps(start.model, *batch)
    d, by_autograd = backward_steps(start.model, s, *batch), autograd_steps(start.model, s)
    comparisons = compare(d, by_autograd)
    short = {
        "logits": cross_entropy_backward(s.logits, batch[1]),
        "preactivation": batch_norm_backward(d["scaled"], s.normalised, s.inverse_std, start.model.gain),
    }
    table = Table("gradients", ["gradient of", "equal exactly", "close", "largest difference"])
    short_comparisons = [
        replace(found, name=f"{found.name}, in one expression") for found in compare(short, by_autograd)
    ]
    for found in (*comparisons, *short_comparisons):
        marks = ("yes" if mark else "" for mark in (found.exact, found.close))
        table.rows.append([found.name, *marks, f"{found.largest:.1e}"])
    close = sum(found.close for found in (*comparisons, *short_comparisons))
    logits = short_comparisons[0].largest
    size = sum(parameter.numel() for parameter in start.parameters)
    run = bench.train("S8", recipes.S8)
    run.model.calibrate(bench.examples["train"][0])
    rows = [
        figure("S8", "parameters", 12_297, size, 0, 0),
        figure("S8", "gradients close to autograd's, short forms among them", 28, close, 0, 0),
        Row("S8", "logits in one expression: largest difference", "6e-09", f"{logits:.0e}", logits < 1e-8),
        *(
            figure("S8", f"{split}, trained by hand", printed, run.evaluate(bench.examples[split]), CLOSE)
            for split, printed in (("train", 2.0668), ("dev", 2.1048))
        ),
    ]
    return Outcome(rows, [table])


def _equal(system: str, what: str, difference: float, tolerance: float) -> Row:
    """Two computations that should give the same."""
    return Row(system, what, "equal", f"{difference:.1e}", difference <= tolerance, difference, tolerance)
