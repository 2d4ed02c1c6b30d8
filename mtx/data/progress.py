"""Progress of long stages on a terminal; silent elsewhere."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from mtx.shown import redacted, shown

ISOLATED = re.compile("[^\u2068\u2069]+")


class PlainConsole(Console):
    """Prints texts as they are: `[red]` and `:smile:` are characters like any others, controls are made visible.

    In tables, titles and `Text`s too, where only the marks that isolate a line's direction stay.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(redacted(text)), **options)

    @override
    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            visible = ISOLATED.sub(lambda found: shown(found[0]), segment.text)
            yield segment if segment.control or visible == segment.text else Segment(visible, segment.style)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that something is under way whose progress is not known, on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with PlainConsole(stderr=True).status(f"{description} …"):
        yield


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        num_mb = task.fields["num_bytes"] / 2**20
        return Text(f"{task.speed:,.0f} pairs/s, {num_mb / task.elapsed:,.1f} MB/s" if task.elapsed else "")


def track(batches: Iterable[pa.RecordBatch], description: str, total: int | None = None) -> Iterator[pa.RecordBatch]:
    """Hand record batches on while a bar on stderr counts their rows and bytes, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield from batches
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=PlainConsole(stderr=True), transient=True) as progress:
        task, num_bytes = progress.add_task(shown(description), total=total, num_bytes=0), 0
        for batch in batches:
            yield batch
            num_bytes += batch.nbytes
            progress.update(task, advance=batch.num_rows, num_bytes=num_bytes)
