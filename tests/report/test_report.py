"""The report: what stands in it, what it does without, and how it behaves in a browser."""

import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from helpers import RunCommand, assert_one_line_error, trainer

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.inspect.loss_curves import losses
from makemore_pl.inspect.plot_style import panels_of, scientific, style
from makemore_pl.model.module import LitBatchNormMLP
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.report import likelihoods as figures
from makemore_pl.report import page
from makemore_pl.report.likelihoods import embedding_map, is_vowel, nll, visible
from makemore_pl.report.sampled_names import MadeUp, Names, make_up
from makemore_pl.report.snapshot import look_inside
from makemore_pl.report.sources import gather
from makemore_pl.report.svg import LABEL_WIDTH, inline_svg, spread_out
from makemore_pl.runtime.scorer import Scorer
from makemore_pl.vocabulary import Vocabulary

EVIL = "<script>alert(1)</script>"
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


@pytest.fixture(scope="module")
def full_page(run_folder: Path) -> Path:
    """The report of a run with its folder and its list."""
    return page.write_report(run_folder / "best.ckpt", run_folder.parent / "full.html")


@pytest.fixture(scope="module")
def evil_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deep network without BatchNorm on eight characters of names that are no friends of HTML."""
    folder = tmp_path_factory.mktemp("evil")
    names = [EVIL, "a&b", '"q"', "$x$", "</svg>", "{{7*7}}", "Žofie", "美咲", "يعل", "J. R."] * 3
    path = folder / f"{EVIL.replace('/', '')}.txt"
    path.write_text("\n".join(f"{name}{i}" for i, name in enumerate(names)), encoding="utf-8")
    L.seed_everything(1)
    data = NamesDataModule(str(path), block_size=8)
    module = LitBatchNormMLP(data.vocab_size, 8, n_layers=2, n_hidden=20, n_embd=2, batch_norm=False)
    fitter = trainer(max_steps=2, limit_val_batches=0)
    fitter.fit(module, datamodule=data)
    fitter.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.fixture(scope="module")
def evil_page(evil_checkpoint: Path) -> Path:
    """Its report, in which the model makes up the worst names."""
    shown = [
        MadeUp(EVIL, -3.0, True),
        MadeUp("</li><img src=x onerror=alert(2)>", -4.0, False),
        MadeUp("{{ 7 * 7 }}", -5.0, True),
        MadeUp("", -6.0, None),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "make_up", lambda material, seed: Names(shown, 3, 0.5, "by hand"))
        return page.write_report(evil_checkpoint, evil_checkpoint.with_name("evil.html"))


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
    material = gather(run_folder / "best.ckpt")
    dev = nll(material.model, *material.examples("dev"))
    assert f"{dev:.4f}" in shown.text
    assert "compared on all 19,683 contexts" in shown.text
    assert "model.onnx, batches of 64" in shown.text
    assert "short" in shown.text
    most = min(name.perplexity for name in make_up(material, seed=42).shown)
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


def test_nothing_is_said_of_a_batch_norm_that_is_not_there(run_folder: Path, evil_checkpoint: Path) -> None:
    """Sentences about the network's own BatchNorm stand in the page of one that has it, and only there."""
    sentences = (
        "with BatchNorm as in training",
        "BatchNorm brings every unit to 1",
        "BatchNorm was folded away",
    )
    proof = gather(run_folder / "best.ckpt").verification
    for checkpoint, has_one in ((run_folder / "best.ckpt", True), (evil_checkpoint, False)):
        material = gather(checkpoint)
        material.verification = proof
        text = Page(page.render(material, seed=1)).text
        assert [sentence in text for sentence in sentences] == [has_one] * 3
        assert "what was written computes what" in text.lower()


