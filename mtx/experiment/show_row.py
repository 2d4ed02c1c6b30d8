"""The part of `task=show` for one row: its raw row and texts, its scores, what keeps or drops it, and its source."""

import json
from typing import Any, cast

from rich.table import Table
from rich.text import Text

from mtx.components.identity import JSON
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.row_trace import RowTrace, drop_reason, found_dataset, memberships, row_trace, scores_of, texts_of
from mtx.data.store import Store
from mtx.errors import ConfigError, MtxError
from mtx.experiment.run_context import Run
from mtx.infra.dal.row_views import ROW_COLUMN
from mtx.infra.dataset.sources.translation_directions import SWAPPED
from mtx.redaction_and_escaping import visible_text

UNKNOWN_RULE = "dropped; to see the rule, add the filter=… options with which it was built"
MAX_CHARS = 2000  # characters of a text in the table; format=json gives the whole text


def show_row(
    run: Run, store: Store, *, dataset: str | None, row: int | None, stage: str | None, split: str | None, as_json: bool
) -> None:
    """Print what is known of one row of a dataset.

    Args:
        run: the run of the task. If its overrides choose a filter or a downloader, these tell the rule and the line.
        store: the store.
        dataset: id of the dataset, or its name if that is unique in the stage and split.
        row: number of the row, from 0.
        stage: restricts datasets with the name `dataset`.
        split: restricts datasets with the name `dataset`.
        as_json: print JSON instead of a table.

    Raises ConfigError, NotStoredError or DamagedError.
    """
    if dataset is None or row is None:
        raise ConfigError(
            "task=show shows one row by both: mtx task=show dataset=ID row=0. mtx task=show lists the ids"
        )
    trace = row_trace(store.repo, found_dataset(store.repo, dataset, stage, split), row)
    found = _described(run, store, trace)
    if as_json:
        run.console.print(json.dumps(found, indent=1), highlight=False, soft_wrap=True, markup=False)
        return
    table = Table(show_header=False, show_lines=True, title=f"row {row} of {trace.dataset.id}", title_justify="left")
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold")
    for key, value in _lines(found):
        table.add_row(key, Text(visible_text(value if len(value) <= MAX_CHARS else f"{value[:MAX_CHARS]}…")))
    run.console.print(table)


def _described(run: Run, store: Store, trace: RowTrace) -> dict[str, JSON]:
    repo = store.repo
    raw = repo.get(trace.raw.id).rows[trace.raw_row]
    found: dict[str, Any] = {"dataset": trace.dataset.id, "row": trace.row, "name": trace.raw.name}
    found |= {"raw": trace.raw.id, "raw_row": trace.raw_row, "languages": list(trace.raw.languages)}
    found["raw_source"], found["raw_target"] = raw["src"], raw["tgt"]
    columns = {name: value for name, value in raw.items() if name not in ("src", "tgt", ROW_COLUMN)}
    found["columns"] = {name: _plain(value) for name, value in columns.items()}
    if trace.text is None:
        found["texts"] = [text.id for text in texts_of(repo, trace.raw)]
    else:
        text = repo.get(trace.text.id).rows[trace.raw_row]
        found |= {"text": trace.text.id, "source": text["src"], "target": text["tgt"]}
        found["scores"] = {
            name: {column: _plain(value) for column, value in of.items()}
            for name, of in scores_of(repo, trace.text, trace.raw_row).items()
        }
    given = run.build("filter") if "filter" in run.config else None
    found["kept_in"], found["dropped_in"] = _kept_and_dropped(store, trace, given)
    found["origin"] = _origin(run, trace)
    return cast(dict[str, JSON], found)


def _kept_and_dropped(store: Store, trace: RowTrace, given: PairFilter | None) -> tuple[dict[str, int], dict[str, str]]:
    kept, dropped = {}, {}
    for each in memberships(store.repo, trace):
        if each.row is not None:
            kept[each.dataset.id] = each.row
        else:
            dropped[each.dataset.id] = drop_reason(store.repo, each, given) or UNKNOWN_RULE
    return kept, dropped


def _origin(run: Run, trace: RowTrace) -> dict[str, JSON]:
    """Return the files and the line of the raw row, or why they are not known."""
    described = trace.raw.provenance.get("source")
    kind = str(described.get("kind")) if isinstance(described, dict) else "unknown"
    if kind != "downloader/local":
        return {"reason": f"the source {kind} has no files of your own; raw_row counts its pairs", "kind": kind}
    hint = "add the downloader=… options with which the files were read"
    if "downloader" not in run.config:
        return {"reason": f"no line is stored. To read the files again, {hint}", "kind": kind}
    from mtx.infra.dataset.sources.local import LocalDownloader
    from mtx.infra.dataset.sources.row_origin import row_origin

    given = described if isinstance(described, dict) else {}
    files = {key: value for key, value in given.items() if key != SWAPPED}  # both directions have the same lines
    for part in run.build("downloader").parts.values():
        original = part.original
        if not isinstance(original, LocalDownloader):
            continue
        try:
            is_same = dict(original.info().identity) == files
            found = row_origin(original, trace.raw.split, trace.raw_row) if is_same else None
        except MtxError as error:
            return {"reason": str(error), "kind": kind}
        if found is not None:
            return {"files": list(found.files), found.unit: found.number}
    return {"reason": f"the downloader of this command reads other files or reads them otherwise; {hint}", "kind": kind}


def _plain(value: Any) -> JSON:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for key, value in found.items():
        if isinstance(value, dict):
            for name, of in value.items():
                inner = of.items() if isinstance(of, dict) else [(name, of)]
                lines += [(f"{key} {inner_name}", _shown(item)) for inner_name, item in inner]
            if not value and key == "kept_in":
                lines.append((key, "no split and no filtered dataset"))
        else:
            lines.append((key, _shown(value)))
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
