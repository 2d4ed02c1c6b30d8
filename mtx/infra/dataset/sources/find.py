"""Finding local files: one by its path, all of a folder, those that a pattern fits, or a list of such."""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtx.errors import SourceError
from mtx.infra.dataset.sources.files import COMPRESSIONS, SourceFile, listed, stamp_of
from mtx.infra.dataset.sources.formats import ENDINGS

MAGIC = "*?["  # what makes a path a pattern


@dataclass(frozen=True)
class Found:
    """Files in order, and those that were passed over.

    Attributes:
        files: each once, in the order of the list, and within a folder or a pattern by name.
        passed_over: files of a folder or a pattern that are not read, each with the reason.
    """

    files: tuple[SourceFile, ...]
    passed_over: tuple[str, ...] = ()


def find_files(paths: str | Sequence[str], key: str, *, lines: bool = False) -> Found:
    """Find the files that the config key `key` names: a file, a folder, a pattern, or a list of them.

    Folders are looked through with all that is in them, apart from names that start with a dot. The order is that of
    the parts of the paths by code point, whatever the file system says. `lines`: plain text under any name. Raises
    SourceError.
    """
    found = [_find(path, key, lines=lines) for path in ([paths] if isinstance(paths, str) else paths)]
    files = tuple(file for one in found for file in one.files)
    seen: set[Path] = set()
    for file in files:
        if (resolved := file.path.resolve()) in seen:
            raise SourceError(f"{file.path} is there more than once in {key}, but each file is read once. Name it once")
        seen.add(resolved)
    return Found(files, tuple(name for one in found for name in one.passed_over))


def find_file(path: str, key: str) -> SourceFile:
    """Find a file of a format that its ending tells; `~` stands for the home folder. Raises SourceError."""
    found = _existing(path, key)
    if (form := _format(found)) is None:
        raise SourceError(
            f"{found} has an ending that is not known. {_known()}. Give {key} another name, or for two files of plain "
            "text, line by line, downloader.source_path=FILE downloader.target_path=FILE"
        )
    return _source_file(found, form, key)


def find_text(path: str, key: str) -> SourceFile:
    """Find a file of plain text under any name; `~` stands for the home folder. Raises SourceError."""
    return _source_file(_existing(path, key), "lines", key)


def _find(path: str, key: str, *, lines: bool) -> Found:
    root = Path(path).expanduser()
    if root.is_dir():
        if lines:
            raise SourceError(
                f"{root} is a folder, but its files' names do not tell the language. Name the files with a pattern, as "
                f"'{key}={root}/*.en'"
            )
        return _choose(_inside(root), f"the folder {root}", key, lines=False)
    if any(character in path for character in MAGIC) and not root.exists():
        fitting = _fitting(root, key)
        if not fitting:
            raise SourceError(f"no file fits {root}. {_near(_base(root))} Name others with {key}=PATTERN")
        return _choose(fitting, f"the pattern {root}", key, lines=lines)
    return Found((find_text(path, key) if lines else find_file(path, key),))


def _choose(paths: Iterable[Path], what: str, key: str, *, lines: bool) -> Found:
    """Take the files that can be read, and say which cannot. Raises SourceError where there is none."""
    files, passed_over = [], []
    for path in paths:
        form = "lines" if lines else _format(path)
        if form is None:
            passed_over.append(f"{path} (ending not known)")
        elif not path.exists():
            passed_over.append(f"{path} (a link to nothing)")
        elif path.stat().st_size == 0:
            passed_over.append(f"{path} (empty)")
        else:
            files.append(_source_file(path, form, key))
    if not files:
        there = listed(passed_over) or "nothing"
        raise SourceError(f"{what} has no file to read, but {there}. {_known()}. Name another with {key}=PATH")
    return Found(tuple(files), tuple(passed_over))


def _inside(root: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error

    paths = []
    for folder, folders, names in os.walk(root, onerror=stop):  # does not follow links to folders, which may go round
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(paths, key=lambda path: path.parts)


def _fitting(pattern: Path, key: str) -> list[Path]:
    base = _base(pattern).parent
    inner = pattern.relative_to(base)
    try:
        found = [path for path in base.glob(str(inner)) if not path.is_dir()]
    except ValueError as error:
        raise SourceError(f"{pattern} is no pattern of paths: {error}. Correct {key}=PATTERN") from error
    dotted = any(part.startswith(".") for part in inner.parts)
    hidden = [any(part.startswith(".") for part in path.relative_to(base).parts) for path in found]
    return sorted((path for path, hid in zip(found, hidden, strict=True) if dotted or not hid), key=lambda p: p.parts)


def _base(pattern: Path) -> Path:
    """Return the pattern up to its first part that is one."""
    for number, part in enumerate(pattern.parts):
        if any(character in part for character in MAGIC):
            return Path(*pattern.parts[: number + 1])
    return pattern


def _existing(path: str, key: str) -> Path:
    found = Path(path).expanduser()
    if found.is_dir():
        raise SourceError(f"{found} is a folder, but a file is needed. Name a file in it with {key}=FILE")
    if not found.exists():
        raise SourceError(f"there is no file {found}. {_near(found)} Name another with {key}=FILE")
    return found


def _source_file(path: Path, form: str, key: str) -> SourceFile:
    stamp = stamp_of(path)
    if stamp[0] == 0:
        raise SourceError(f"{path} is empty: 0 bytes. Name another file with {key}=FILE")
    inner, compression = _unpacked(path)
    return SourceFile(path=path, format=form, compression=compression, stem=inner.stem, stamp=stamp)


def _format(path: Path) -> str | None:
    return ENDINGS.get(_unpacked(path)[0].suffix.lower())


def _unpacked(path: Path) -> tuple[Path, str | None]:
    """Return the path without the ending of a compression, and the compression."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return (path.with_suffix("") if compression else path), compression


def _known() -> str:
    return f"Known are {', '.join(ENDINGS)}, each also with {' or '.join(COMPRESSIONS)} behind it"


def _near(path: Path) -> str:
    """Say what is in the folder of a missing file, the closest names first."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"Its folder {folder} is missing, too."
    names = sorted(entry.name for entry in folder.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f"Close to it in {folder}: {', '.join(close)}."
    return f"{folder} has no file with a name like it."
