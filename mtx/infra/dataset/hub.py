"""Opening datasets of the Hugging Face Hub: pinned to a commit, asked again when it does not answer, explained.

`datasets` takes half a second to import, so functions here import it when they need it.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, choices

Answer = TypeVar("Answer")

RETRY_WAITS_S = (1.0, 2.0, 4.0)  # before asking again; the client itself does not ask again when opening
TEMPORARY = (408, 429, 500, 502, 503, 504)  # HTTP status that another try may not get
ELSEWHERE = "or choose another source with downloader=local or downloader=sample"
ROWS_AT_ONCE = 10_000


def pinned_commit(dataset: str, revision: str | None) -> str:
    """Return the commit that `revision` (a branch, a tag, a commit; None: main) stands for now. Raises SourceError."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    if Path(dataset).exists():
        raise ConfigError(
            f"downloader.dataset={dataset} is also a folder here, {Path(dataset).absolute()}, which would be read in "
            "place of the Hub's. Run from another folder"
        )
    try:
        commit = _answer(lambda: hub.HfApi().dataset_info(dataset, revision=revision).sha, dataset)
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"the dataset {dataset} has no revision {revision!r}. Name a branch, a tag or a commit with "
            "downloader.revision=NAME, or null for the newest"
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(
            f"{dataset!r} is no name of a dataset: {error}. Give downloader.dataset=OWNER/NAME"
        ) from error
    return str(commit)


def open_splits(dataset: str, config: str | None, commit: str) -> dict[str, Any]:
    """Return each split as a `datasets.IterableDataset` of that commit. Raises SourceError."""
    import datasets

    def load() -> dict[str, Any]:
        # An empty cache: when the Hub fails, datasets would fall back on an older download, whatever its commit.
        with tempfile.TemporaryDirectory(prefix="mtx-") as cache:
            return dict(datasets.load_dataset(dataset, config, revision=commit, streaming=True, cache_dir=cache))

    try:
        return _answer(load, dataset)
    except ValueError as error:
        names = _configurations(dataset, commit)
        if (config is None and len(names) > 1) or (config is not None and names and config not in names):
            found = "downloader.language is missing" if config is None else f"it has no {config!r}"
            raise SourceError(
                f"the dataset {dataset} comes in several configurations, often named by the languages, and {found}; "
                f"there are: {choices(config or '', names)}. Name one with downloader.language=NAME"
            ) from error
        raise _cannot_open(dataset, error) from error
    except (RuntimeError, OSError) as error:
        raise _cannot_open(dataset, error) from error


def schema_of(split: Any, dataset: str) -> pa.Schema:
    """Return the columns of a split, from its description or, without one, from its first row. Raises SourceError."""
    if split.features is not None:
        return split.features.arrow_schema
    first = next(tables_of(split, dataset, limit=1), None)
    return pa.schema([]) if first is None else first.schema


def tables_of(split: Any, dataset: str, limit: int | None, *, num_before: int = 0) -> Iterator[pa.Table]:
    """Stream a split as Arrow tables, `limit` rows at most. Raises SourceError where the Hub stops giving them.

    `num_before` rows of the split came before, for the message.
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
    except (*_network_errors(), datasets.exceptions.DatasetsError, pa.ArrowException, ValueError) as error:
        raise SourceError(
            f"the dataset {dataset} could not be read whole: after {num_before + num_rows:,} rows, {_said(error)}. "
            f"Run again, {ELSEWHERE}"
        ) from error


def file_tables(split: Any, dataset: str, limit: int | None) -> Iterator[pa.Table]:
    """Stream a split file by file, as `tables_of` does; a file that comes without rows is asked for again.

    An answer with an empty body looks like an empty file to the client. A Parquet file has to have an end, so its
    readers notice. Raises SourceError where a file stays empty.
    """
    num_before = 0
    for index in range(split.num_shards):
        file = split.shard(num_shards=split.num_shards, index=index)
        for wait_s in (*RETRY_WAITS_S, None):
            num_rows = 0
            for table in tables_of(file, dataset, limit, num_before=num_before):
                num_rows += table.num_rows
                yield table
            if num_rows or split.info.builder_name == "parquet":
                break
            if wait_s is None:
                raise SourceError(
                    f"file {index + 1} of {split.num_shards} of the dataset {dataset} came without any row, "
                    f"{len(RETRY_WAITS_S) + 1} times. Run again; where that file is meant to be empty, say "
                    "downloader.verify=false"
                )
            time.sleep(wait_s)
        num_before += num_rows
        if limit is not None:
            limit -= num_rows
            if limit == 0:
                return


def _answer(ask: Callable[[], Answer], dataset: str) -> Answer:
    """Ask the Hub, and ask again while it fails for reasons that pass. Raises SourceError."""
    from huggingface_hub import errors

    for wait_s in (*RETRY_WAITS_S, None):
        try:
            return ask()
        except errors.OfflineModeIsEnabled as error:
            raise SourceError(
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
                f"there is no dataset {dataset} on {_endpoint()}, or it is private. Correct downloader.dataset=NAME, "
                "or log in with `hf auth login`"
            ) from error
        except _network_errors() as error:
            if not _passes(error):
                raise SourceError(f"the dataset {dataset} cannot be opened: {_said(error)}") from error
            if wait_s is None:
                raise SourceError(
                    f"the Hugging Face Hub cannot be reached at {_endpoint()} for the dataset {dataset}: "
                    f"{_said(error)}, asked {len(RETRY_WAITS_S) + 1} times. Check the connection and run again, "
                    f"{ELSEWHERE}"
                ) from error
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _network_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises: OSError, and the base of its HTTP library's errors, whichever that is."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))


def _passes(error: Exception) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in TEMPORARY
    return isinstance(error, LocalEntryNotFoundError) or not isinstance(error, (FileNotFoundError, PermissionError))


def _configurations(dataset: str, commit: str) -> list[str]:
    import datasets

    try:
        return list(_answer(lambda: datasets.get_dataset_config_names(dataset, revision=commit), dataset))
    except (ValueError, RuntimeError):  # its files do not fit together
        return []


def _cannot_open(dataset: str, error: Exception) -> SourceError:
    return SourceError(
        f"the dataset {dataset} cannot be opened: {_said(error)}. It needs files that the library datasets reads "
        "without running code from the repository"
    )


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _offline() -> str:
    known = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return ", ".join(f"{name}={os.environ[name]}" for name in known if os.environ.get(name)) or "HF_HUB_OFFLINE"
