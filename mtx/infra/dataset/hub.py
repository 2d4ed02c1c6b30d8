"""Opening datasets of the Hugging Face Hub: pinned to a commit, asked again when it does not answer, explained.

`datasets` takes half a second to import, so functions here import it when they need it.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, UnreachableError, choices
from mtx.infra.dataset.hub_client import check_client, limit_waiting
from mtx.infra.dataset.hub_files import watch
from mtx.infra.dataset.patience import OutOfPatienceError, Patience, network_errors, passes, status_of
from mtx.shown import shown

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

ELSEWHERE = "or choose another source with downloader=local or downloader=sample"
ROWS_AT_ONCE = 10_000
COMMIT = re.compile("[0-9a-f]{40}")  # in full: a shorter one is looked up, as a branch is


@dataclass(frozen=True)
class Pinned:
    """A commit of a dataset, and what the Hub calls that dataset now."""

    commit: str
    name: str


def pinned_commit(dataset: str, revision: str | None, patience: Patience) -> Pinned:
    """Return the commit that `revision` (a branch, a tag, a commit; None: main) stands for now.

    Raises SourceError; UnreachableError where the Hub does not answer or may not be asked.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    if Path(dataset).exists():
        raise ConfigError(
            f"downloader.dataset={dataset} is also a folder here, {Path(dataset).absolute()}, which would be read in "
            "place of the Hub's. Run from another folder"
        )
    try:
        found = _answer(lambda: hub.HfApi().dataset_info(dataset, revision=revision), dataset, patience)
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"the dataset {dataset} has no revision {revision!r}. Name a branch, a tag or a commit with "
            "downloader.revision=NAME, or null for the newest"
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(
            f"{dataset!r} is no name of a dataset: {error}. Give downloader.dataset=OWNER/NAME"
        ) from error
    if found.id != dataset:
        log.warning(
            "the dataset %s is called %s now: say downloader.dataset=%s", dataset, shown(found.id), shown(found.id)
        )
    pinned = revision if COMMIT.fullmatch(revision or "") else found.sha
    if not COMMIT.fullmatch(str(found.sha)) or found.sha != pinned:
        raise SourceError(
            f"the Hub at {endpoint()} says that {dataset} at {revision or 'main'} is the commit {found.sha!r}, "
            f"which it cannot be. Run again, {ELSEWHERE}"
        )
    return Pinned(commit=str(found.sha), name=str(found.id))


def open_splits(dataset: str, config: str | None, commit: str, patience: Patience) -> dict[str, Any]:
    """Return each split as a `datasets.IterableDataset` of that commit. Raises SourceError."""
    import datasets
    import yaml

    def load() -> dict[str, Any]:
        # An empty cache: when the Hub fails, datasets would fall back on an older download, whatever its commit.
        with tempfile.TemporaryDirectory(prefix="mtx-") as cache:
            builder = datasets.load_dataset_builder(dataset, config, revision=commit, cache_dir=cache)
            keep_text(builder, dataset)
            return dict(builder.as_streaming_dataset())

    watch(dataset, commit, patience)
    try:
        return _answer(load, dataset, patience)
    except ValueError as error:
        names = _configurations(dataset, commit, patience)
        if (config is None and len(names) > 1) or (config is not None and names and config not in names):
            found = "downloader.language is missing" if config is None else f"it has no {config!r}"
            raise SourceError(
                f"the dataset {dataset} comes in several configurations, often named by the languages, and {found}; "
                f"there are: {choices(config or '', names)}. Name one with downloader.language=NAME"
            ) from error
        raise _cannot_open(dataset, error) from error
    except (RuntimeError, OSError, yaml.YAMLError) as error:  # YAML: the card
        raise _cannot_open(dataset, error) from error


def schema_of(split: Any, dataset: str) -> pa.Schema:
    """Return the columns of a split, from its description or, without one, from its first row. Raises SourceError."""
    if split.features is not None:
        return split.features.arrow_schema
    first = next(tables_of(split, dataset, limit=1), None)
    return pa.schema([]) if first is None else first.schema


def tables_of(split: Any, dataset: str, limit: int | None) -> Iterator[pa.Table]:
    """Stream a split as Arrow tables, `limit` rows at most.

    Raises SourceError where the Hub stops giving them, or where its files cannot be read as they are.
    """
    import datasets

    num_rows = 0
    try:
        for table in split.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
            table = table if limit is None else table.slice(0, limit - num_rows)
            num_rows += table.num_rows
            yield table
            if num_rows == limit:
                return
    except (
        OutOfPatienceError,
        *network_errors(),
        datasets.exceptions.DatasetsError,
        pa.ArrowException,
        ValueError,
    ) as raised:
        error = _meant(raised)
        raise SourceError(
            f"the dataset {dataset} could not be read whole: after {num_rows:,} rows, {_said(error)}. {_advice(error)}"
        ) from error


