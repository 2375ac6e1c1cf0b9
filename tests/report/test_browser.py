"""The report in a browser: Chromium as the system has it, where playwright is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Visit

pytestmark = pytest.mark.slow


def cells(visit: Visit, row: str) -> list[float]:
    """Numbers of a row of the BatchNorm's table."""
    texts = visit.tab.locator(f"#{row} td").all_inner_texts()
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


@pytest.mark.parametrize("width", [1280, 360])
def test_page_opens_without_complaint_or_request(
    browser: Any, full_page: Path, evil_page: Path, width: int
) -> None:
    for file in (full_page, evil_page):
        visit = Visit(browser, file.as_uri(), width)
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
    return Visit(browser, full_page.as_uri(), 1280)


def test_slider_moves_all_five_numbers(visit: Visit) -> None:
    slider = visit.tab.get_by_label("fifth number")
    dots: set[tuple[str, ...]] = set()
    for key, value in (("Home", -30.0), ("End", 30.0), ("ArrowLeft", 29.5)):
        slider.press(key)
        batch = np.array([-9, -2, 3, 8, value])
        normalised = (batch - batch.mean()) / np.sqrt(batch.var() + 1e-5)
        assert cells(visit, "before") == pytest.approx([*batch, batch.mean(), batch.std()], abs=0.006)
        assert cells(visit, "after") == pytest.approx([*normalised, 0, 1], abs=0.006)
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
