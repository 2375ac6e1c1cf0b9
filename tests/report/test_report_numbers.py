"""The numbers of the report, and its pictures as SVG."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import EVIL

from makemore_pl.inspect.plot_style import panels_of, scientific, style
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.report import likelihoods as figures
from makemore_pl.report import page
from makemore_pl.report.characters import embedding_map, is_vowel, visible
from makemore_pl.report.likelihoods import look_inside
from makemore_pl.report.sampled_names import make_up
from makemore_pl.report.sources import Material
from makemore_pl.report.svg import LABEL_WIDTH, inline_svg, spread_out
from makemore_pl.scoring.scorer import Scorer
from makemore_pl.vocabulary import Vocabulary


def test_made_up_names_are_the_same_from_file_and_checkpoint(run_folder: Path) -> None:
    material = Material(run_folder / "best.ckpt")
    exported, share_new = make_up(material, seed=3)
    assert material.export is not None
    material.export = None
    stepwise, _ = make_up(material, seed=3)
    assert [name.name for name in exported] == [name.name for name in stepwise]
    assert [name.log_prob for name in exported] == pytest.approx(
        [name.log_prob for name in stepwise], abs=1e-3
    )
    scores = Scorer(run_folder).score([name.name for name in exported])
    longest = max(len(name.name) for name in exported)  # perhaps cut off, and without its end
    for name, score in zip(exported, scores, strict=True):
        if len(name.name) == longest:
            continue
        assert name.log_prob == pytest.approx(score.log_prob, abs=1e-3)
        assert name.perplexity == pytest.approx(score.perplexity, rel=1e-3)
    assert material.data is not None
    known = set(material.data.list.names())
    assert all(name.is_new == (name.name not in known) for name in exported)
    assert share_new is not None
    assert 0.5 < share_new <= 1


def test_embedding_map_is_the_embedding_or_its_principal_components() -> None:
    flat = BatchNormMLP(4, 2, n_embd=2, init_seed=1)
    found = embedding_map(flat, Vocabulary("a b"))
    assert found.variance is None
    assert found.points == pytest.approx(flat.layers.embedding.weight.detach().numpy())
    assert found.labels == ["■", "␣", "a", "b"]
    assert found.vowels == [False, False, True, False]
    line = BatchNormMLP(4, 2, n_embd=1, init_seed=1)
    assert embedding_map(line, Vocabulary("a b")).points[:, 1].tolist() == [0] * 4

    wide = BatchNormMLP(27, 2, n_embd=10, init_seed=1)
    found = embedding_map(wide, Vocabulary("abcdefghijklmnopqrstuvwxyz"))
    covariance = np.cov(wide.layers.embedding.weight.detach().numpy().astype(np.float64).T)
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    assert found.variance == pytest.approx(tuple(eigenvalues[:2] / eigenvalues.sum()), rel=1e-6)
    assert found.points.var(axis=0, ddof=1) == pytest.approx(eigenvalues[:2])


def test_labels_that_would_overlap_are_spread_out() -> None:
    crowd = np.random.default_rng(1).normal(scale=5, size=(30, 2))
    points = np.vstack([crowd, [[0, 0], [0, 0], [200, 0]]])  # two that are equal, and one that stands alone
    places = spread_out(points)
    distances = np.hypot(*np.moveaxis(places[:, None] - places[None], -1, 0))
    assert distances[~np.eye(len(points), dtype=bool)].min() >= LABEL_WIDTH
    assert places[-1] == pytest.approx(points[-1], abs=0.01)
    assert np.abs(places - points).max() < 100


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (scientific, {0: "0", 0.02: "0.02", -30: "−30", 2.5: "2.5", 7.14: "7.1"}),
        (scientific, {8.4e-5: "8.4×10⁻⁵", 1e-10: "10⁻¹⁰", -2e-4: "−2×10⁻⁴", 282e9: "2.8×10¹¹"}),
        (page.percent, {0: "0%", 0.001: "<1%", 0.006: "1%", 0.273: "27%"}),
        (page.as_in_yaml, {None: "null", True: "true", 0.02: "0.02", "a": "a"}),
    ],
)
def test_values_are_written_as_in_print(write: Callable[[Any], str], written: dict[Any, str]) -> None:
    assert [write(value) for value in written] == list(written.values())


def test_signs_of_characters() -> None:
    assert [visible(c) for c in ("a", " ", "\u0301")] == ["a", "␣", "◌\u0301"]
    assert all(map(is_vowel, "aÉÿøαОй"[:6]))
    assert not any(map(is_vowel, "bñ7美"))


@pytest.mark.parametrize("block_size", [1, 2, 3, 8])
def test_contexts_fit_the_block_and_differ(block_size: int) -> None:
    names = ["anna", "ann", "hanna", "marie", "maria", "bo"]
    contexts = figures.common_contexts(names, block_size)
    assert contexts[0] == ""
    assert len(set(contexts)) == len(contexts) <= figures.CONTEXTS_SHOWN
    assert max(map(len, contexts)) == min(3, block_size)
    if block_size == 8:  # shorter than the block: only at the start of a name
        assert all(any(name.startswith(text) for name in names) for text in contexts)


def test_continuations_are_the_models_and_the_lists(run_folder: Path) -> None:
    material = Material(run_folder / "best.ckpt")
    assert material.training_examples is not None
    [start, *_] = figures.continuations(material, [])
    probabilities = material.model(torch.zeros(1, 3, dtype=torch.long)).softmax(dim=1)[0]
    assert [following.probability for following in start.likeliest] == pytest.approx(
        probabilities.topk(8).values.tolist(), rel=1e-5
    )
    assert material.data is not None
    train = material.data.corpus.names("train")
    assert start.seen == len(train)
    for following in start.likeliest:
        starts = sum(name.startswith(following.character) for name in train)
        assert following.share == pytest.approx(starts / len(train))


def test_the_look_inside_is_at_the_network_without_dropout(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = Material(run_folder / "best.ckpt")
    dropping = material.checkpoint.load_model()
    dropping.layers.flatten = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))
    expected = look_inside(material)
    monkeypatch.setattr(type(material.checkpoint), "load_model", lambda self: dropping)
    found = look_inside(material)
    assert expected is not None
    assert found is not None
    assert found.figures == pytest.approx(expected.figures, nan_ok=True)


def test_svg_keeps_to_itself() -> None:
    with style():
        figure, [axes] = panels_of(1, 2)
        axes.text(0, 0, f"{EVIL} $x$", parse_math=False)
        axes.imshow(np.eye(3))
        svg = inline_svg(figure, "one", 'a "picture"')
    assert svg.startswith("<svg ")
    assert "<style" not in svg
    assert EVIL not in svg
    assert "#23272e" not in svg
    assert all(found.startswith("one-") for found in re.findall(r'\bid="([^"]*)"', svg))
    used = set(re.findall(r"url\(#([^)]*)\)", svg))
    assert used
    assert used <= set(re.findall(r'\bid="([^"]*)"', svg))
