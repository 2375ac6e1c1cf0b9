"""The page in Chromium, with the files of npm: the names of `makemore sample`, and nothing from elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from helpers import Visit

from makemore_pl import Sampler
from makemore_pl.page.page_folder import INDEX, write_page
from makemore_pl.page.web_runtime import CDN, SCRIPT, WASM, WEB_VERSION

pytestmark = pytest.mark.slow
Serve = Callable[[Path], str]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"n": 1, "temperature": 0},
    {"n": 400, "temperature": 0.65},
    {"temperature": 3.3, "max_length": 9},
    {"top_k": 3, "prefix": "ma"},
    {"top_p": 0.55, "temperature": 1.45, "min_length": 5},
    {"top_k": 99999999999999999999, "top_p": 1e-60, "n": 3},
    {"prefix": "jo", "min_length": 4, "max_length": 6, "top_k": 9, "top_p": 0.9, "n": 77},
    {"prefix": "anna", "max_length": 4, "n": 3},
    {"min_length": 40, "n": 5},
    {"min_length": 0, "temperature": 2, "n": 60},
]
SEEDS = [0, 1, 2, 42, 2**32 - 1, 2**32, 2**64 + 5, 2**127, 2**128 - 1, 2**128, 3**200, 10**300]


def address(place: str, **settings: Any) -> str:
    return f"{place}?{urlencode(settings)}"


def shown(visit: Visit) -> list[str]:
    """The names on the page, when all are there."""
    visit.tab.locator("#names:not([aria-busy]) li").first.wait_for()
    names: list[str] = visit.tab.locator("#names bdi").evaluate_all(
        "all => all.map(name => name.textContent)"
    )
    return ["" if name == "∅" else name for name in names]


def ask(visit: Visit, **settings: Any) -> None:
    """Have the fields hold these settings, and the defaults otherwise."""
    values = {"seed": 1, "n": 20, "temperature": 1, "top_k": 0, "top_p": 1, "min_length": 1, "max_length": ""}
    visit.tab.evaluate(
        """(values) => {
            const form = document.getElementById("settings");
            for (const [field, value] of Object.entries(values)) form.elements[field].value = value;
            form.dispatchEvent(new Event("input"));
        }""",
        {field: str(value) for field, value in {**values, "prefix": "", **settings}.items()},
    )


def problem(visit: Visit) -> str:
    visit.tab.locator("#problem:visible").wait_for()
    return visit.tab.locator("#problem").inner_text()


@pytest.fixture(scope="module")
def place(page: Path, serve: Serve) -> str:
    return serve(page)


@pytest.fixture(scope="module")
def visit(browser: Any, place: str) -> Visit:
    """The page in a wide window, with its first names: they could come after those that a test asks for."""
    opened = Visit(browser, place)
    shown(opened)
    return opened


def test_uniforms_are_numpys(visit: Visit) -> None:
    rng = np.random.default_rng(7)
    seeds = [*SEEDS, *(int(seed) << int(bits) for seed, bits in rng.integers(0, 120, (60, 2)))]
    seeds += [int.from_bytes(rng.bytes(int(n)), "little") for n in rng.integers(1, 70, 100)]
    drawn = visit.tab.evaluate(
        """async (seeds) => {
            const { Uniforms } = await import("./pcg64.js");
            return seeds.map((seed) => {
                const uniforms = new Uniforms(BigInt(seed));
                return [3, 1, 0, 7, 20].flatMap((n) => [...uniforms.next(n)]);
            });
        }""",
        [str(seed) for seed in seeds],
    )
    for seed, uniforms in zip(seeds, drawn, strict=True):
        assert uniforms == np.random.default_rng(seed).random(31, dtype=np.float32).tolist(), seed


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_names_are_those_of_the_command(visit: Visit, run_folder: Path, settings: dict[str, Any]) -> None:
    options = {"n": 20, "seed": 12345678901234567890, **settings}
    ask(visit, **options)
    assert shown(visit) == Sampler(run_folder).sample(**options)
    [batch] = Sampler(run_folder).stream(**options)
    titles = visit.tab.locator("#names li").evaluate_all("all => all.map(item => item.title)")
    assert [title.split(" nats")[0] for title in titles] == [
        f"log-likelihood {log_prob:.2f}" for log_prob in batch.log_probs
    ]
    assert visit.complaints == []


def test_names_of_any_alphabet_and_of_markup(
    browser: Any, evil_page: Path, evil_export: Path, serve: Serve
) -> None:
    place = serve(evil_page)
    visit = Visit(browser, address(place, seed=5, n=300, prefix="<\N{GRINNING FACE}"))
    names = shown(visit)
    assert names == Sampler(evil_export).sample(300, seed=5, prefix="<\N{GRINNING FACE}")
    assert {"<", ">", "\N{ARABIC LETTER MEEM}"} < set("".join(names))
    assert visit.complaints == []
    assert "<script>" in visit.tab.title()
    assert "<script>" in visit.tab.locator("#lead").inner_text()
    assert visit.tab.locator("#proof").inner_text().startswith("The file does not say")
    for query, sentence in (
        (
            {"prefix": "Ω\u200b<Ω"},
            "The model does not know “Ω” (U+03A9), U+200B. It knows: U+0020 \" & ' / <",
        ),
        ({"prefix": "e\u0301"}, "The model does not know U+0301."),
    ):
        visit.tab.goto(address(place, **query))
        assert sentence in problem(visit)
        assert visit.tab.locator("#prefix[aria-invalid]").count() == 1


@pytest.mark.parametrize(
    ("settings", "field", "sentence"),
    [
        ({"temperature": "-1"}, "temperature", "Temperature must be a number from 0 to 1e30."),
        ({"temperature": ""}, "temperature", "Temperature must be a number"),
        ({"temperature": "2e30"}, "temperature", "Temperature must be a number"),
        ({"top_k": "1.5"}, "top_k", "Top-k must be a whole number, 0 or more."),
        ({"top_p": "0"}, "top_p", "Top-p must be a number above 0, and at most 1."),
        ({"n": "0"}, "n", "How many must be a whole number, from 1 to 10,000."),
        ({"n": "10001"}, "n", "How many must be"),
        ({"seed": "-3"}, "seed", "Seed must be a whole number, 0 or more."),
        ({"seed": "ten"}, "seed", "Seed must be"),
        ({"seed": ""}, "seed", "Seed must be"),
        ({"max_length": "0"}, "max_length", "The greatest length must be"),
        ({"min_length": "9", "max_length": "8"}, "min_length", "length, 9, is more than the greatest, 8."),
        ({"prefix": "abe", "max_length": "2"}, "prefix", "of at most 2 characters cannot start with 3."),
        ({"prefix": "B2"}, "prefix", "The model does not know “B” (U+0042), “2” (U+0032). It knows: a b e i"),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_cannot_be_met_is_said_at_its_field(
    visit: Visit, settings: dict[str, str], field: str, sentence: str
) -> None:
    ask(visit, **settings)
    assert sentence in problem(visit)
    assert visit.tab.locator("[aria-invalid]").evaluate_all("all => all.map(field => field.id)") == [field]
    ask(visit, n=2)  # taken back
    visit.tab.locator("#problem").wait_for(state="hidden")
    assert len(shown(visit)) == 2
    assert visit.tab.locator("[aria-invalid]").count() == 0
    assert visit.complaints == []


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_without_complaint_and_asks_nobody_else(
    browser: Any, page: Path, place: str, width: int, scheme: str
) -> None:
    visit = Visit(browser, place, width, color_scheme=scheme)
    assert len(shown(visit)) == 20
    assert visit.complaints == []
    files = {urlsplit(request).path.lstrip("/") or INDEX for request in visit.requests}
    assert files == {file.name for file in page.iterdir()}
    assert all(request.startswith(place) for request in visit.requests)
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = visit.tab.evaluate(
        """() => [...document.querySelectorAll("main *, footer *")].filter(
            (e) => !e.closest(".unseen") && e.getBoundingClientRect().right > innerWidth + 1
        ).map((e) => e.outerHTML)"""
    )
    assert overflowing == []
    assert low_contrasts(visit) == []
    grey = {"light": "#808080", "dark": "#606060"}[scheme]
    visit.tab.evaluate(f"document.getElementById('lead').style.color = '{grey}'")
    assert [text for text, _ in low_contrasts(visit)] != []
    visit.tab.close()


def low_contrasts(visit: Visit) -> list[tuple[str, float]]:
    """Texts whose contrast with what lies behind them is below 4.5 (WCAG 2.2, 1.4.3)."""
    seen = visit.tab.evaluate(
        """() => {
            const behind = (e) => {
                const { backgroundColor } = getComputedStyle(e);
                const isClear = e.parentElement && backgroundColor === "rgba(0, 0, 0, 0)";
                return isClear ? behind(e.parentElement) : backgroundColor;
            };
            return [...document.body.querySelectorAll("*")]
                .filter((e) => e.checkVisibility() && !e.closest(".unseen") &&
                    (e.matches("input") || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())))
                .map((e) => [e.textContent.trim() || e.id, getComputedStyle(e).color, behind(e)]);
        }"""
    )
    assert len(seen) > 50

    def luminance(color: str) -> float:
        channels = np.array([int(x) for x in re.findall(r"\d+", color)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    found = []
    for text, front, back in seen:
        dark, light = sorted([luminance(front), luminance(back)])
        if (light + 0.05) / (dark + 0.05) < 4.5:
            found.append((text, (light + 0.05) / (dark + 0.05)))
    return found


def test_the_address_repeats_the_names(browser: Any, place: str, run_folder: Path) -> None:
    visit = Visit(browser, place)
    first = shown(visit)
    visit.tab.get_by_role("button", name="New names").click()
    visit.tab.fill("#prefix", "na")
    visit.tab.get_by_label("Temperature", exact=True).fill("0.7")
    visit.tab.get_by_label("Top-k, as a slider").press("ArrowRight")
    visit.tab.get_by_label("Top-k, as a slider").press("ArrowRight")
    visit.tab.wait_for_url("**/*top_k=2*")
    names = shown(visit)
    query = {key: value for key, [value] in parse_qs(urlsplit(visit.tab.url).query).items()}
    model = Sampler(run_folder).info.export_id
    assert query == {
        "seed": query["seed"], "temperature": "0.7", "top_k": "2", "prefix": "na", "model": model
    }  # fmt: skip
    assert names != first
    assert names == Sampler(run_folder).sample(
        20, seed=int(query["seed"]), temperature=0.7, top_k=2, prefix="na"
    )
    assert shown(Visit(browser, visit.tab.url)) == names
    other = Visit(browser, visit.tab.url.replace(model, "another"))
    assert shown(other) == names
    assert "made with another model" in other.tab.locator("#state").inner_text()
    visit.tab.get_by_role("button", name="Reset settings").click()
    visit.tab.wait_for_url(lambda url: "prefix" not in url)
    assert shown(visit) == Sampler(run_folder).sample(20, seed=int(query["seed"]))


def test_copy_download_and_link(browser: Any, place: str, tmp_path: Path) -> None:
    visit = Visit(browser, address(place, seed=3, n=7), permissions=["clipboard-read", "clipboard-write"])
    text = "".join(f"{name}\n" for name in shown(visit))
    visit.tab.wait_for_url(lambda url: "model=" in url)  # the address is completed after the names are shown
    for button, copied in (("Copy", text), ("Copy link", visit.tab.url)):
        visit.tab.get_by_role("button", name=button, exact=True).click()
        visit.tab.get_by_text("Copied.").wait_for()
        assert visit.tab.evaluate("navigator.clipboard.readText()") == copied
    with visit.tab.expect_download() as download:
        visit.tab.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "names.txt")
    assert download.value.suggested_filename == "names.txt"
    assert (tmp_path / "names.txt").read_bytes() == text.encode()
    # A page without https, but of this machine, has no clipboard.
    visit.tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    visit.tab.get_by_role("button", name="Copy", exact=True).click()
    visit.tab.get_by_text("Copied.").wait_for()
    visit.tab.evaluate("document.execCommand = () => false")
    visit.tab.get_by_role("button", name="Copy", exact=True).click()
    visit.tab.get_by_text("This browser does not allow").wait_for()
    assert visit.complaints == []


def test_by_keyboard_alone(browser: Any, place: str) -> None:
    visit = Visit(browser, address(place, seed=1))
    first = shown(visit)
    reached = []
    for _ in range(18):
        visit.tab.keyboard.press("Tab")
        reached.append(visit.tab.evaluate("document.activeElement.id || document.activeElement.dataset.for"))
        outline = visit.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
    assert reached == [
        "new", "copy", "download", "link", "prefix", "temperature", "temperature", "top_k", "top_k", "top_p",
        "top_p", "min_length", "max_length", "n", "seed", "reset", *reached[-2:]
    ]  # fmt: skip
    visit.tab.locator("#n").focus()
    visit.tab.keyboard.press("ArrowUp")
    assert len(shown(visit)) == 21
    visit.tab.keyboard.press("Enter")  # as the button "New names"
    visit.tab.wait_for_url(lambda url: "seed=1&" not in url)
    assert shown(visit)[:20] != first
    assert visit.complaints == []


def test_names_and_roles_for_a_screen_reader(browser: Any, place: str) -> None:
    visit = Visit(browser, address(place, seed=1, temperature=0.5))
    names = shown(visit)
    tree = visit.tab.locator("body").aria_snapshot()
    for line in (
        '- heading "Made-up names" [level=1]',
        '- heading "Settings" [level=2]',
        '- list "Names"',
        '- textbox "Starts with"',
        '- spinbutton "Temperature": "0.5"',
        '- slider "Temperature, as a slider"',
        '- slider "Top-k, as a slider"',
        '- slider "Top-p, as a slider"',
        '- group "Length"',
        '- button "New names"',
    ):
        assert line in tree, tree
    slider = visit.tab.get_by_role("slider", name="Temperature, as a slider")
    assert slider.get_attribute("aria-valuetext") == slider.input_value() == "0.5"
    spoken = visit.tab.locator("[aria-live=polite]", has_text=f"20 new: {', '.join(names[:5])} and 15 more")
    spoken.wait_for(state="attached")
    unnamed = "button:not(:has-text('')), input:not([aria-label])"
    for field in visit.tab.locator(unnamed).all():
        assert visit.tab.locator(f"label[for={field.get_attribute('id')}]").count() == 1


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_for_those_who_do_not_want_it(browser: Any, place: str, motion: str) -> None:
    visit = Visit(browser, place, reduced_motion=motion)
    shown(visit)
    durations = visit.tab.evaluate(
        """() => [...document.querySelectorAll("#names *")]
            .flatMap((e) => [getComputedStyle(e), getComputedStyle(e, "::after")])
            .flatMap((style) => [style.animationName, style.transitionDuration])"""
    )
    assert (set(durations) == {"none", "0s"}) == (motion == "reduce")


def test_prints_the_names_without_the_controls(browser: Any, place: str) -> None:
    visit = Visit(browser, address(place, seed=1))
    shown(visit)
    visit.tab.emulate_media(media="print")
    assert visit.tab.locator("#names li").first.is_visible()
    assert visit.tab.locator("#command").is_visible()
    assert not visit.tab.locator("#new").is_visible()
    assert not visit.tab.locator("#settings").is_visible()
    assert visit.tab.pdf().startswith(b"%PDF")


def test_what_is_missing_or_changed_is_said(
    browser: Any, run_folder: Path, web_runtime: Path, serve: Serve, tmp_path: Path
) -> None:
    folder = write_page(run_folder, tmp_path / "page", web_runtime)
    place = serve(folder)
    for name, sentence in (
        (WASM, f"onnxruntime-web {WEB_VERSION}, which runs the model, could not be loaded from {WASM}"),
        (SCRIPT, f"onnxruntime-web {WEB_VERSION}, which runs the model, could not be loaded from {SCRIPT}"),
        ("sampler.onnx", "The model could not be loaded from sampler.onnx"),
        ("model.json", "The description of the model could not be loaded from model.json"),
    ):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        assert sentence in problem(Visit(browser, place))
        (folder / name).write_bytes(content.replace(b"0", b"1", 1))
        assert sentence in problem(Visit(browser, place))
        (folder / name).write_bytes(content)
    (folder / "settings.js").rename(tmp_path / "settings.js")
    assert "No script of this page runs." in problem(Visit(browser, place))
    (tmp_path / "settings.js").rename(folder / "settings.js")
    assert len(shown(Visit(browser, place))) == 20


def test_a_page_opened_as_a_file_says_what_to_do(browser: Any, page: Path) -> None:
    visit = Visit(browser, (page / INDEX).as_uri())
    assert "have a web server show its folder" in problem(visit)


def test_without_scripts_the_page_says_so(browser: Any, place: str) -> None:
    visit = Visit(browser, place, java_script_enabled=False)
    assert "this browser runs none on this page" in visit.tab.locator("noscript p:visible").inner_text()


def test_from_the_cdn(
    browser: Any, run_folder: Path, web_runtime: Path, serve: Serve, tmp_path: Path
) -> None:
    """The CDN is played by the files of npm: those of the right hash give names, others do not."""
    place = serve(write_page(run_folder, tmp_path / "page"))
    changed = ""

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(CDN)
        content = (web_runtime / name).read_bytes() + (b" " if name == changed else b"")
        kind = "text/javascript" if name == SCRIPT else "application/wasm"
        route.fulfill(body=content, headers={"access-control-allow-origin": "*", "content-type": kind})

    visit = Visit(browser, address(place, seed=1), route=(f"{CDN}**", answer))
    assert shown(visit) == Sampler(run_folder).sample(20, seed=1)
    assert visit.complaints == []
    assert {request for request in visit.requests if not request.startswith(place)} == {
        CDN + SCRIPT,
        CDN + WASM,
    }
    for changed in (SCRIPT, WASM):
        visit = Visit(browser, place, route=(f"{CDN}**", answer))
        assert f"onnxruntime-web {WEB_VERSION}, which runs the model," in problem(visit)
        assert CDN + changed in problem(visit)
