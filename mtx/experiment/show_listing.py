"""The texts of `task=show`: the trees of the store, and the list of runs; each line is at most as wide as asked for."""

import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len, chop_cells, set_cell_size

from mtx.data.store_tree import TreeNode
from mtx.progress.formatting import size_text
from mtx.records.run_list import ListedEntry, ListedRun, started_seconds
from mtx.redaction_and_escaping import safe_line

INDENT = 2  # columns of one level of a tree
MAX_INDENT = 20  # columns; deeper levels are not indented further
GAP = "  "
MAX_RUNS = 12  # lines of the list of runs
AGES = ((60, "s", 1), (3600, "min", 60), (86_400, "h", 3600), (60 * 86_400, "d", 86_400))  # limit, unit, its seconds
MONTH_S, YEAR_S = 30 * 86_400, 365 * 86_400
METRICS = {"bits_per_byte": "{:.3f} bits/byte", "padding_ratio": "padding {:.1%}"}
MAX_RESULT = 18  # columns of a result with a metric of a user
HEADINGS = ("pairs", "size", "age", "runs")


def age_text(then: float | None, now: float) -> str:
    """Return the time since `then` in one unit, such as `3 h` or `12 d`; `–` if `then` is not known."""
    if then is None:
        return "–"
    seconds = max(now - then, 0.0)
    for limit, unit, each in AGES:
        if seconds < limit:
            return f"{int(seconds // each)} {unit}"
    if seconds < 2 * YEAR_S:
        return f"{int(seconds // MONTH_S)} months"
    return f"{int(seconds // YEAR_S)} years"


def fitted(text: str, width: int) -> str:
    """Return a text of any content as one visible line of at most `width` columns; `…` stands for what is left out."""
    width = max(1, width)
    shown = safe_line(text[: 4 * width].replace("\n", " ").replace("\t", " "))
    if cell_len(shown) <= width and len(text) <= 4 * width:
        return shown
    return f"{set_cell_size(shown, width - 1).rstrip()}…"


def tree_lines(
    roots: Sequence[TreeNode], listed: Container[str], uses: Mapping[str, int], width: int, now: float
) -> Iterator[str]:
    """Yield the lines of all trees with a listed item: a heading for each corpus, and a line for each listed item.

    Args:
        roots: the trees, in the order of their lines.
        listed: ids of the items to list.
        uses: number of runs that used an item, by id.
        width: columns of a line; an id that does not fit is continued in the next line.
        now: the present time, in seconds since 1970.
    """
    nodes = [[node for node in root.walk() if node.item.id in listed] for root in roots]
    cells = {node.item.id: _cells(node, uses, now) for own in nodes for node in own}
    widths = [max(map(len, (title, *column))) for title, *column in zip(HEADINGS, *cells.values(), strict=True)]
    room = max(1, width - sum(widths) - len(GAP) * len(widths))
    for root, own in zip(roots, nodes, strict=True):
        if not own:
            continue
        yield ""
        yield from _heading(root, sum(node.item.num_bytes for node in own), width)
        titles = "".join(GAP + title.rjust(of) for title, of in zip(HEADINGS, widths, strict=True))
        yield f"{'':{room}}{titles}"
        top = min(node.depth for node in own)
        for node in own:
            numbers = "".join(GAP + cell.rjust(of) for cell, of in zip(cells[node.item.id], widths, strict=True))
            indent = " " * min(INDENT * (node.depth - top), MAX_INDENT)
            *before, last = chop_cells(node.item.id, max(1, room - len(indent)))
            yield from (f"{indent}{part}" for part in before)
            yield f"{(indent + last):{room}}{numbers}"


def _heading(root: TreeNode, num_bytes: int, width: int) -> Iterator[str]:
    """Yield the name of a corpus with its languages and size, and the revision of its source."""
    item = root.item
    if item.dataset is None:
        yield fitted(f"{item.kind} without a corpus, {size_text(num_bytes)}", width)
        return
    end = f"  {'→'.join(fitted(name, 12) for name in item.dataset.languages)}, {size_text(num_bytes)}"
    yield f"{fitted(item.dataset.name or 'without a name', width - cell_len(end))}{end}"
    if item.inputs:
        yield f"  {fitted('from ' + ', '.join(item.inputs), width - 2)}"


