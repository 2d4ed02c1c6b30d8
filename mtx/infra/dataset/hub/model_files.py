"""Download the files of a tokenizer from a model repository of the Hugging Face Hub, all from one commit."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mtx.assumption_log import assume
from mtx.errors import TokenizerError
from mtx.infra.dataset.hub.client_check import set_default_limits
from mtx.infra.dataset.hub.hub_errors import endpoint, error_text, offline_variables, wrong_answer
from mtx.infra.dataset.hub.pinned_dataset import COMMIT
from mtx.infra.dataset.hub.retry import RetryPolicy, network_errors

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
ONE_REQUEST = RetryPolicy(0, instead="then takes the files of an earlier download, or stops", key="")
FILE_ENDINGS = (".json", ".model", ".spm", ".txt", ".vocab", ".yml")


def is_repository_name(path: str) -> bool:
    """Return whether a path that does not exist may be the name of a repository, such as `google-t5/t5-small`."""
    return NAME.fullmatch(path) is not None and not path.endswith(FILE_ENDINGS) and not Path(path).exists()


def repository_folder(name: str, revision: str | None, patterns: Sequence[str], needed: Sequence[str]) -> Path:
    """Return a folder with the files of a repository that match `patterns`, all from one commit.

    A full commit hash needs no network if the client's cache has each file, or says that the commit lacks it. Another
    program, or a download that was stopped, may have stored some files alone. Without a network they are taken, and an
    assumption names the missing ones. The log says which commit a branch names, so that a config can pin it.

    Args:
        name: the repository, such as `google-t5/t5-small`.
        revision: a branch, a tag or a commit; None: the branch main.
        patterns: the names of the files, without wildcards.
        needed: the names of which one must be in the cache, else the Hub is asked. Another program may have stored
            other files of the commit.

    Raises TokenizerError if the repository or the revision does not exist, if the Hub does not answer, or if the
    answer has another form.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    chosen = list(patterns)
    failures: tuple[type[Exception], ...] = (errors.OfflineModeIsEnabled, *network_errors())
    if COMMIT.fullmatch(revision or ""):
        with suppress(errors.LocalEntryNotFoundError, OSError, ValueError):  # ValueError for an invalid name
            cached = _folder_in_cache(name, revision, chosen, needed)
            if not _unknown_files(name, cached.name, chosen):
                return cached
    set_default_limits()
    try:
        api = HfApi(endpoint=endpoint())
        commit = ONE_REQUEST.call(lambda: api.model_info(name, revision=revision).sha, is_short=True)
        if COMMIT.fullmatch(str(commit)) is None:
            raise ValueError(f"its commit is {str(commit)[:80]!r}")
        folder = snapshot_download(name, revision=commit, allow_patterns=chosen, endpoint=endpoint())
        if revision != commit:
            log.info("the tokenizer %s is at the commit %s. Pin it with tokenizer.revision=%s", name, commit, commit)
        return Path(folder)
    except errors.RevisionNotFoundError as error:
        raise TokenizerError(
            f"the repository {name} has no revision {revision!r}. Set tokenizer.revision to a branch, a tag or a "
            "commit, or to null for the newest"
        ) from error
    except errors.GatedRepoError as error:
        raise TokenizerError(
            f"the repository {name} requires a login. Request access on its page, and run `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise TokenizerError(
            f"tokenizer.filepath={name} is no file, no folder, and no repository of {endpoint()}, or is private. "
            "Correct the path or the name, or run `hf auth login`"
        ) from error
    except failures as error:
        return _cached_folder(name, revision, chosen, needed, error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # what the client's parser raises
        told = wrong_answer(f"repository {name}", error_text(error))
        raise TokenizerError(f"{told}, or set tokenizer.filepath to a file") from error


def _folder_in_cache(name: str, revision: str | None, patterns: list[str], needed: Sequence[str]) -> Path:
    """Return a folder in the client's cache. Raises OSError if it has none of the needed files."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
    if not any((folder / file).exists() for file in needed):
        raise FileNotFoundError(f"{folder} has none of {', '.join(needed)}")
    return folder


def _cached_folder(
    name: str, revision: str | None, patterns: list[str], needed: Sequence[str], reason: Exception
) -> Path:
    """Return the folder of an earlier download. Raises TokenizerError if there is none."""
    from huggingface_hub import errors

    try:
        folder = _folder_in_cache(name, revision, patterns, needed)
    except (errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        is_offline = isinstance(reason, errors.OfflineModeIsEnabled)
        why = f"offline mode is on ({offline_variables()})" if is_offline else error_text(reason)
        raise TokenizerError(
            f"tokenizer.filepath={name} is no file and no folder, and the Hub at {endpoint()} cannot be asked for a "
            f"repository of that name: {why}. Correct the path, or run once with a connection, which keeps the files"
        ) from error
    log.warning("the tokenizer %s comes from an earlier download, because the Hub does not answer", name)
    if unknown := _unknown_files(name, folder.name, patterns):
        assume(
            f"the repository {name} has none of the files {', '.join(unknown)}, because the cache of the Hub's client "
            "lacks them, and the Hub does not answer. They may name other special tokens. Run once with a connection"
        )
    return folder


def _unknown_files(name: str, commit: str, files: Sequence[str]) -> list[str]:
    """Return the files of which the client's cache does not say whether the commit has them.

    A complete download keeps the list of the commit's files, with which the client compares a folder.
    """
    from huggingface_hub import errors, get_cached_repo_tree, try_to_load_from_cache

    try:
        get_cached_repo_tree(name, revision=commit)
    except errors.CachedRepoTreeNotFoundError:
        return [file for file in files if try_to_load_from_cache(name, file, revision=commit) is None]
    return []
