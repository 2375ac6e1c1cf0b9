"""The report: what stands in it, what it does without, and how it behaves in a browser."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from helpers import EVIL, RunCommand

from makemore_pl.errors import DataError
from makemore_pl.report import page
from makemore_pl.report.likelihoods import nll, nll_of_counting
from makemore_pl.report.sampled_names import make_up
from makemore_pl.report.sources import Material

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_every_section_is_filled(full_page: Path, run_folder: Path) -> None:
    html = full_page.read_text(encoding="utf-8")
    shown = Page(html)
    assert len(set(shown.ids)) == len(shown.ids)
    assert 'class="missing"' not in html.replace('<p class="missing">This picture needs', "").replace(
        '<p class="missing">The run did not record', ""
    )
    for heading in ("Names it makes up", "How it learned", "Activations", "Gradients", "BatchNorm to play"):
        assert heading in shown.text
    # Loss, three of activations, two of gradients, embedding, each at two widths; and the slider's.
    assert shown.tags.count("svg") == 2 * 7 + 1
    material = Material(run_folder / "best.ckpt")
    dev = nll(material.model, *material.examples("dev"))
    assert f"{dev:.4f}" in shown.text
    [*_, (n_context, (counted, _))] = nll_of_counting(material).items()
    assert n_context == 3
    assert f"counting, after 3 characters {counted:.4f}" in shown.text
    assert f"{dev:.4f} nats per character; counting has {counted:.4f}" in shown.text
    assert "compared on all 2,744 contexts" in shown.text
    assert "model.onnx, batches of 64" in shown.text
    assert "short" in shown.text
    most = min(name.perplexity for name in make_up(material, seed=42)[0])
    assert f"the longest bar {1 / most:.0%};" in shown.text


def test_nothing_leads_out_of_the_page(full_page: Path, evil_page: Path) -> None:
    for file in (full_page, evil_page):
        html = file.read_text(encoding="utf-8")
        for target in re.findall(r"(?:href|src|action|data)=\"([^\"]*)\"", html):
            assert target.startswith(("#", "data:")), target
        assert not re.findall(r"url\((?!#)", html)
        assert "@import" not in html
        assert "default-src 'none'" in html


def test_names_are_harmless(evil_page: Path) -> None:
    shown = Page(evil_page.read_text(encoding="utf-8"))
    assert shown.tags.count("script") == 1  # the page's own
    assert "img" not in shown.tags
    assert EVIL in shown.text
    assert "<script>alert(1)<script>" in shown.text  # the list's name
    assert "{{ 7 * 7 }}" in shown.text
    assert "This network has no BatchNorm" in shown.text


def test_nothing_is_said_of_a_batch_norm_that_is_not_there(
    run_folder: Path, full_page: Path, evil_checkpoint: Path
) -> None:
    """Sentences about the network's own BatchNorm stand in the page of one that has it, and only there."""
    sentences = (
        "with BatchNorm as in training",
        "BatchNorm brings every unit to 1",
        "BatchNorm was folded away",
    )
    without = Material(evil_checkpoint)
    without.verification = Material(run_folder / "best.ckpt").verification
    for html, has_one in ((full_page.read_text(encoding="utf-8"), True), (page.render(without, 1), False)):
        text = Page(html).text
        assert [sentence in text for sentence in sentences] == [has_one] * 3
        assert "what was written computes what" in text.lower()


def test_characters_without_a_name_on_the_map_are_owned_up_to(
    run_folder: Path, full_page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the others are dots" not in full_page.read_text(encoding="utf-8")
    monkeypatch.setattr(page, "MOST_LABELS", 5)
    shown = Page(page.render(Material(run_folder / "best.ckpt"), seed=1))
    assert "The first 5 characters are named, the others are dots." in shown.text


def test_a_checkpoint_alone_is_enough(makemore: RunCommand, run_folder: Path, cwd: Path) -> None:
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"]["path"] = "gone.txt"
    torch.save(content, cwd / "alone.ckpt")
    result = makemore("report", "alone.ckpt").succeeds()
    assert result.out == "report.html\n"
    shown = Page(Path("report.html").read_text(encoding="utf-8"))
    for sentence in (
        "not available (gone.txt: No such file or directory); --list FILE says where it is.",
        "There is no metrics.csv beside the checkpoint.",
        "Without the training list there is nothing to send through the network.",
        "A run with --config diagnostics does.",
        "Nothing has been exported beside the checkpoint: no model.onnx.",
        "There is no config.yaml beside the checkpoint.",
        "Whether they are new cannot be said without the list.",
        "drawn step by step from the checkpoint",
    ):
        assert sentence in shown.text, sentence
    assert shown.text.count("not known") == 6  # each figure keeps its place
    assert "What a model must beat is counting" not in shown.text
    left_out = [line.removeprefix("makemore: left out of the report: ") for line in result.err.splitlines()]
    assert len(left_out) == 5
    assert all(sentence in shown.text for sentence in left_out)
    assert {path.name for path in cwd.iterdir()} == {"alone.ckpt", "report.html"}


def test_another_list_is_not_taken_for_the_training_list(
    run_folder: Path, short_list: Path, tmp_path: Path
) -> None:
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    other = tmp_path / "other.txt"
    other.write_text(short_list.read_text(encoding="utf-8") + "emmi\n", encoding="utf-8")
    content["datamodule_hyper_parameters"]["path"] = str(other)
    torch.save(content, tmp_path / "moved.ckpt")
    material = Material(tmp_path / "moved.ckpt")
    assert material.data is None
    assert "is not the list that was trained on" in material.missing["data"]
    assert Material(tmp_path / "moved.ckpt", str(short_list)).data is not None
    with pytest.raises(DataError, match="is not the list that was trained on"):
        Material(tmp_path / "moved.ckpt", str(other))


def test_files_of_other_weights_prove_nothing_here(run_folder: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "sampler.onnx", "verification.json"):
        shutil.copy(run_folder / name, tmp_path)
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    torch.save(content, tmp_path / "best.ckpt")
    assert Material(tmp_path / "best.ckpt").verification is not None
    content["state_dict"]["net.layers.output.weight"][0, 0] += 1
    torch.save(content, tmp_path / "best.ckpt")
    other = Material(tmp_path / "best.ckpt")
    assert other.export is None
    assert other.verification is None
    assert "made from other weights" in other.missing["export"]
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert "cannot be read" in Material(tmp_path / "best.ckpt").missing["export"]