def _cells(node: TreeNode, uses: Mapping[str, int], now: float) -> tuple[str, str, str, str]:
    item = node.item
    pairs = f"{item.dataset.n:,}" if item.dataset and item.dataset.n is not None else ""
    return pairs, size_text(item.num_bytes), age_text(item.written, now), f"{uses.get(item.id, 0):,}"


def use_counts(entries: Sequence[ListedEntry]) -> Counter[str]:
    """Return for each id of a dataset or artifact the number of runs and jobs that used it."""
    return Counter(name for entry in entries for run in entry.runs for name in run.used)


def run_lines(entries: Sequence[ListedEntry], roots: Sequence[Path], width: int, now: float) -> Iterator[str]:
    """Yield the lines of the list of runs: the newest `MAX_RUNS` runs and sweeps, and how to see older ones.

    Args:
        entries: runs and sweeps, the newest first.
        roots: folders in which they were found.
        width: columns of a line.
        now: the present time, in seconds since 1970.
    """
    where = ", ".join(fitted(str(root), width) for root in roots)
    if not entries:
        yield f"No run in {where}. Other folders: mtx task=show 'runs=[FOLDER]'"
        return
    num_sweeps = sum(entry.is_sweep for entry in entries)
    kinds = ((len(entries) - num_sweeps, "run"), (num_sweeps, "sweep"))
    told = " and ".join(f"{number:,} {kind}{'s' * (number != 1)}" for number, kind in kinds if number)
    yield f"{told} in {where}, the newest first"
    yield from entry_lines(entries, width, now)


def entry_lines(entries: Sequence[ListedEntry], width: int, now: float) -> Iterator[str]:
    """Yield a table of the first `MAX_RUNS` runs and sweeps, and the number of the others; nothing if there are none.

    A folder that does not fit in the line is in the next line, so that it can be copied.
    """
    if not entries:
        return
    shown = entries[:MAX_RUNS]
    rows = [(age_text(started_seconds(each), now), *entry_texts(each)) for each in shown]
    titles = ("age", "task", "state", "result")
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    for cells, folder in zip([titles, *rows], ["folder", *(str(each.folder) for each in shown)], strict=True):
        line = GAP.join(_padded(cell, of) for cell, of in zip(cells, widths, strict=True))
        yield from with_path(f"{line} ", folder, width)
    if len(entries) > len(shown):
        yield f"and {len(entries) - len(shown):,} older. A page of all: mtx task=compare 'runs=[FOLDER]'"


def with_path(text: str, path: str, width: int) -> list[str]:
    """Return a text with a path behind it, or with the whole path in lines of its own if the line has no room."""
    shown = safe_line(path)
    if cell_len(text) + 1 + cell_len(shown) <= width:
        return [f"{text} {shown}"]
    return [text.rstrip(), *(f"    {part}" for part in chop_cells(shown, max(2, width - 4)))]


def entry_texts(entry: ListedEntry) -> tuple[str, str, str]:
    """Return task, state and result of a run or a sweep as texts."""
    if not entry.is_sweep:
        (run,) = entry.runs
        return fitted(run.task or "–", 12), fitted(run.state or "–", 11), _result(run)
    states = Counter(run.state for run in entry.runs)
    planned = max(entry.num_planned or 0, len(entry.runs))
    tasks = sorted({run.task for run in entry.runs if run.task})
    others = [f"{states[state]} {state}" for state in ("failed", "running") if states[state]]
    return fitted(", ".join(tasks) or "–", 12), f"{states['completed']}/{planned} done", ", ".join(others)


def _result(run: ListedRun) -> str:
    for name, value in run.objectives.items():
        text = METRICS[name].format(value) if name in METRICS else f"{fitted(name, MAX_RESULT - 10)} {value:.4g}"
        return fitted(text, MAX_RESULT)
    return ""


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def present_time() -> float:
    """Return the present time in seconds since 1970."""
    return time.time()
