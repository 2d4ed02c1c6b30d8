"""Archives as OPUS hands them out (`moses`): a zip with two files of line-aligned text, and papers beside them.

The two texts are called by the languages, as `NAME.de-en.de` and `NAME.de-en.en`; everything else in the archive is
passed over. They are read as they are unpacked, and nothing is written to the disk.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError

import pyarrow as pa

from mtx.errors import SourceError
from mtx.infra.dataset.columns import Columns, Wanted
from mtx.infra.dataset.pairs import Refusals
from mtx.infra.dataset.sources.aligned import Side, read_sides
from mtx.infra.dataset.sources.files import (
    MAX_RATIO,
    SourceFile,
    is_bomb,
    lines_of,
    listed,
    numbered_blocks,
    plain_path,
)
from mtx.infra.dataset.sources.languages import likeness, oriented
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "file in it"
ENCRYPTED = 0x1  # the flag of a member
ADVICE = "The archive was put together wrongly: name another with downloader.path=FILE"


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the two texts by their names. Raises SourceError where there are none, or several that fit."""
    with _opened(file) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if not names:
            return None
        found = _pairs(names, wanted)
        if len(found) != 1:
            said = f"there are several: {listed([' with '.join(pair) for pair in found])}"
            if not found:
                said = f"there are: {listed(sorted(names))}"
            raise SourceError(
                f"{file.path}: two texts of line-aligned sentences are needed, called by the languages, as "
                f"corpus.de-en.de and corpus.de-en.en, but {said}. Choose them with "
                "downloader.source_language=NAME downloader.target_language=NAME, or unpack the archive and name two "
                "files with downloader.source_path=FILE downloader.target_path=FILE"
            )
        for name in found[0]:
            _check(file, archive, name)
        sides = dict(zip(("source", "target"), found[0], strict=True))
        columns = oriented(_language(sides["source"]), _language(sides["target"]), wanted, str(file.path))
        return Columns(sides[columns.source], sides[columns.target], columns.languages)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs, `limit` at most. Raises SourceError, also for archives that are damaged or encrypted."""
    with _opened(file) as archive:
        source, target = (
            Side(f"{name} in {file.path}", partial(_lines, file, archive, name))
            for name in (columns.source, columns.target)
        )
        yield from read_sides(source, target, ADVICE, refusals, limit)


def _lines(file: SourceFile, archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    with _named_errors(file), archive.open(name) as stream:
        yield from lines_of(numbered_blocks(stream, f"{name} in {file.path}"))


def _pairs(names: list[str], wanted: Wanted) -> list[tuple[str, str]]:
    """Return the pairs of texts, each in the order of its languages in the names."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, language = name.rpartition(".")
        groups.setdefault(stem, {})[language] = name
    found = []
    for stem, members in groups.items():
        source, _, target = stem.rpartition(".")[2].partition("-")
        if source in members and target in members and source != target and _fit((source, target), wanted):
            found.append((members[source], members[target]))
    if not found and wanted.source_language and wanted.target_language:  # corpus.de and corpus.en
        said = wanted.source_language, wanted.target_language
        found = [(all_[said[0]], all_[said[1]]) for all_ in groups.values() if said[0] in all_ and said[1] in all_]
    return found


def _fit(languages: tuple[str, str], wanted: Wanted) -> bool:
    said = wanted.source_language, wanted.target_language
    return any(
        all(b is None or likeness(a, b) for a, b in zip(present, said, strict=True))
        for present in (languages, languages[::-1])
    )


def _language(name: str) -> str:
    return name.rpartition(".")[2]


def _check(file: SourceFile, archive: zipfile.ZipFile, name: str) -> None:
    """Raise SourceError for a member that no honest archive has, or that cannot be read."""
    member = archive.getinfo(name)
    packed = min(member.compress_size, file.stamp[0])  # it may say anything
    what = None
    if archive.namelist().count(name) > 1:
        what = "is there more than once"
    elif name.startswith("/") or "\\" in name or ".." in name.split("/") or not name.isprintable():
        what = "has a name that leads out of the archive, or cannot be printed"
    elif is_bomb(member.file_size, packed):
        what = (
            f"has {member.file_size:,} bytes packed to {packed:,}, which is more than {MAX_RATIO} to one: "
            "that is no text"
        )
    if what is not None:
        raise SourceError(f"{file.path} is not to be trusted: {name!r} {what}. Name another with downloader.path=FILE")
    if member.flag_bits & ENCRYPTED:
        raise SourceError(
            f"{file.path} is encrypted, and mtx asks for no passwords. Unpack it, and name the two files with "
            "downloader.source_path=FILE downloader.target_path=FILE"
        )


@contextmanager
def _opened(file: SourceFile) -> Iterator[zipfile.ZipFile]:
    with plain_path(file) as path, _named_errors(file), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _named_errors(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{file.path} is no whole zip archive that can be read: {error}. It was cut short or damaged, or packed in "
            "an unusual way: copy or download it again"
        ) from error
    except OSError as error:
        raise SourceError(f"{file.path} cannot be read: {error.strerror or error}") from error
