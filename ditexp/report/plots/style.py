"""How all figures look: fonts, colours, line styles, axes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ditexp.report.tables.table import Table
from ditexp.report.titles import swept
from ditexp.terminal.escape import for_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Dash = tuple[float, ...]  # lengths of lines and gaps, in line widths; empty for a solid line

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # Okabe and Ito
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES: list[Dash] = [(), (4, 1.5), (1, 1.2), (6, 1.5, 1, 1.5)]
INK, GREY, FAINT = "#222222", "#707070", "#e6e6e6"
MAX_LINES = 40  # of a figure, more than a reader can tell apart
AXIS_LABELS = {"forwards": "network evaluations per image", "seconds_per_image": "seconds per image"}


@dataclass(frozen=True)
class LineStyle:
    color: str
    marker: str
    dash: Dash

    @property
    def linestyle(self) -> str | tuple[float, Dash]:
        """As matplotlib has it."""
        return (0, self.dash) if self.dash else "-"


@contextmanager
def house_style() -> Generator[None]:
    """The look of figures, in which no text is read as mathematics. Needed to draw and to save."""
    import matplotlib

    style: dict[Any, Any] = {
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.7,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(style):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a PNG. Characters that the font lacks become boxes; the page and the tables have the text itself.

    `Figure.savefig` draws twice, the first time for the layout alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.patch.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(path, "png", dpi=(figure.dpi, figure.dpi))


def line_styles(table: Table, rows: Sequence[int]) -> dict[str, LineStyle]:
    """A style for each `table.labels`: a colour per solver, or per label if all are of one solver.

    Markers and dashes tell the lines of a solver apart, and solvers that share a colour.
    """
    labels = list(dict.fromkeys(table.labels[row] for row in rows))
    solver_of = {table.labels[row]: table.rows[row].settings["solver"] for row in rows}
    hues = list(dict.fromkeys(solver_of.values()))
    if len(hues) == 1:
        solver_of, hues = {label: label for label in labels}, labels
    labels = sorted(labels, key=lambda label: hues.index(solver_of[label]))
    seen = dict.fromkeys(hues, 0)
    styles = {}
    for label in labels:
        hue = solver_of[label]
        # More hues than colours: the second round of the palette gets the next marker and dash.
        variant = seen[hue] + hues.index(hue) // len(PALETTE)
        seen[hue] += 1
        styles[label] = LineStyle(
            color=PALETTE[hues.index(hue) % len(PALETTE)],
            marker=MARKERS[variant % len(MARKERS)],
            dash=DASHES[variant % len(DASHES)],
        )
    return styles


def titled(heading: str, table: Table, *, width: int) -> str:
    """A heading with what was swept, in lines of at most `width` characters."""
    return for_picture(f"{heading}: {swept([member for row in table.rows for member in row.members])}", width)


def scale_axis(ax: Axes, axis: Literal["x", "y"], values: Sequence[float], *, log_beyond: float) -> None:
    """Make room for labels, up to ticks at both ends.

    The axis is logarithmic if max(values) > log_beyond * min(values) and all are positive.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(values), max(values)
    limits = {"x": ax.set_xlim, "y": ax.set_ylim}[axis]
    ticks = {"x": ax.xaxis, "y": ax.yaxis}[axis]
    if low <= 0 or high <= log_beyond * low:
        room = 0.12 * (high - low) or 0.1 * abs(high) or 1
        places = MaxNLocator(7).tick_values(low - room, high + room)
        limits(places[0], places[-1])
        ticks.set_major_locator(FixedLocator(places))
        return
    {"x": ax.set_xscale, "y": ax.set_yscale}[axis]("log")
    room = max((high / low) ** 0.1, 1.3)
    subs = (1, 2, 5) if high / low < 300 else (1,)
    limits(*log_ends(low / room, high * room, subs))
    ticks.set_major_locator(LogLocator(subs=subs, numticks=12))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_locator(NullLocator())


def log_ends(low: float, high: float, subs: Sequence[int]) -> tuple[float, float]:
    """The next ticks below and above: multiples of powers of ten."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    places = [sub * 10.0**power for power in powers for sub in subs]
    return max(place for place in places if place <= low), min(place for place in places if place >= high)
