"""Open datasets of the Hugging Face Hub at a fixed commit, with retries and explained errors.

Importing `datasets` takes half a second, so functions in this module import it only when they need it.
"""

import json
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from mtx.errors import ConfigError, SourceError, UnreachableError, choices
from mtx.infra.dataset.hub.client_check import check_client, set_default_limits
from mtx.infra.dataset.hub.hub_errors import (
    OTHER_SOURCES_HINT,
    advice,
    answer_error,
    endpoint,
    error_text,
    offline_variables,
    open_error,
    root_error,
)
from mtx.infra.dataset.hub.range_retry import set_retry_policy
from mtx.infra.dataset.hub.retry import RetryPolicy, RetryTimeoutError, is_temporary, network_errors
from mtx.redaction_and_escaping import visible_text

log = logging.getLogger(__name__)

Response = TypeVar("Response")

ROWS_PER_TABLE = 10_000
HELD_OUT = {"validation": ("validation", "valid", "dev", "val"), "test": ("test",)}  # usual names of these splits
COMMIT = re.compile("[0-9a-f]{40}")  # a full commit hash; the Hub must resolve a shorter hash, like a branch


@dataclass(frozen=True)
class PinnedDataset:
    """A commit of a dataset, its current name on the Hub, which differs after a rename, and the licences it gives."""

    commit: str
    name: str
    licences: tuple[str, ...] = ()


