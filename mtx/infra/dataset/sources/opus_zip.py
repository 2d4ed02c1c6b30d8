"""Read OPUS archives (format `moses`): zip files with two line-aligned text files and documentation.

The names of the two text files end with the languages, such as `NAME.de-en.de` and `NAME.de-en.en`. All other files in
the archive are ignored. The texts are decompressed during reading, without temporary files.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa

from mtx.assumption_log import assume
from mtx.errors import SourceError
from mtx.infra.dal.archive_errors import ARCHIVE_ERRORS
from mtx.infra.dataset.column_detection import Columns, RequestedColumns
from mtx.infra.dataset.language_names import likeness
from mtx.infra.dataset.pair_stream import Refusals
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.language_direction import checked_direction
from mtx.infra.dataset.sources.line_aligned import AlignedSide, read_sides
from mtx.infra.dataset.sources.local_files import (
    MAX_RATIO,
    SourceFile,
    is_bomb,
    is_hidden_member,
    lines_of,
    names_text,
    numbered_blocks,
    plain_path,
)
from mtx.library_errors import library_reason

UNIT_NAME = "file in it"
ENCRYPTED_FLAG = 0x1  # bit in the flags of a member
REPACK_HINT = "The archive is not valid. Set another archive with downloader.path=FILE"


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the two texts by their names. Raises SourceError if no two texts match, or if several pairs match."""
    with _open_archive(file) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not is_hidden_member(name)]
        if not names:
            return None
        found = _pairs(names, wanted)
        if len(found) != 1:
            said = f"the archive has several: {names_text([' with '.join(pair) for pair in found])}"
            if not found:
                said = f"the archive has {names_text(sorted(names))}"
            raise SourceError(
                f"{file.name}: the archive must have two line-aligned texts whose names end with the languages, such "
                f"as corpus.de-en.de and corpus.de-en.en, but {said}. Choose the texts with "
                "downloader.source_language=NAME downloader.target_language=NAME, or unpack the archive and set two "
                "files with downloader.source_path=FILE downloader.target_path=FILE"
            )
        for name in found[0]:
            _check_member(file, archive, name)
        sides = dict(zip(("source", "target"), found[0], strict=True))
        columns = checked_direction(_name_language(sides["source"]), _name_language(sides["target"]), wanted, file.name)
        if wanted.source_language is None and wanted.target_language is None:
            assume(
                f"{file.name}: {columns.languages[0]!r} is the source and {columns.languages[1]!r} the target, by the "
                f"names in the archive. For the other direction, set downloader.source_language={columns.languages[1]}"
            )
        return Columns(sides[columns.source], sides[columns.target], columns.languages)


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs, at most `limit`. Raises SourceError, also if the archive is damaged or encrypted."""
    with _open_archive(file) as archive:
        source, target = (
            AlignedSide(f"{name} in {file.name}", partial(_lines, file, archive, name))
            for name in (columns.source, columns.target)
        )
        yield from read_sides(source, target, REPACK_HINT, refusals, limit)


def _lines(file: SourceFile, archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    with _convert_errors(file), archive.open(name) as stream:
        yield from lines_of(numbered_blocks(stream, f"{name} in {file.name}"))


def _pairs(names: list[str], wanted: RequestedColumns) -> list[tuple[str, str]]:
    """Return the pairs of member names that belong together, each in the order of the languages in the names."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        stem, _, language = name.rpartition(".")
        groups.setdefault(stem, {})[language] = name
    found = []
    for stem, members in groups.items():
        source, _, target = stem.rpartition(".")[2].partition("-")
        if source in members and target in members and source != target and _is_match((source, target), wanted):
            found.append((members[source], members[target]))
    if not found and wanted.source_language and wanted.target_language:  # names such as corpus.de and corpus.en
        said = wanted.source_language, wanted.target_language
        found = [(all_[said[0]], all_[said[1]]) for all_ in groups.values() if said[0] in all_ and said[1] in all_]
    return found


def _is_match(languages: tuple[str, str], wanted: RequestedColumns) -> bool:
    said = wanted.source_language, wanted.target_language
    return any(
        all(b is None or likeness(a, b) for a, b in zip(present, said, strict=True))
        for present in (languages, languages[::-1])
    )


def _name_language(name: str) -> str:
    return name.rpartition(".")[2]


def _check_member(file: SourceFile, archive: zipfile.ZipFile, name: str) -> None:
    """Raise SourceError if the member `name` is suspicious or encrypted."""
    member = archive.getinfo(name)
    packed = min(member.compress_size, file.stamp[0])  # the archive may state a false size
    what = None
    if archive.namelist().count(name) > 1:
        what = "occurs more than once"
    elif name.startswith("/") or "\\" in name or ".." in name.split("/") or not name.isprintable():
        what = "has a name that leads out of the archive or cannot be printed"
    elif is_bomb(member.file_size, packed):
        what = (
            f"has {member.file_size:,} bytes compressed to {packed:,}, a ratio above {MAX_RATIO}, so it cannot be text"
        )
    if what is not None:
        raise SourceError(
            f"{file.name} is not safe to read: {name!r} {what}. Set another file with downloader.path=FILE"
        )
    if member.flag_bits & ENCRYPTED_FLAG:
        raise SourceError(
            f"{file.name} is encrypted, and mtx cannot decrypt archives. Unpack the archive, and set the two files "
            "with downloader.source_path=FILE downloader.target_path=FILE"
        )


@contextmanager
def _open_archive(file: SourceFile) -> Iterator[zipfile.ZipFile]:
    with plain_path(file) as path, _convert_errors(file), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _convert_errors(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except ARCHIVE_ERRORS as error:
        raise SourceError(
            f"{file.name} is not a zip archive that mtx can read: {library_reason(error)}. The archive is truncated, "
            "damaged, or uses an unusual compression: copy or download the archive again"
        ) from error
    except OSError as error:
        raise SourceError(f"{file.name} cannot be read: {library_reason(error)}") from error
