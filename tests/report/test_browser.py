"""The report in a browser: Chromium as the system has it, where playwright is installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium as the system has it, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox is not available to root, as whom containers run.
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
