"""Base of all plots: matplotlib figures as SVG inside the page, in its fonts and its light or dark colours.

Equal data give equal bytes. pyplot, which has global state, is not used. matplotlib is imported when the first plot is
drawn, because the import takes half a second.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtx.redaction_and_escaping import visible_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 340  # width of a plot in SVG units; on a phone, a unit is about one CSS pixel
HEIGHT = 220
POINTS_PER_INCH = 72
MAX_LABEL_CHARS = 28  # characters of a label

# Placeholder colours. The page replaces them by its variables --plot-00 and so on, which style.css.j2 defines for light
# and for dark mode. Plots must not use other colours.
COLOUR = "#fe00{:02x}"
INK, FAINT, GRID = (COLOUR.format(number) for number in (0, 1, 2))
SERIES = tuple(COLOUR.format(number) for number in range(16, 24))  # distinguishable with colour blindness, too
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # one for each colour, so that colour is not the only code
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))

SETTINGS: Any = {
    "svg.hashsalt": "mtx",  # ids in the SVG are hashes; a fixed salt keeps them the same in each run
    "svg.fonttype": "none",  # write text as text, not as outlines
    "text.parse_math": False,  # show a $ in a name as $
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],  # matplotlib includes this font; used only to measure texts
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

SVG_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)  # XML declaration and document type
REMOVED_PARTS = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style\b.*?</style>", re.DOTALL)
ZERO_ROTATION = re.compile(r' transform="rotate\(-?0 [^"]*"')
SIZE = re.compile(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"')
FONT = re.compile(r"font-family: [^;\"]*;? ?|font: ([\d.]+px)[^;\"]*(?=[;\"])")
STYLE = re.compile(r'style="[^"]*"')
PLACEHOLDER_COLOUR = re.compile(r"#fe00([0-9a-f]{2})")
IDENTIFIER = re.compile(r' id="([^"]*)"')
REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
GEOMETRY = re.compile(r' (?:d|x|y|points|transform)="[^"]*"')
LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
WHITE_SPACE = re.compile(r"\n\s*")


@dataclass(frozen=True)
class Plot:
    """A plot for the page.

    Attributes:
        svg: The SVG markup.
        label: The description of the plot for screen readers.
    """

    svg: str
    label: str


class Figures:
    """Draws the plots of one page; the ids inside each SVG are unique on the page."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self, paint: Callable[["Figure"], None], *, label: str, height: float = HEIGHT) -> Plot:
        """Return the plot that `paint` draws on a figure of `WIDTH` times `height` SVG units."""
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self._drawn += 1
        file = io.StringIO()
        with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # characters missing in the measuring font; layouts with too little room
            figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
            FigureCanvasSVG(figure)
            paint(figure)
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        return Plot(_page_svg(file.getvalue(), f"plot{self._drawn}-"), label)


def add_legend(figure: "Figure", axes: "Axes", *, columns: int = 2) -> None:
    """Add a legend above `axes`, outside of the data; do nothing if no series has a name."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside upper left", ncols=columns, borderaxespad=0, columnspacing=1.2)


def short_name(text: str, longest: int = MAX_LABEL_CHARS) -> str:
    """Return a name as one line of at most `longest` characters, for labels in a plot."""
    line = " ".join(visible_text(text).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def abbreviate_numbers(axes: "Axes", *, x: bool = True, y: bool = False) -> None:
    """Abbreviate large numbers along an axis, as 20 k and 1.5 M; numbers below 1,000 stay as they are."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    large = EngFormatter(sep=" ")

    for wanted, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if wanted:
            axis.set_major_formatter(FuncFormatter(lambda x, at: large(x, at) if abs(x) >= 1000 else f"{x:g}"))
            axis.set_major_locator(MaxNLocator(5))


def series_style(number: int) -> tuple[str, str]:
    """Return the colour and the marker of a series by its number."""
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


def _page_svg(svg: str, prefix: str) -> str:
    """Return the SVG of a file as part of a page: no file header or fonts, unique ids, and the page's colours."""
    svg = REMOVED_PARTS.sub("", SVG_HEAD.sub("", svg))
    svg = ZERO_ROTATION.sub("", svg)
    svg = SIZE.sub(r"\1", svg, count=1)
    svg = STYLE.sub(lambda found: _page_style(found[0]), svg)
    referred = {found[2] for found in REFERENCE.finditer(svg)}
    svg = IDENTIFIER.sub(lambda found: f' id="{prefix}{found[1]}"' if found[1] in referred else "", svg)
    svg = REFERENCE.sub(lambda found: f"{found[1]}{prefix}{found[2]}", svg)
    svg = GEOMETRY.sub(lambda found: LONG_NUMBER.sub(lambda long: f"{float(long[0]):.1f}", found[0]), svg)
    return WHITE_SPACE.sub("\n", svg).strip()


def _page_style(style: str) -> str:
    style = FONT.sub(lambda found: f"font-size: {found[1]}" if found[1] else "", style)
    return PLACEHOLDER_COLOUR.sub(lambda found: f"var(--plot-{found[1]})", style)
