"""Pictures of a report, as SVG that stands in the page: its text is text, its colours are the page's."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from makemore_pl.report.figures import EmbeddingMap, Losses
from makemore_pl.training.plot_style import COOL, INK, MUTED, NARROW, RULE, WARM, WIDE, panels_of, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 120
"""Characters that are named on the embedding map; the others are dots."""
_COLOURS = {INK: "--ink", MUTED: "--muted", RULE: "--rule", COOL: "--cool", WARM: "--warm"}


@dataclass(frozen=True)
class Picture:
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


def loss_curves(losses: Losses) -> "Figure":
    """Raw and smoothed training loss, and dev NLL, over steps; logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, [axes] = panels_of(1, height=3.4)
    raw, smoothed, dev = losses.raw, losses.smoothed, losses.dev
    axes.plot(raw.steps, raw.values, color=COOL, alpha=0.4, linewidth=1, label="training batches")
    if len(smoothed.steps) > 1:
        label = f"their mean over {losses.window:,} steps"
        axes.plot(smoothed.steps, smoothed.values, color=COOL, linewidth=1.8, label=label)
    if len(dev.steps):
        axes.plot(
            dev.steps, dev.values, color=WARM, marker="o", markersize=3.5, linewidth=1, label="dev split"
        )
        best = int(dev.values.argmin())
        axes.annotate(
            f"{dev.values[best]:.4f}",
            (dev.steps[best], dev.values[best]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            color=WARM,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 2.2, 2.5, 3, 4, 6)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="step", ylabel="nats per character")
    axes.grid(axis="y")
    axes.legend()
    return figure


def embedding_picture(embedding: EmbeddingMap) -> "Figure":
    """Each character where its embedding lies."""
    figure, [axes] = panels_of(1, height=3.9)
    few = len(embedding.labels) <= MOST_LABELS
    x, y = embedding.points.T
    axes.scatter(x, y, s=190 if few else 6, color=RULE, alpha=0.5, linewidth=0)
    labelled = zip(embedding.points, embedding.labels, embedding.vowels, strict=True)
    for point, label, is_vowel in list(labelled)[:MOST_LABELS]:
        colour = WARM if is_vowel else INK
        axes.text(
            point[0],
            point[1],
            label,
            ha="center",
            va="center_baseline",
            color=colour,
            fontsize=11,
            parse_math=False,
        )
    axes.set_aspect("equal", adjustable="datalim")
    if embedding.variance is not None:
        first, second = embedding.variance
        axes.set(xlabel=f"first component, {first:.0%} of the variance", ylabel=f"second, {second:.0%}")
    axes.locator_params(nbins=5)
    return figure
