"""Messages for errors of Hydra between the composed config and the job: folders, logging, callbacks, launchers."""

import re
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_tb
from types import CodeType

from mtx.app.corrected_command import shell_word
from mtx.exhausted_resources import exhausted_message
from mtx.library_errors import first_cause, library_reason

HYDRA_SETTING = re.compile(r"[~+]{0,2}hydra[./]")
FOLDER_SETTING = re.compile(r"\+{0,2}hydra\.(run|sweep)\.dir=")
JOB_MODULE, JOB_FUNCTION = "mtx.app.command", "_hydra_main"
AFTER_START = ("mtx.sweep.", "mtx.page.")  # code that runs outside of the jobs once the first job has begun


def run_error_message(error: BaseException, arguments: Sequence[str]) -> str | None:
    """Return the line for an error of Python that has ended a command; None if it may be a fault of mtx.

    An error of Hydra outside of the job comes from the folder of the run, or from a setting on the command line. An
    error that mtx itself raises there comes from neither, except that Hydra's folder cannot be written at the start.

    Args:
        error: any error of Python.
        arguments: command line.
    """
    if _is_of_job(error):
        return exhausted_message(error)
    caller = _caller_in_mtx(error)
    told = None if caller.startswith(AFTER_START) else _folder_message(error)
    if told := told or exhausted_message(error):
        return told
    is_of_folder = isinstance(error, UnicodeError)  # a name of a folder that Hydra cannot write into its files
    return None if caller else hydra_setting_message(error, arguments, with_folders=is_of_folder)


def hydra_setting_message(error: BaseException, arguments: Sequence[str], *, with_folders: bool = True) -> str | None:
    """Return a message that Hydra fails with the settings of its own that are on the command line; None without any.

    Args:
        error: the error.
        arguments: command line.
        with_folders: whether the folder of the run can be the cause, if no other setting is there.
    """
    of_hydra = [text for text in arguments if HYDRA_SETTING.match(text)]
    typed = [text for text in of_hydra if not FOLDER_SETTING.match(text)] or (of_hydra if with_folders else [])
    if not typed:
        return None
    settings = " ".join(map(shell_word, typed))
    return (
        f"Hydra cannot start the run with {settings} ({library_reason(first_cause(error))}). Leave out or correct "
        f"{'one of these settings' if len(typed) > 1 else 'this setting'}; mtx --cfg hydra prints all of them"
    )


def _folder_message(error: BaseException) -> str | None:
    """Return a message that Hydra cannot write into the folder of a run; None if the error has another reason.

    logging raises a ValueError if it cannot open a log file, with the OSError as its cause.
    """
    cause = error.__cause__ if isinstance(error, ValueError) else error
    if not isinstance(cause, OSError):
        return None
    is_sweep = any(code.co_name in ("run_sweep", "multirun") for code, _ in _frames(error))
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    return (
        f"the folder of the run cannot be written: {library_reason(cause)}"
        + (f", at {cause.filename!r}" if cause.filename else "")
        + f". The working folder is {str(Path.cwd())!r}. Choose a folder for the run with {key}=FOLDER"
    )


def _is_of_job(error: BaseException) -> bool:
    return any(code.co_name == JOB_FUNCTION and module == JOB_MODULE for code, module in _frames(error))


def _caller_in_mtx(error: BaseException) -> str:
    """Return the module of mtx that has raised an error or called the library that did; empty if Hydra called it."""
    for _, module in reversed(_frames(error)):
        if module.startswith("mtx."):
            return module
        if module.startswith("hydra"):
            return ""
    return ""


def _frames(error: BaseException) -> list[tuple[CodeType, str]]:
    """Return the code and the module of each frame of a traceback."""
    return [(frame.f_code, str(frame.f_globals.get("__name__"))) for frame, _ in walk_tb(error.__traceback__)]
