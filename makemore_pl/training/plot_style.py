"""How this project's pictures look: one palette, panels and legends."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Matplotlib takes half a second to load, and most runs draw little
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#23272e", "#6e7681", "#d9dde2"
COOL, WARM = "#1f6f8b", "#c9702b"
"""The palette: text, secondary text, lines; and two colours, between which layers run from first to last."""
WIDE, NARROW = 7.2, 3.6
"""Width of a picture on a page, and of one for a telephone, in inches."""
LINE, LEGEND_OFFSET = 0.19, 0.48
"""Height of one line of a legend, and from the axis down to the first, in inches."""


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
            "axes.edgecolor": RULE,
            "axes.labelcolor": MUTED,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": 9.5,
            "font.size": 8.5,
            "grid.color": RULE,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "text.color": INK,
            "xtick.color": MUTED,
            "xtick.labelsize": 8,
            "ytick.color": MUTED,
            "ytick.labelsize": 8,
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
    rows, columns = (n, 1) if stacked else (1, n)
    figure = Figure(figsize=(_width(), height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _width() -> float:
    from matplotlib import rcParams

    return float(rcParams["figure.figsize"][0])


def _is_narrow() -> bool:
    return _width() < WIDE


def legend_below(axes: "Axes", columns: int = 1) -> None:
    """A legend under the axis label, whatever the axes' height; of at most 2 columns where it is narrow."""
    from matplotlib.transforms import ScaledTranslation

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
