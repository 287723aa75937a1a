"""One look for all figures: the Okabe-Ito colours, sizes legible at 800 px, and the drawing of a Figure to
PNG.

Figures are made with matplotlib's object-oriented API on the Agg canvas, without pyplot and its global state,
so that they can be drawn in a worker process without a screen.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

P = ParamSpec("P")

# Okabe & Ito (2008), "Color Universal Design": distinguishable with the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, BLACK, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#222222", "#8a8a8a"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DENSITY_MAP = "cividis"  # perceptually uniform, made for colour-vision deficiency

WIDTH_IN = 8.0  # at 100 dpi this is the 800 px of the page, so that 10 pt reads as 14 px
DPI = 150
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.7,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "image.cmap": DENSITY_MAP,
    "legend.fontsize": 9.5,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.frameon": True,
    "lines.linewidth": 1.6,
    "mathtext.default": "regular",
    "savefig.facecolor": "white",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws under the house style and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure on the Agg canvas with constrained layout, sizes in inches."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_of(height_in: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure with its panels, as `Figure.subplots` gives them with these options."""
    figure = new_figure(height_in)
    return figure, figure.subplots(rows, columns, **options)


def empty_figure(height_in: float) -> Figure:
    """A figure of one panel that says that there is nothing to draw."""
    figure, axes = figure_of(height_in)
    empty_note(axes)
    return figure


def panel_grid(
    n: int, at_most: int, row_in: float, margin_in: float = 0.0, **options: Any
) -> tuple[Figure, np.ndarray, int]:
    """A figure with a panel for each of n things, row by row; without any, the first panel says so.

    Args:
        n: things.
        at_most: columns.
        row_in: height of a row [inch].
        margin_in: further height [inch].
        options: of `Figure.subplots`.

    Returns:
        The figure; its panels, of which those beyond n are invisible; the number of columns.
    """
    columns = min(at_most, max(n, 1))
    rows = -(-max(n, 1) // columns)
    figure, grid = figure_of(row_in * rows + margin_in, rows, columns, squeeze=False, **options)
    panels = grid.ravel()
    for axes in panels[max(n, 1) :]:
        axes.set_visible(False)
    if not n:
        empty_note(panels[0])
    return figure, panels, columns


def figure_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG bytes; no date or software version in the metadata, so that equal figures are equal
    bytes.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def figure_pdf(figure: Figure) -> bytes:
    """The figure as PDF bytes, dots and maps within it as pixels; equal figures are equal bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="pdf", dpi=DPI, metadata={"CreationDate": None, "Producer": None})
    return buffer.getvalue()


def note(axes: Axes, text: str, x: float = 0.03, y: float = 0.96, **options: object) -> None:
    """A text box in axes coordinates, upper left unless told otherwise."""
    placed = {"ha": "left", "va": "top", "fontsize": 9.5, **options}
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2.0}
    axes.text(x, y, text, transform=axes.transAxes, bbox=box, zorder=5, **placed)


def empty_note(axes: Axes, text: str = "no sources") -> None:
    """Says in the middle of the panel that there is nothing to draw, in place of an unexplained blank."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def finite(values: object) -> np.ndarray:
    """The finite values, flattened, as float64."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def n_bins(n_values: int, at_most: int = 50) -> int:
    """Bins of a histogram: few for few values (3 n^(1/3)), within 8 and `at_most`."""
    return int(np.clip(3.0 * max(n_values, 1) ** (1.0 / 3.0), 8, at_most))


def clipped_histogram(
    axes: Axes, values: np.ndarray, low: float, high: float, at_most: int = 50, **look: Any
) -> None:
    """A histogram between two limits, of `n_bins` bins; values beyond the limits are counted in the end bins."""
    edges = np.linspace(low, high, n_bins(values.size, at_most) + 1).tolist()
    axes.hist(np.clip(values, low, high), edges, **look)


def ks_band(axes: Axes, n: int, **options: Any) -> None:
    """What 95 % of calibrated samples of n sources stay within beside the diagonal, by Kolmogorov's distribution."""
    band = 1.358 / np.sqrt(n)
    axes.fill_between([0, 1], [-band, 1 - band], [band, 1 + band], color=GREY, alpha=0.25, lw=0, **options)


def name_at(axes: Axes, x: float, height: float, text: str, **options: Any) -> None:
    """A name at a place on the x axis, at a height in units of the panel."""
    axes.text(x, height, text, transform=axes.get_xaxis_transform(), **options)


def whole_counts(axes: Axes) -> None:
    """Ticks at whole numbers on a y axis that counts sources."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def legend(axes: Axes, **options: Any) -> None:
    """A legend where something has a label; a panel without sources has nothing, of which matplotlib would warn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def shares_below(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The empirical CDF: the values in order, and the share of them up to each."""
    return np.sort(values), np.arange(1, values.size + 1) / max(values.size, 1)


def cumulative(axes: Axes, values: np.ndarray) -> Axes:
    """Adds the empirical CDF of `values` on a twin axis, as in the paper's Figs. 6 and 18."""
    twin = axes.twinx()
    twin.plot(*shares_below(values), color=VERMILION, lw=1.6)
    twin.set_ylim(0.0, 1.02)
    twin.set_ylabel("cumulative fraction", color=VERMILION)
    twin.tick_params(axis="y", colors=VERMILION)
    twin.spines["right"].set_visible(True)
    twin.spines["right"].set_color(VERMILION)
    twin.grid(visible=False)
    return twin