def _answer(ask: Callable[[], Answer], dataset: str, patience: Patience) -> Answer:
    """Ask the Hub, and ask again while it fails for reasons that pass. Raises SourceError."""
    from huggingface_hub import errors

    failures: tuple[type[Exception], ...] = (OutOfPatienceError, *network_errors())
    check_client("huggingface_hub")  # alone: importing datasets takes longer
    limit_waiting()
    try:
        return patience.ask(ask)
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableError(
            f"the dataset {dataset} is on the Hugging Face Hub, but offline mode is on: {_offline()}. "
            f"Switch it off, {ELSEWHERE}"
        ) from error
    except errors.RevisionNotFoundError:
        raise
    except errors.GatedRepoError as error:
        raise SourceError(
            f"the dataset {dataset} is open only to those who asked for access on its page and are logged in. "
            "Log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"there is no dataset {dataset} on {endpoint()}, or it is private. Correct downloader.dataset=NAME, "
            "or log in with `hf auth login`"
        ) from error
    except failures as raised:
        cause = _meant(raised)
        if not passes(cause):
            raise SourceError(f"the dataset {dataset} cannot be opened: {_said(cause)}. {_advice(cause)}") from cause
        raise UnreachableError(
            f"the Hugging Face Hub cannot be reached at {endpoint()} for the dataset {dataset}: {_said(cause)}, asked "
            f"for {patience.patience_s:g} s. Check the connection and run again, wait longer with "
            f"downloader.patience_s=SECONDS, {ELSEWHERE}"
        ) from cause


def keep_text(builder: Any, dataset: str) -> None:
    """Let `builder` refuse JSON whose texts would be changed in silence, and check the pages of Parquet.

    JSON is read block by block, and the types that are found are cast to those of the first block: a later file whose
    texts all look like dates would come as `2020-01-01 00:00:00`, and a column of texts and numbers in quotes.
    """
    from pyarrow.dataset import ParquetFragmentScanOptions

    if builder.info.builder_name == "json":
        builder.config.on_mixed_types = None
        cast = builder._cast_table

        def checked(table: pa.Table, *args: Any, **options: Any) -> pa.Table:
            if builder.info.features is not None:
                _check_types(table.schema, builder.info.features.arrow_schema, dataset)
            return cast(table, *args, **options)

        builder._cast_table = checked
    if builder.info.builder_name == "parquet":
        builder.config.fragment_scan_options = ParquetFragmentScanOptions(page_checksum_verification=True)


def _check_types(found: Any, expected: Any, dataset: str) -> None:
    """Raise SourceError where something else than text would be made text; for schemas and structs."""
    present = {field.name: field.type for field in found}
    for field in expected:
        got = present.get(field.name, field.type)
        if pa.types.is_struct(field.type) and pa.types.is_struct(got):
            _check_types(got, field.type, dataset)
        elif is_text(field.type) and not is_text(got) and not pa.types.is_null(got):
            raise SourceError(
                f"the dataset {dataset} has text in the column {field.name!r}, but a later part is read as {got}, "
                "which would change it. Load it yourself, write its pairs as JSON Lines and read them with "
                "downloader=local downloader.path=FILE"
            )


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of that type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _configurations(dataset: str, commit: str, patience: Patience) -> list[str]:
    import datasets

    try:
        return list(_answer(lambda: datasets.get_dataset_config_names(dataset, revision=commit), dataset, patience))
    except (ValueError, RuntimeError):  # its files do not fit together
        return []


def _cannot_open(dataset: str, error: Exception) -> SourceError:
    return SourceError(
        f"the dataset {dataset} cannot be opened: {_said(error)}. It needs files that the library datasets reads "
        "without running code from the repository"
    )


def _meant(error: Exception) -> Exception:
    """Return what an error is about."""
    return (
        error.__cause__ if isinstance(error, OutOfPatienceError) and isinstance(error.__cause__, Exception) else error
    )


def _advice(error: Exception) -> str:
    """Say what to do about an error."""
    status = status_of(error)
    if status in (401, 403):
        return "The Hub asks who you are: log in with `hf auth login`, or set HF_TOKEN, and run again"
    if status in (404, 410):
        return (
            f"The repository was changed, renamed or removed: look at its page, correct downloader.dataset, {ELSEWHERE}"
        )
    if passes(error):
        return f"Run again, wait longer with downloader.patience_s=SECONDS, {ELSEWHERE}"
    if isinstance(error, (ValueError, pa.ArrowException)):
        return (
            "Its files are not of one form that the library datasets reads. Load it yourself, write its pairs as JSON "
            "Lines and read them with downloader=local downloader.path=FILE"
        )
    return f"Run again, {ELSEWHERE}"


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def endpoint() -> str:
    """Return the address of the Hub, which HF_ENDPOINT sets."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _offline() -> str:
    known = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return ", ".join(f"{name}={os.environ[name]}" for name in known if os.environ.get(name)) or "HF_HUB_OFFLINE"