def pinned_commit(dataset: str, revision: str | None, policy: RetryPolicy) -> PinnedDataset:
    """Return the commit that `revision` (a branch, a tag or a commit; None: main) currently names.

    Raises SourceError if the dataset or revision does not exist, and UnreachableError if the Hub does not answer.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    if Path(dataset).exists():
        raise ConfigError(
            f"downloader.dataset={dataset} is also a local folder, {Path(dataset).absolute()}, which would be read "
            "instead of the dataset on the Hub. Run mtx in another folder"
        )
    try:
        found = _hub_response(
            lambda: hub.HfApi().dataset_info(dataset, revision=revision), dataset, policy, is_short=True
        )
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"the dataset {dataset} has no revision {revision!r}. Set a branch, a tag or a commit with "
            "downloader.revision=NAME, or downloader.revision=null for the newest commit"
        ) from error
    except errors.HFValidationError as error:
        raise SourceError(
            f"{dataset!r} is not a valid name of a dataset, which has at most 96 of the characters A-Z a-z 0-9 . _ - "
            "and at most one slash. Set downloader.dataset=OWNER/NAME"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # what the client's parser raises
        raise answer_error(dataset, error_text(error)) from error
    if not isinstance(found.id, str) or not found.id:
        raise answer_error(dataset, f"the answer has no name of the dataset, but {found.id!r}")
    if found.id != dataset:
        log.warning(
            "the dataset %s is now called %s. Set downloader.dataset=%s",
            dataset,
            visible_text(found.id),
            visible_text(found.id),
        )
    pinned = revision if COMMIT.fullmatch(revision or "") else found.sha
    if not COMMIT.fullmatch(str(found.sha)) or found.sha != pinned:
        raise SourceError(
            f"the Hub at {endpoint()} answered that {dataset} at {revision or 'main'} is the commit {found.sha!r}, but "
            f"a commit is the requested one, of 40 hexadecimal digits. Run again, {OTHER_SOURCES_HINT}"
        )
    given = getattr(getattr(found, "card_data", None), "license", None)
    licences = tuple(each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str) and each)
    return PinnedDataset(commit=str(found.sha), name=str(found.id), licences=licences)


def open_splits(dataset: str, config: str | None, commit: str, policy: RetryPolicy) -> dict[str, Any]:
    """Return each split of `dataset` at `commit` as a `datasets.IterableDataset`, by the dataset's name of the split.

    Raises SourceError if the dataset cannot be opened or has no configuration `config`.
    """
    import datasets
    import yaml

    def load() -> dict[str, Any]:
        # With an empty cache: if the Hub fails, `datasets` would otherwise use a cached download of any commit.
        with tempfile.TemporaryDirectory(prefix="mtx-") as cache:
            builder = datasets.load_dataset_builder(dataset, config, revision=commit, cache_dir=cache)
            keep_text(builder, dataset)
            return dict(builder.as_streaming_dataset())

    set_retry_policy(dataset, commit, policy)
    try:
        return _hub_response(load, dataset, policy)
    except json.JSONDecodeError as error:
        raise answer_error(dataset, error_text(error)) from error
    except ValueError as error:
        names = _configurations(dataset, commit, policy)
        if (config is None and len(names) > 1) or (config is not None and names and config not in names):
            found = "downloader.language is not set" if config is None else f"none is called {config!r}"
            raise SourceError(
                f"the dataset {dataset} has several configurations, often one for each language pair, and {found}; "
                f"present: {choices(config or '', names)}. Choose one with downloader.language=NAME"
            ) from error
        raise open_error(dataset, error) from error
    except (KeyError, TypeError, AttributeError) as error:  # what the client's parser raises
        raise answer_error(dataset, error_text(error)) from error
    except (RuntimeError, OSError, yaml.YAMLError) as error:  # YAMLError: in the dataset's card
        raise open_error(dataset, error) from error


def split_names(dataset: str, present: Iterable[str], named: Mapping[str, str | None]) -> dict[str, str]:
    """Return the dataset's own name of each of its splits `train`, `validation` and `test`.

    Args:
        dataset: name of the dataset.
        present: names of the dataset's splits.
        named: the config's value for `train`, `validation` and `test`; `auto`: find the split by its usual names.

    Raises SourceError if a split that the config names is missing.
    """
    names = {"train": str(named["train"])}
    for split in HELD_OUT:
        said = named[split]
        if said == "auto":
            said = next((name for name in HELD_OUT[split] if name in present), None)
            said = None if said == names["train"] else said
        if said is not None:
            names[split] = said
    for key, name in names.items():
        if name not in present:
            key = "split" if key == "train" else f"{key}_split"
            raise SourceError(
                f"the dataset {dataset} has no split {name!r}; present: {choices(name, present)}. "
                f"Choose one of these splits with downloader.{key}=NAME"
            )
    return names


def schema_of(split: Any, dataset: str) -> pa.Schema:
    """Return the schema of a split, from the dataset's description or from the split's first row.

    Raises SourceError.
    """
    if split.features is not None:
        return split.features.arrow_schema
    first = next(tables_of(split, dataset, limit=1), None)
    return pa.schema([]) if first is None else first.schema


def tables_of(split: Any, dataset: str, limit: int | None) -> Iterator[pa.Table]:
    """Yield a split as Arrow tables, with at most `limit` rows in total.

    Raises SourceError if a request fails after all retries, or if the files cannot be read.
    """
    import datasets

    num_rows = 0
    try:
        for table in split.with_format("arrow").iter(batch_size=ROWS_PER_TABLE):
            table = table if limit is None else table.slice(0, limit - num_rows)
            num_rows += table.num_rows
            yield table
            if num_rows == limit:
                return
    except (
        RetryTimeoutError,
        *network_errors(),
        datasets.exceptions.DatasetsError,
        pa.ArrowException,
        ValueError,
    ) as raised:
        error = root_error(raised)
        raise SourceError(
            f"reading the dataset {dataset} failed after {num_rows:,} rows: {error_text(error)}. {advice(error)}"
        ) from error


def _hub_response(
    ask: Callable[[], Response], dataset: str, policy: RetryPolicy, *, is_short: bool = False
) -> Response:
    """Send a request to the Hub and return the answer. Retry after temporary errors. Raises SourceError on failure."""
    from huggingface_hub import errors

    failures: tuple[type[Exception], ...] = (RetryTimeoutError, *network_errors())
    check_client("huggingface_hub")  # not `datasets`, whose import takes longer
    set_default_limits()
    try:
        return policy.call(ask, is_short=is_short)
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableError(
            f"the dataset {dataset} is on the Hugging Face Hub, but offline mode is on: {offline_variables()}. "
            f"Switch offline mode off, {OTHER_SOURCES_HINT}"
        ) from error
    except errors.RevisionNotFoundError:
        raise
    except errors.GatedRepoError as error:
        raise SourceError(
            f"the dataset {dataset} requires a login, and access that users request on the dataset's page. "
            "Request access, and log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the dataset {dataset} does not exist on {endpoint()}, or is private. Correct downloader.dataset=NAME, "
            "or log in with `hf auth login`"
        ) from error
    except failures as raised:
        cause = root_error(raised)
        if not is_temporary(cause):
            raise SourceError(
                f"the dataset {dataset} cannot be opened: {error_text(cause)}. {advice(cause)}"
            ) from cause
        raise UnreachableError(
            f"the Hugging Face Hub cannot be reached at {endpoint()} for the dataset {dataset}: {error_text(cause)}, "
            f"after {policy.patience_s:g} s of retries. Check the connection and run again, retry longer with "
            f"downloader.patience_s=SECONDS, {OTHER_SOURCES_HINT}"
        ) from cause


def keep_text(builder: Any, dataset: str) -> None:
    """Configure `builder` to refuse JSON files whose texts it would change silently, and to check the pages of Parquet.

    `datasets` reads JSON in blocks and casts each block to the types of the first block. A later file in which all
    texts look like dates would become `2020-01-01 00:00:00`. A column with texts and numbers would become quoted.
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
    """Raise SourceError if a cast from `found` to `expected` (schemas or structs) would change values into text."""
    present = {field.name: field.type for field in found}
    for field in expected:
        got = present.get(field.name, field.type)
        if pa.types.is_struct(field.type) and pa.types.is_struct(got):
            _check_types(got, field.type, dataset)
        elif is_text(field.type) and not is_text(got) and not pa.types.is_null(got):
            raise SourceError(
                f"the dataset {dataset} has text in the column {field.name!r}, but `datasets` reads a later part as "
                f"{got}, which would change the text. Load the dataset yourself, write its pairs as JSON Lines and "
                "read them with downloader=local downloader.path=FILE"
            )


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of the type `kind` contains text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _configurations(dataset: str, commit: str, policy: RetryPolicy) -> list[str]:
    import datasets

    try:
        return list(_hub_response(lambda: datasets.get_dataset_config_names(dataset, revision=commit), dataset, policy))
    except (ValueError, RuntimeError):  # the dataset's files cannot be combined
        return []
