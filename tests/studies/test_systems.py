"""S1 to S5 and S7 in short form, on the lectures' list where it is available."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies import recipes
from makemore_pl.studies.recipes import Examples, lecture_examples
from makemore_pl.studies.sgd import LECTURE_SEED
from makemore_pl.studies.systems import EARLY, STUDIES, sample_one_by_one
from makemore_pl.studies.tables import Row, Table
from makemore_pl.studies.workbench import Workbench


@pytest.fixture(scope="module")
def examples(makemore_names: list[str]) -> Examples:
    return lecture_examples()


@pytest.fixture
def bench(examples: Examples, tmp_path: Path) -> Workbench:
    return Workbench(examples, tmp_path, max_steps=30)


def study(name: str, bench: Workbench) -> tuple[list[Row], list[Table]]:
    """Its rows, and its tables."""
    parts = list(STUDIES[name](bench))
    return [x for x in parts if isinstance(x, Row)], [x for x in parts if isinstance(x, Table)]


def row(rows: list[Row], what: str) -> Row:
    [found] = [row for row in rows if what in row.what]
    return found


def test_the_lectures_split(examples: Examples) -> None:
    sizes = {name: len(targets) for name, (_, targets) in examples.items()}
    assert sizes == {"train": 182_625, "dev": 22_655, "test": 22_866, "five names": 32, "all": 228_146}


def test_s1_ten_losses_and_the_learning_rate(bench: Workbench) -> None:
    rows, _ = study("S1", bench)
    exact = [row for row in rows if "five names" in row.what]
    assert len(exact) == 10
    assert all(row.within and row.tolerance == 1e-4 for row in exact)
    assert row(rows, "best learning rate").within
    assert row(rows, "beyond it").found.endswith("× the lowest loss")
    assert not row(rows, "all names").within  # 30 steps are not 30,000: the comparison can fail


def test_first_losses_of_the_ladder(bench: Workbench) -> None:
    """The foot of the ladder is confidently wrong; every other rung starts near ln V."""
    outcomes = {name: study(name, bench) for name in ("S2a", "S2b", "S2c", "S2d", "S2e")}
    assert row(outcomes["S2a"][0], "step 0").within
    starts = {name: tables[0].rows[0] for name, (_, tables) in outcomes.items()}
    losses = {name: float(line[3]) for name, line in starts.items()}
    assert losses.pop("S2a") > 27
    assert all(loss == pytest.approx(3.2958, abs=0.03) for loss in losses.values())
    saturated = {name: float(line[4].rstrip("%")) for name, line in starts.items()}
    assert saturated["S2a"] == saturated["S2b"] > 60
    assert max(saturated["S2c"], saturated["S2e"]) < 5 < saturated["S2d"] < 20
    # From raw tensors and from layers: the same start, and after 30 steps still about the same.
    layers, raw = ([row for row in outcomes["S2e"][0] if ("raw" in row.what) is is_raw] for is_raw in (0, 1))
    for one, other in zip(layers, raw, strict=True):
        assert float(one.found) == pytest.approx(float(other.found), abs=0.01)


def test_s4_names_come_from_batches_of_one(bench: Workbench) -> None:
    bench.examples = {**bench.examples, "train": bench.examples["dev"]}  # for speed
    rows, _ = study("S4", bench)
    assert row(rows, "parameters").within
    assert row(rows, "batches of one").within
    # The figures are the notebook's: BatchNorm in training mode, a whole split as one batch.
    model = bench.train("S4", recipes.S4, EARLY).model.train()
    contexts, targets = bench.examples["dev"]
    loss = F.cross_entropy(model(contexts), targets).item()
    assert row(rows, "dev after").found == f"{loss:.4f}"


def test_sampling_does_not_care_for_the_mode_that_a_model_was_left_in() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=0)
    names = sample_one_by_one(model.train(), 5)
    assert len(names) == 5
    assert names == sample_one_by_one(model.eval(), 5)


def test_s5_only_the_output_bias_moves(bench: Workbench) -> None:
    rows, tables = study("S5", bench)
    assert row(rows, "what ever moves").found == "output.bias"
    assert row(rows, "parameters").within
    [table] = [table for table in tables if table.name == "zero"]
    assert len(table.rows) == 13
    assert [line[0] for line in table.rows if line[4] != "0"] == ["output.bias"]
    # By hand: the gradient of the output bias is the mean of softmax - one_hot, at the start 1/27 - one_hot.
    start = recipes.S5.start(bench.examples, LECTURE_SEED)
    contexts, targets = start.draw_batch()
    _, gradients = start.gradients(contexts, targets)
    expected = 1 / 27 - torch.bincount(targets, minlength=27) / 32
    assert torch.allclose(gradients[-1], expected, atol=1e-7)
    assert all(gradient.abs().max() == 0 for gradient in gradients[:-1])


def test_s7_looks_into_the_deep_network(bench: Workbench) -> None:
    rows, _ = study("S7", bench)
    assert all(row.within for row in rows)
    assert row(rows, "dead units").found == "0"
    assert float(row(rows, "farthest").found) < -1
