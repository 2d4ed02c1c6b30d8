"""Test sets that sacrebleu has downloaded, by name, such as `sacrebleu:wmt20:en-de`. Nothing is downloaded here."""

import os
import re
from pathlib import Path

from mtx.errors import SourceError

PREFIX = "sacrebleu:"
FORM = re.compile(r"sacrebleu:(?P<name>\w[\w.+-]*(?:/\w[\w.+-]*)*):(?P<source>[A-Za-z_]+)-(?P<target>[A-Za-z_]+)")
FOLDER_VARIABLE = "SACREBLEU"  # sacrebleu's own setting of its folder


def is_test_set(text: object) -> bool:
    """Return whether a setting names a test set of sacrebleu."""
    return isinstance(text, str) and text.startswith(PREFIX)


def sacrebleu_folder() -> Path:
    """Return the folder of the files that sacrebleu has downloaded."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".sacrebleu")


def test_set_options(text: str) -> dict[str, str]:
    """Return the options of `downloader=local` that read a test set of sacrebleu with its first reference.

    Args:
        text: the test set and its languages, such as `sacrebleu:wmt20:en-de`.

    Raises:
        SourceError: the text has another form, or the files of the test set are not there.
    """
    if (found := FORM.fullmatch(text)) is None:
        raise SourceError(
            f"a test set of sacrebleu is sacrebleu:NAME:SOURCE-TARGET, but is {text!r}. Type sacrebleu:wmt20:en-de"
        )
    name, pair = found["name"], f"{found['source']}-{found['target']}"
    folder = sacrebleu_folder() / name
    stem = f"{name.replace('/', '_')}.{pair}"
    source = folder / f"{stem}.src"
    references = sorted(path for path in folder.glob("*.ref*") if path.name.startswith(f"{stem}.ref"))
    if not source.is_file() or not references:
        raise SourceError(
            f"the test set {name} is not in {folder} for {pair}, and mtx downloads none. Download it with: sacrebleu "
            f"-t {name} -l {pair} --echo src"
        )
    return {
        "source_path": str(source),
        "target_path": str(references[0]),
        "source_language": found["source"],
        "target_language": found["target"],
        "name": f"{name}-{pair}",
    }