def test_characters_without_a_name_on_the_map_are_owned_up_to(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = gather(run_folder / "best.ckpt")
    assert "the others are dots" not in Page(page.render(material, seed=1)).text
    monkeypatch.setattr(page, "MOST_LABELS", 5)
    assert (
        "The first 5 characters are named, the others are dots." in Page(page.render(material, seed=1)).text
    )


def test_a_context_seen_once_is_not_seen_once_times(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = figures.Next("a", 0.5, 1.0)
    monkeypatch.setattr(
        figures,
        "continuations",
        lambda *_: [figures.Continuations(c, n, [following]) for c, n in (("x", 1), ("y", 2))],
    )
    text = Page(page.render(gather(run_folder / "best.ckpt"), seed=1)).text
    assert "x 1 time a" in text
    assert "y 2 times a" in text


def test_a_checkpoint_alone_is_enough(
    makemore: RunCommand, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    content["datamodule_hyper_parameters"]["path"] = "gone.txt"
    torch.save(content, tmp_path / "alone.ckpt")
    monkeypatch.chdir(tmp_path)
    result = makemore("report", "alone.ckpt")
    assert result.code == 0, result.err
    assert result.out == "report.html\n"
    shown = Page(Path("report.html").read_text(encoding="utf-8"))
    for sentence in (
        "The training list is not at hand (gone.txt: No such file or directory).",
        "There is no metrics.csv beside the checkpoint.",
        "Without the training list there is nothing to send through the network.",
        "A run with --config diagnostics does.",
        "Nothing has been exported beside the checkpoint: no model.onnx.",
        "There is no config.yaml beside the checkpoint.",
        "Whether they are new cannot be said without the list.",
        "drawn step by step from the checkpoint",
    ):
        assert sentence in shown.text, sentence
    assert "dl" not in shown.tags  # no tiles: no empty frame
    assert {path.name for path in tmp_path.iterdir()} == {"alone.ckpt", "report.html"}


def test_another_list_is_not_taken_for_the_training_list(
    run_folder: Path, short_list: Path, tmp_path: Path
) -> None:
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    other = tmp_path / "other.txt"
    other.write_text(short_list.read_text(encoding="utf-8") + "emmy\n", encoding="utf-8")
    content["datamodule_hyper_parameters"]["path"] = str(other)
    torch.save(content, tmp_path / "moved.ckpt")
    material = gather(tmp_path / "moved.ckpt")
    assert material.data is None
    assert "is not the list that was trained on" in material.missing["data"]
    assert gather(tmp_path / "moved.ckpt", str(short_list)).data is not None


def test_files_of_other_weights_prove_nothing_here(run_folder: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "sampler.onnx", "verification.json"):
        shutil.copy(run_folder / name, tmp_path)
    content = torch.load(run_folder / "best.ckpt", weights_only=True)
    torch.save(content, tmp_path / "best.ckpt")
    assert gather(tmp_path / "best.ckpt").verification is not None
    content["state_dict"]["net.layers.output.weight"][0, 0] += 1
    torch.save(content, tmp_path / "best.ckpt")
    other = gather(tmp_path / "best.ckpt")
    assert other.export is None
    assert other.verification is None
    assert "made from other weights" in other.missing["export"]
    (tmp_path / "model.onnx").write_bytes(b"no model")
    assert "cannot be read" in gather(tmp_path / "best.ckpt").missing["export"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.ckpt"], "none.ckpt: No such file"),
        (["{ckpt}", "--list", "none.txt"], "none.txt: No such file"),
        (["{ckpt}", "--list", "names"], "is not the list that was trained on"),
        (["{ckpt}", "-o", "taken"], "taken is a folder; a file is needed"),
        (["{ckpt}", "--seed", "-1"], "seed must be at least 0"),
        ([], "checkpoint"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    makemore: RunCommand,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "render", lambda material, seed: "page")
    (tmp_path / "taken").mkdir()
    before = sorted(path.name for path in run_folder.iterdir())
    result = makemore("report", *(arg.format(ckpt=run_folder / "best.ckpt") for arg in args))
    assert result.code == 2
    assert_one_line_error(result.err, message)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert sorted(path.name for path in run_folder.iterdir()) == before


def test_made_up_names_are_the_same_from_file_and_checkpoint(run_folder: Path) -> None:
    material = gather(run_folder / "best.ckpt")
    exported = make_up(material, seed=3)
    material.export = None
    stepwise = make_up(material, seed=3)
    assert (exported.source, stepwise.source) != (stepwise.source, exported.source)
    assert [name.name for name in exported.shown] == [name.name for name in stepwise.shown]
    assert [name.log_prob for name in exported.shown] == pytest.approx(
        [name.log_prob for name in stepwise.shown], abs=1e-3
    )
    scores = Scorer(run_folder).score([name.name for name in exported.shown])
    longest = max(len(name.name) for name in exported.shown)  # perhaps cut off, and without its end
    for name, score in zip(exported.shown, scores, strict=True):
        if len(name.name) == longest:
            continue
        assert name.log_prob == pytest.approx(score.log_prob, abs=1e-3)
        assert name.perplexity == pytest.approx(score.perplexity, rel=1e-3)
    assert material.data is not None
    known = set(material.data.list.names())
    assert all(name.is_new == (name.name not in known) for name in exported.shown)
    assert exported.share_new is not None
    assert 0.5 < exported.share_new <= 1


def test_smoothed_loss_is_the_mean_of_logarithms_over_windows() -> None:
    rows = [{"step": str(10 * i), "train/loss": str(2.0 + i % 3), "val/nll": ""} for i in range(9)]
    curves = losses([*rows, {"step": "99", "train/loss": "", "val/nll": "2.5"}])
    assert curves is not None
    assert curves.window == 30
    assert curves.smoothed.steps.tolist() == [10, 40, 70]
    assert curves.smoothed.values == pytest.approx([(2 * 3 * 4) ** (1 / 3)] * 3)
    assert (curves.dev.steps.tolist(), curves.dev.values.tolist()) == ([99], [2.5])
    assert losses([]) is None


def test_embedding_map_is_the_embedding_or_its_principal_components() -> None:
    flat = BatchNormMLP(4, 2, n_embd=2, init_seed=1)
    found = embedding_map(flat, Vocabulary("a b"))
    assert found.variance is None
    assert found.points == pytest.approx(flat.layers.embedding.weight.detach().numpy())
    assert found.labels == ["·", "␣", "a", "b"]
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
    contexts = figures._contexts(names, block_size)
    assert contexts[0] == ""
    assert len(set(contexts)) == len(contexts) <= figures.CONTEXTS_SHOWN
    assert max(map(len, contexts)) == min(3, block_size)
    if block_size == 8:  # shorter than the block: only at the start of a name
        assert all(any(name.startswith(text) for name in names) for text in contexts)


def test_continuations_are_the_models_and_the_lists(run_folder: Path) -> None:
    material = gather(run_folder / "best.ckpt")
    assert material.training_examples is not None
    [start, *_] = figures.continuations(material, [])
    probabilities = material.model(torch.zeros(1, 3, dtype=torch.long)).softmax(dim=1)[0]
    assert [following.probability for following in start.likeliest] == pytest.approx(
        probabilities.topk(8).values.tolist(), rel=1e-5
    )
    assert material.data is not None
    train = material.data.corpus.names("train")
    assert start.count == len(train)
    for following in start.likeliest:
        starts = sum(name.startswith(following.character) for name in train)
        assert following.share == pytest.approx(starts / len(train))


def test_the_look_inside_is_at_the_network_without_dropout(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = gather(run_folder / "best.ckpt")
    dropping = material.checkpoint.load_model()
    dropping.layers.flatten = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.9))
    expected = look_inside(material)
    monkeypatch.setattr(type(material.checkpoint), "load_model", lambda self: dropping)
    found = look_inside(material)
    assert expected is not None
    assert found is not None
    assert [layer.std for layer in found.layers] == [layer.std for layer in expected.layers]


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


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium as the system has it, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox cannot be had by root, as whom containers run.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """A page opened in the browser, and everything it complained of or asked the network for."""

    def __init__(self, browser: Any, file: Path, width: int) -> None:
        self.tab = browser.new_page(viewport={"width": width, "height": 900})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(file.as_uri(), wait_until="networkidle")

    def cells(self, row: str) -> list[float]:
        texts = self.tab.locator(f"#{row} td").all_inner_texts()
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


@pytest.mark.parametrize("width", [1280, 360])
def test_page_opens_without_complaint_or_request(
    browser: Any, full_page: Path, evil_page: Path, width: int
) -> None:
    for file in (full_page, evil_page):
        visit = Visit(browser, file, width)
        assert visit.complaints == []
        assert visit.requests == [file.as_uri()]
        assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
        seen = [picture.is_visible() for picture in visit.tab.locator("figure .wide").all()]
        assert seen
        assert set(seen) == {width > 1000}
        assert visit.tab.locator("figure .narrow svg").first.is_visible() == (width < 1000)


@pytest.fixture(scope="module")
def visit(browser: Any, full_page: Path) -> Visit:
    """The full page in a wide window."""
    return Visit(browser, full_page, 1280)


def test_slider_moves_all_five_numbers(visit: Visit) -> None:
    slider = visit.tab.get_by_label("fifth number")
    dots: set[tuple[str, ...]] = set()
    for key, value in (("Home", -30.0), ("End", 30.0), ("ArrowLeft", 29.5)):
        slider.press(key)
        batch = np.array([-9, -2, 3, 8, value])
        normalised = (batch - batch.mean()) / np.sqrt(batch.var() + 1e-5)
        assert visit.cells("before") == pytest.approx([*batch, batch.mean(), batch.std()], abs=0.006)
        assert visit.cells("after") == pytest.approx([*normalised, 0, 1], abs=0.006)
        assert visit.tab.locator("#moved-value").inner_text().replace("−", "-") == f"{value:.2f}"
        places = visit.tab.locator("#batch circle").evaluate_all(
            "dots => dots.map(d => d.getAttribute('cx'))"
        )
        assert len(places) == 10
        dots.add(tuple(places))
    assert len(dots) == 3
    assert visit.complaints == []


def test_page_prints(visit: Visit) -> None:
    visit.tab.emulate_media(media="print")
    assert not visit.tab.locator("#moved").is_visible()
    assert not visit.tab.locator("nav").is_visible()
    assert visit.tab.locator("figure .wide svg").first.is_visible()
    assert visit.tab.pdf().startswith(b"%PDF")
