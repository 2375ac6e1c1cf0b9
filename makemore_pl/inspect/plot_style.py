"""The style of this project's plots: one palette, panels, axes, numbers and legends."""

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makemore_pl.files import written_output

if TYPE_CHECKING:  # Matplotlib takes half a second to load, and most runs draw little
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, TINT = "#23272e", "#6e7681", "#d9dde2", "#e9f0f2"
COOL, WARM = "#1f6f8b", "#c9702b"
"""The palette: text, secondary text, lines, surfaces; and two colours, which layers run between from first to
last."""
WIDE, NARROW = 7.2, 3.6
"""Width of a picture on a page, and of one for a telephone, in inches."""
LINE, LEGEND_OFFSET = 0.19, 0.48
"""Height of one line of a legend, and from the axis down to the first, in inches."""
FONT_SIZE = 8.5
"""Points, of the smallest text: at least 8 on A4, whose column is a little narrower than `WIDE`."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def layer_colours(n: int) -> list[str]:
    """Colours of n layers, from cool to warm."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    ramp = LinearSegmentedColormap.from_list("depth", [COOL, "#8a6d9c", WARM])
    return [to_hex(ramp(i / max(1, n - 1))) for i in range(n)]


def style(width: float = WIDE) -> AbstractContextManager[None]:
    """Matplotlib's settings for pictures of one width; they are drawn and saved inside it."""
    from matplotlib import rc_context

    return rc_context(
        {
            "figure.figsize": (width, width),  # pictures choose their own height
            "figure.constrained_layout.hspace": 0.08,  # a title does not touch the legend above it
            "axes.edgecolor": RULE,
            "axes.labelcolor": MUTED,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": 9.5,
            "font.size": FONT_SIZE,
            "grid.color": RULE,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelsize": FONT_SIZE,
            "ytick.labelsize": FONT_SIZE,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "xtick.minor.size": 0,
            "ytick.minor.size": 0,
        }
    )


def panels_of(n: int, height: float, stacked: bool = False) -> tuple["Figure", list["Axes"]]:
    """A figure of n panels, which needs no display.

    Args:
        n: how many.
        height: of the figure while they stand side by side.
        stacked: one above the other even on a wide page.
    """
    from matplotlib.figure import Figure

    if _is_narrow() and not stacked:
        stacked, height = True, n * height
    figure = Figure(layout="constrained")
    figure.set_figheight(height)
    rows, columns = (n, 1) if stacked else (1, n)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def save_png(figure: "Figure", file: Path) -> None:
    """Write a picture on white, whole or not at all; the folders it lies in are made.

    Raises:
        RequestError: it cannot be written.
    """
    with written_output(file) as target:
        figure.savefig(target, dpi=150, facecolor="white", format="png")


def _is_narrow() -> bool:
    from matplotlib import rcParams

    return bool(rcParams["figure.figsize"][0] < WIDE)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` values around each one, over fewer at the ends; float64 (n,) -> (n,)."""
    window = min(window, len(values))
    if window < 2:
        return values
    sums, counts = (np.convolve(x, np.ones(window), "same") for x in (values, np.ones_like(values)))
    means: NDArray[np.float64] = sums / counts
    return means


def step_axis(axes: "Axes") -> None:
    """The horizontal axis counts optimiser steps."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def log_axis(axes: "Axes", margin: float = 1.6) -> None:
    """Make the vertical axis logarithmic, with a margin around the lines drawn, and ticks for their range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    values = np.concatenate([[], *(np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines)])
    drawable = np.isfinite(values) & (values > 0)
    positive = values[drawable] if drawable.any() else np.ones(1)
    axes.set_ylim(positive.min() / margin, positive.max() * margin)
    decades = math.log10(positive.max() / positive.min())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1,)))
    # Over less than a decade Matplotlib puts ticks between the locator's: 1.5, 2, 2.5.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: scientific(value, 2)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def scientific(value: float, digits: int = 1) -> str:
    """A number as print has it, to so many decimals: 0.02 or 30 as they are, else 8.4×10⁻⁵ or 10⁻⁵."""
    if value == 0 or 0.01 <= abs(value) < 1000 or not math.isfinite(value):
        return f"{value:.{digits + 1}g}".replace("-", "−")
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}×{power}".replace("-", "−")


def legend_below(axes: "Axes", columns: int = 1) -> None:
    """Put a legend, if there is anything to name, under the axis label; narrow, of at most 2 columns."""
    from matplotlib.transforms import ScaledTranslation

    if not axes.get_legend_handles_labels()[1]:
        return
    assert axes.figure is not None
    below = axes.transAxes + ScaledTranslation(0, -LEGEND_OFFSET, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=below,
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
        ncols=min(columns, 2) if _is_narrow() else columns,
    )
