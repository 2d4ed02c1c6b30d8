"""Read source text without translations, one sentence per line, for translation with a trained model."""

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from mtx.components.checked_options import component
from mtx.components.identity import class_identity
from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import batches_of_rows, is_text
from mtx.infra.dataset.sources.file_discovery import find_text
from mtx.infra.dataset.sources.local_files import SourceFile, decoded_lines, utf8_problem

CONFIG_KEY = "datamodule.predict_from"


@component("datamodule.predict_from")
class SourceTextDownloader(Downloader):
    r"""Reads a UTF-8 text file as pairs with an empty target. Row k is line k, counted from 0.

    Only `\n` and `\r\n` end a line. No line is left out: an empty line is an empty sentence, and bytes that are not
    valid UTF-8 raise an error. The id of the dataset depends on the content of the file and not on its location.

    Args:
        path: the file, optionally with `.gz` or `.zst` added.
    """

    kind: ClassVar[str] = "downloader/monolingual"
    version: ClassVar[int] = 1

    path: str

    def info(self) -> SourceInfo:
        """Return the description of the file, with its digest. Raises SourceError if the file cannot be read."""
        sha256 = self._file.sha256()
        identity = {**class_identity(type(self)), "compression": self._file.compression, "sha256": sha256}
        return SourceInfo(self._file.stem, ("src", "tgt"), f"sha256:{sha256}", identity, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the lines in bounded memory. Raises SourceError at a line that is not valid UTF-8."""
        num_rows = 0
        for batch in batches_of_rows(self._pairs(), None):
            num_rows += batch.num_rows
            yield batch
        self._file.check_unchanged()
        if not num_rows:
            raise SourceError(f"{self._file.name} has no lines. Set another file with {CONFIG_KEY}=FILE")

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for number, text in enumerate(decoded_lines(self._file), 1):
            if not is_text(text):
                what = utf8_problem(text.encode(errors="surrogateescape"))
                raise MalformedPairError(
                    f"{self._file.name}, line {number}: {what}. mtx leaves out no line, because each line gets a "
                    f"prediction. Convert the file to UTF-8, or set another with {CONFIG_KEY}=FILE"
                )
            yield text, ""

    @cached_property
    def _file(self) -> SourceFile:
        return find_text(self.path, CONFIG_KEY)
