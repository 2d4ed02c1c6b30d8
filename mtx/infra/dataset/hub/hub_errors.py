"""The errors and texts that explain a failed request to the Hugging Face Hub."""

import os
import re

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.hub.retry import RetryTimeoutError, is_temporary, status_of
from mtx.library_errors import library_reason

COLUMN = re.compile(r"Column\(/(.+?)\)")  # in pyarrow's errors about JSON
OTHER_SOURCES_HINT = "or choose another source with downloader=local or downloader=sample"


def open_error(dataset: str, error: Exception) -> SourceError:
    """Return the error for a dataset whose files the library `datasets` cannot open."""
    return SourceError(
        f"the dataset {dataset} cannot be opened: {error_text(error)}. mtx reads only datasets whose files the "
        "library `datasets` reads without code from the repository. Choose another dataset"
    )


def answer_error(dataset: str, reason: str) -> SourceError:
    """Return the error for an answer of the Hub that is not JSON, or lacks fields."""
    return SourceError(f"{wrong_answer(f'dataset {dataset}', reason)}, {OTHER_SOURCES_HINT}")


def wrong_answer(what: str, reason: str) -> str:
    """Return the text about an answer of the Hub that does not describe `what`, up to the last hint."""
    return (
        f"the Hub at {endpoint()} must answer with JSON that describes the {what}, but the answer is not: {reason}. "
        "A proxy or a sign-in page may have answered. Check the connection and HF_ENDPOINT"
    )


def root_error(error: Exception) -> Exception:
    """Return the cause of a RetryTimeoutError; return any other error unchanged."""
    return error.__cause__ if isinstance(error, RetryTimeoutError) and isinstance(error.__cause__, Exception) else error


def advice(error: Exception) -> str:
    """Return the part of an error message that proposes what to do about `error`."""
    status = status_of(error)
    if status in (401, 403):
        return "The Hub requires a login: run `hf auth login`, or set HF_TOKEN, and run again"
    if status in (404, 410):
        return (
            "The repository was changed, renamed or removed: check its page, correct downloader.dataset, "
            f"{OTHER_SOURCES_HINT}"
        )
    if is_temporary(error):
        return f"Run again, retry longer with downloader.patience_s=SECONDS, {OTHER_SOURCES_HINT}"
    if isinstance(error, (ValueError, pa.ArrowException)):
        return (
            "The library `datasets` cannot read the dataset's files. Load the dataset yourself, write its pairs as "
            "JSON Lines and read them with downloader=local downloader.path=FILE"
        )
    return f"Run again, {OTHER_SOURCES_HINT}"


def error_text(error: Exception) -> str:
    """Return the status of the server's answer, or the reason of an error without one."""
    if status := status_of(error):
        return f"the server answers with status {status}"
    if isinstance(error, pa.ArrowException) and (column := COLUMN.search(str(error))):
        return f"the column {column[1]!r} has values of different types"
    return library_reason(error)


def endpoint() -> str:
    """Return the URL of the Hub, which the environment variable HF_ENDPOINT sets."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def offline_variables() -> str:
    """Return the environment variables that switch the offline mode on, with their values."""
    known = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    return ", ".join(f"{name}={os.environ[name]}" for name in known if os.environ.get(name)) or "HF_HUB_OFFLINE"
