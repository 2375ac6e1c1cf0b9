"""Pictures of a report, as SVG that stands in the page: its text is text, its colours are the page's."""

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from makemore_pl.inspect.plot_style import COOL, INK, MUTED, NARROW, RULE, TINT, WARM, WIDE, panels_of, style
from makemore_pl.report.characters import EmbeddingMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 120
"""Characters that are named on the embedding map; the others are dots."""
LABEL_WIDTH = 13.5
"""Points between the middles of two labels, at least."""
MOST_ROUNDS = 500
"""Rounds of moving labels apart."""
_COLOURS = {INK: "--ink", MUTED: "--muted", RULE: "--rule", COOL: "--cool", WARM: "--warm", TINT: "--tint"}


class Picture(NamedTuple):
    """A picture for wide pages and the same for narrow ones, as SVG elements."""

    wide: Markup
    narrow: Markup


def picture(name: str, description: str, draw: Callable[[], "Figure"]) -> Picture:
    """Draw at both widths.

    Args:
        name: different for each picture of a page: its ids begin with it.
        description: for those who cannot see it.
        draw: called in the style of each width.
    """
    drawn = {}
    for kind, width in (("wide", WIDE), ("narrow", NARROW)):
        with style(width), warnings.catch_warnings():
            # The browser has fonts for characters that Matplotlib's own font lacks.
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
            drawn[kind] = inline_svg(draw(), f"{name}-{kind}", description)
    return Picture(**drawn)


def inline_svg(figure: "Figure", name: str, description: str) -> Markup:
    """A figure as an `<svg>` element that fits into a page among others."""
    from matplotlib import rc_context

    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), StringIO() as file:
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
        svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # What would reach beyond the picture: its style sheet, its size in points, its ids.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(font: [^;\"]*?)'[^;\"]*", r"\1inherit-family", svg)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1))


def embedding_picture(embedding: EmbeddingMap) -> "Figure":
    """Each character where its embedding lies, or beside it, joined by a line, where others lie close."""
    figure, [axes] = panels_of(1, height=4.0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.locator_params(nbins=5)
    if embedding.variance is not None:
        first, second = embedding.variance
        axes.set(xlabel=f"first component, {first:.0%} of the variance", ylabel=f"second, {second:.0%}")
    x, y = embedding.points.T
    axes.scatter(x[MOST_LABELS:], y[MOST_LABELS:], s=6, color=MUTED, linewidth=0)
    axes.update_datalim(embedding.points)
    axes.autoscale_view()
    figure.draw_without_rendering()  # only now is it known where on the page a point lies
    axes.autoscale(False)
    axes.set_aspect("auto")  # the limits are now those of equal scales

    points = embedding.points[:MOST_LABELS]
    pixels_per_point = figure.dpi / 72
    on_page = axes.transData.transform(points) / pixels_per_point
    moved_to = spread_out(on_page)
    places = axes.transData.inverted().transform(moved_to * pixels_per_point)
    for point, place in zip(points, places, strict=True):
        axes.plot(*zip(point, place, strict=True), color=MUTED, linewidth=0.6, zorder=0)
    has_moved = np.hypot(*(moved_to - on_page).T) > LABEL_WIDTH / 2
    axes.scatter(points[has_moved, 0], points[has_moved, 1], s=5, color=MUTED, linewidth=0, zorder=3)
    axes.scatter(places[:, 0], places[:, 1], s=LABEL_WIDTH**2, color=TINT, linewidth=0, zorder=1)
    for (x, y), label, is_vowel in zip(places, embedding.labels, embedding.vowels, strict=False):
        colour = WARM if is_vowel else INK
        axes.text(x, y, label, ha="center", va="center_baseline", color=colour, fontsize=11, parse_math=False)
    return figure


def spread_out(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places near the given ones, float64 (n, 2), of which no two are closer than a label is wide.

    Each pair that is too close is moved apart, over and over. Points that stand alone stay where they are;
    equal points leave each other in different directions.
    """
    angles = np.arange(len(points)) * np.pi * (3 - np.sqrt(5))  # golden angles: no two the same
    places = points + 1e-3 * np.column_stack([np.cos(angles), np.sin(angles)])
    for _ in range(MOST_ROUNDS):
        away = places[:, None] - places[None]  # (n, n, 2)
        distance = np.hypot(*np.moveaxis(away, -1, 0))  # (n, n)
        np.fill_diagonal(distance, np.inf)
        too_close = np.clip(LABEL_WIDTH - distance, 0, None)
        if not too_close.any():
            break
        step = 0.5 * too_close / distance + 1e-3 * (too_close > 0)
        places += (away * step[..., None]).sum(axis=1)
    return places
