"""Find local files by a path, a folder, a pattern, or a list of these."""

import difflib
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtx.errors import SourceError
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.infra.dataset.sources.formats import ENDINGS
from mtx.infra.dataset.sources.local_files import COMPRESSIONS, SourceFile, is_hidden, names_text, stamp_of
from mtx.library_errors import library_reason
from mtx.redaction_and_escaping import one_line

PATTERN_CHARACTERS = "*?["  # a path that contains one of these characters is a pattern
# How files of other kinds become files that mtx reads, by the ending of their names.
CONVERSIONS = {
    ".tar.gz": "tar -xf {}",
    ".tgz": "tar -xf {}",
    ".tar": "tar -xf {}",
    ".tar.xz": "tar -xf {}",
    ".tar.bz2": "tar -xf {}",
    ".xz": "xz -dk {}",
    ".bz2": "bzip2 -dk {}",
    ".7z": "7z x {}",
    ".rar": "unrar x {}",
    ".json": "jq -c '.[]' {} > NEW.jsonl",
    ".xlsx": "libreoffice --convert-to csv {}",
    ".ods": "libreoffice --convert-to csv {}",
}


@dataclass(frozen=True)
class FoundFiles:
    """The files to read, in order, and the files that are skipped.

    Attributes:
        files: files in the order of the list of paths; files of a folder or a pattern are sorted by name. No file
            occurs twice.
        skipped_files: files of a folder or a pattern that mtx does not read, each with the reason.
    """

    files: tuple[SourceFile, ...]
    skipped_files: tuple[str, ...] = ()


def find_files(paths: str | Sequence[str], key: str, *, lines: bool = False) -> FoundFiles:
    """Find the files that the config key `key` names: a file, a folder, a pattern, or a list of these.

    Folders are searched with all their subfolders. Names that start with a dot are skipped. The files are sorted by the
    code points of their path's parts, independently of the file system.

    Args:
        paths: one path or several paths.
        key: the config key, for error messages.
        lines: True: the files are plain text and can have any name.

    Raises SourceError if a file is missing, or if two paths lead to the same file.
    """
    found = [_find(path, key, lines=lines) for path in ([paths] if isinstance(paths, str) else paths)]
    files = tuple(file for one in found for file in one.files)
    seen: set[Path] = set()
    for file in files:
        if (resolved := file.path.resolve()) in seen:
            raise SourceError(f"{key} lists {file.name} more than once. Remove the repetitions")
        seen.add(resolved)
    return FoundFiles(files, tuple(name for one in found for name in one.skipped_files))


def find_file(path: str, key: str) -> SourceFile:
    """Find a file whose format follows from its name's ending; `~` means the home folder. Raises SourceError."""
    found = _existing_file(path, key)
    if (form := _file_format(found)) is None:
        command = next((text for ending, text in CONVERSIONS.items() if found.name.lower().endswith(ending)), None)
        advice = f"Convert the file with `{command.format(shlex.quote(str(found)))}`, and set" if command else "Set"
        raise SourceError(
            f"mtx does not know the ending of {found}. {_known_formats_text()}. {advice} {key} to another file, or for "
            "two line-aligned text files set downloader.source_path=FILE downloader.target_path=FILE"
        )
    return _source_file(found, form, key)


def find_text(path: str, key: str) -> SourceFile:
    """Find a plain text file with any name; `~` means the home folder. Raises SourceError if the file is missing."""
    return _source_file(_existing_file(path, key), "lines", key)


def _find(path: str, key: str, *, lines: bool) -> FoundFiles:
    root = expanded_path(path)
    if root.is_dir():
        if lines:
            raise SourceError(
                f"{root} is a folder, but the language of its files is unknown. Set a pattern for the files of one "
                f"language, such as '{key}={root}/*.en'"
            )
        return _choose(_files_inside(root), f"the folder {root}", key, lines=False)
    if any(character in path for character in PATTERN_CHARACTERS) and not root.exists():
        fitting = _matching_files(root, key)
        if not fitting:
            raise SourceError(
                f"no file matches {root}. {_nearby_names_text(_pattern_base(root))} Set another pattern with "
                f"{key}=PATTERN"
            )
        return _choose(fitting, f"the pattern {root}", key, lines=lines)
    return FoundFiles((find_text(path, key) if lines else find_file(path, key),))


