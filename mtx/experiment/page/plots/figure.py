"""SVG that lives inside the page: in its colours, light or dark, with its fonts, and the same bytes for the same data.

No pyplot, so no state that outlives a drawing. Importing this imports matplotlib, which takes about half a second.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mtx.shown import shown

WIDTH = 340  # of a plot, in the units of its fonts: a phone shows it at about its own size
HEIGHT = 220
POINTS_AN_INCH = 72
LONGEST_LABEL = 28  # characters

# Colours that stand for those of the page, which style.css.j2 names --plot-00 and so on, once for light and once for
# dark. No others may be used.
COLOUR = "#fe00{:02x}"
INK, FAINT, GRID = (COLOUR.format(number) for number in (0, 1, 2))
SERIES = tuple(COLOUR.format(number) for number in range(16, 24))  # told apart by colour-blind people too
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # goes with the colour, for those who see none
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))

SETTINGS: Any = {
    "svg.hashsalt": "mtx",  # names inside the SVG are hashes, which must not be random
    "svg.fonttype": "none",  # texts stay texts
    "text.parse_math": False,  # a $ in a name is a $
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib; only to measure texts
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "figure.constrained_layout.use": True,
}

HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)  # XML and document type
NOT_KEPT = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style\b.*?</style>", re.DOTALL)
NO_TURN = re.compile(r' transform="rotate\(-?0 [^"]*"')
SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"')
FONT = re.compile(r"font-family: [^;\"]*;? ?|font: ([\d.]+px)[^;\"]*(?=[;\"])")
STYLE = re.compile(r'style="[^"]*"')
STAND_IN = re.compile(r"#fe00([0-9a-f]{2})")
IDENTIFIER = re.compile(r' id="([^"]*)"')
REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
GEOMETRY = re.compile(r' (?:d|x|y|points|transform)="[^"]*"')
LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
WHITE_SPACE = re.compile(r"\n\s*")


@dataclass(frozen=True)
class Plot:
    """A plot for the page.

    Attributes:
        svg: its markup.
        label: what it shows, for people who do not see it.
    """

    svg: str
    label: str


class Figures:
    """Draws the plots of one page, each with names of its own inside."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self, paint: Callable[[Figure], None], *, label: str, height: float = HEIGHT) -> Plot:
        """Return the plot that `paint` paints onto a figure; `height` in the units of `WIDTH`."""
        self._drawn += 1
        file = io.StringIO()
        with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # letters that the measuring font lacks; a layout with too little room
            figure = Figure(figsize=(WIDTH / POINTS_AN_INCH, height / POINTS_AN_INCH), dpi=POINTS_AN_INCH)
            FigureCanvasSVG(figure)
            paint(figure)
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        return Plot(_adapted(file.getvalue(), f"plot{self._drawn}-"), label)


def legend(figure: Figure, axes: Axes, *, columns: int = 2) -> None:
    """Put the names of what `axes` shows above it, where they hide nothing."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside upper left", ncols=columns, borderaxespad=0, columnspacing=1.2)


def name(text: str, longest: int = LONGEST_LABEL) -> str:
    """Return a name as a plot can hold it: one line, of at most `longest` characters."""
    line = " ".join(shown(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def short_numbers(axes: Axes, *, x: bool = True, y: bool = False) -> None:
    """Write large numbers along an axis as 20 k and 1.5 M."""
    for wanted, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if wanted:
            axis.set_major_formatter(EngFormatter(sep=" "))
            axis.set_major_locator(MaxNLocator(5))


def style_of(number: int) -> tuple[str, str]:
    """Return the colour and the marker of series `number`."""
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


def numbering(values: Sequence[object]) -> dict[object, int]:
    """Number different values in the order in which they come."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _adapted(svg: str, prefix: str) -> str:
    """Take from an SVG file what belongs to files, and put in what belongs to the page."""
    svg = NOT_KEPT.sub("", HEAD.sub("", svg))
    svg = NO_TURN.sub("", svg)
    svg = SIZE.sub(r"\1", svg, count=1)
    svg = STYLE.sub(lambda found: _in_page_style(found[0]), svg)
    referred = {found[2] for found in REFERENCE.finditer(svg)}
    svg = IDENTIFIER.sub(lambda found: f' id="{prefix}{found[1]}"' if found[1] in referred else "", svg)
    svg = REFERENCE.sub(lambda found: f"{found[1]}{prefix}{found[2]}", svg)
    svg = GEOMETRY.sub(lambda found: LONG_NUMBER.sub(lambda long: f"{float(long[0]):.1f}", found[0]), svg)
    return WHITE_SPACE.sub("\n", svg).strip()


def _in_page_style(style: str) -> str:
    style = FONT.sub(lambda found: f"font-size: {found[1]}" if found[1] else "", style)
    return STAND_IN.sub(lambda found: f"var(--plot-{found[1]})", style)
