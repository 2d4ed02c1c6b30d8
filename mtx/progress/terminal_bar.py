"""A progress bar on the terminal for the current work.

Import this module only if there is a terminal, because it imports rich.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from mtx.progress.formatting import amount, duration
from mtx.progress.literal_console import PlainConsole
from mtx.redaction_and_escaping import visible_text

BAR_CELLS = 20
NARROW = 100  # terminal columns; with fewer columns, the bar is half as long
MIN_BAR_CELLS = 4
GAP = "  "


@dataclass(frozen=True, kw_only=True)
class BarState:
    """The state of a progress bar.

    Attributes:
        label: description of the work.
        done: completed amount, in `unit`.
        total: total amount, in `unit`; None: unknown.
        unit: the counted unit; None: the work is not countable.
        elapsed_s: seconds since the work began.
        left_s: estimated seconds until the end; None: unknown.
        metrics: further figures, the most important first; those that do not fit are omitted.
    """

    label: str
    done: float = 0
    total: float | None = None
    unit: str | None = None
    elapsed_s: float = 0.0
    left_s: float | None = None
    metrics: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label, cells, figures = bar_layout(self, options.max_width)
        yield Text(f"{label} ", end="")
        yield ProgressBar(self.total, min(self.done, self.total or self.done), width=cells)
        yield Text(figures, no_wrap=True, overflow="crop")


def bar_layout(state: BarState, width: int) -> tuple[str, int, str]:
    """Return the label, the length of the bar, and the figures after it, which together fit in `width` cells.

    Metrics that do not fit are omitted, from the right. Label, bar, amount and time are always shown. If they do not
    fit, the bar is shortened first, and then the end of the label is cut off.
    """
    counted = [] if state.unit is None else [amount(state.done, state.total, state.unit)]
    known = state.total is not None
    time = f"{'-:--' if state.left_s is None else duration(state.left_s)} left" if known else duration(state.elapsed_s)
    figures = GAP + GAP.join([*counted, time])
    cells = BAR_CELLS if width >= NARROW else BAR_CELLS // 2
    label = visible_text(state.label)
    room = width - cell_len(label) - 1 - len(figures)
    if room < cells:
        cells = max(room, MIN_BAR_CELLS)
        return set_cell_size(label, max(cell_len(label) + room - cells, 1)) if room < cells else label, cells, figures
    room -= cells
    for metric in state.metrics:
        if len(GAP) + cell_len(metric) > room:
            break
        figures += GAP + metric
        room -= len(GAP) + cell_len(metric)
    return label, cells, figures


class Bar:
    """A progress bar on a terminal, which disappears when closed. It has no thread: call `draw` to update it.

    Args:
        console: the terminal; None: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or PlainConsole(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    def draw(self, state: BarState) -> None:
        """Draw the bar in the given state."""
        self._live.update(state, refresh=True)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._live.stop()