def _choose(paths: Iterable[Path], what: str, key: str, *, lines: bool) -> FoundFiles:
    """Return the files that mtx can read and the files that it skips. Raises SourceError if it can read none."""
    files, skipped_files = [], []
    for path in paths:
        form = "lines" if lines else _file_format(path)
        if form is None:
            skipped_files.append(f"{one_line(str(path))} (unknown ending)")
        elif not path.exists():
            skipped_files.append(f"{one_line(str(path))} (a broken link)")
        elif path.stat().st_size == 0:
            skipped_files.append(f"{one_line(str(path))} (empty)")
        else:
            files.append(_source_file(path, form, key))
    if not files:
        there = names_text(skipped_files) or "nothing"
        raise SourceError(
            f"{what} has no file that mtx can read; found: {there}. {_known_formats_text()}. "
            f"Set another path with {key}=PATH"
        )
    return FoundFiles(tuple(files), tuple(skipped_files))


def _files_inside(root: Path) -> list[Path]:
    def stop(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {library_reason(error)}") from error

    paths = []
    for folder, folders, names in os.walk(root, onerror=stop):  # no links to folders, which can form cycles
        folders[:] = [name for name in folders if not is_hidden([name])]
        paths += [Path(folder, name) for name in names if not is_hidden([name])]
    return sorted(paths, key=lambda path: path.parts)


def _matching_files(pattern: Path, key: str) -> list[Path]:
    base = _pattern_base(pattern).parent
    inner = pattern.relative_to(base)
    try:
        found = [path for path in base.glob(str(inner)) if not path.is_dir()]
    except ValueError as error:
        is_joined = any("**" in part and part != "**" for part in inner.parts)
        reason = "** is a whole part of a path, as in corpus/**/*.tsv" if is_joined else library_reason(error)
        raise SourceError(f"{pattern} is not a valid pattern of paths: {reason}. Correct {key}=PATTERN") from error
    dotted = any(part.startswith(".") for part in inner.parts)
    hidden = [is_hidden(path.relative_to(base).parts) for path in found]
    return sorted((path for path, hid in zip(found, hidden, strict=True) if dotted or not hid), key=lambda p: p.parts)


def _pattern_base(pattern: Path) -> Path:
    """Return the beginning of the path `pattern`, up to and including its first part with a pattern character."""
    for number, part in enumerate(pattern.parts):
        if any(character in part for character in PATTERN_CHARACTERS):
            return Path(*pattern.parts[: number + 1])
    return pattern


def _existing_file(path: str, key: str) -> Path:
    found = expanded_path(path)
    if found.is_dir():
        raise SourceError(
            f"{one_line(str(found))} is a folder, but a file is needed. Set a file in the folder with {key}=FILE"
        )
    if not found.exists():
        raise SourceError(
            f"there is no file {one_line(str(found))}. {_nearby_names_text(found)} Set another file with {key}=FILE"
        )
    return found


def _source_file(path: Path, form: str, key: str) -> SourceFile:
    stamp = stamp_of(path)
    if stamp[0] == 0:
        raise SourceError(f"{one_line(str(path))} is empty: 0 bytes. Set another file with {key}=FILE")
    inner, compression = _path_and_compression(path)
    return SourceFile(path=path, format=form, compression=compression, stem=one_line(inner.stem), stamp=stamp)


def _file_format(path: Path) -> str | None:
    return ENDINGS.get(_path_and_compression(path)[0].suffix.lower())


def _path_and_compression(path: Path) -> tuple[Path, str | None]:
    """Return the path without the ending of a compression format, and the compression format or None."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return (path.with_suffix("") if compression else path), compression


def _known_formats_text() -> str:
    return f"Known endings: {', '.join(ENDINGS)}, each optionally followed by {' or '.join(COMPRESSIONS)}"


def _nearby_names_text(path: Path) -> str:
    """Return a sentence with the names in the folder of a missing file that are most similar to the file's name."""
    folder = path.absolute().parent
    shown = one_line(str(folder))
    if not folder.is_dir():
        return f"Its folder {shown} does not exist either."
    names = sorted(entry.name for entry in folder.iterdir())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f"Similar names in {shown}: {', '.join(map(one_line, close))}."
    return f"{shown} has no file with a similar name."
