"""Text to translate: sentences without a translation, one a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pairs import batches_of_rows, is_text
from mtx.infra.dataset.sources.files import SourceFile, decoded_lines, not_utf8
from mtx.infra.dataset.sources.find import find_text

KEY = "datamodule.predict_from"


@dataclass(frozen=True, kw_only=True)
class SourceTextDownloader(Downloader):
    r"""Reads a file of UTF-8 as pairs with an empty target: row k is line k, from 0, whatever stands in it.

    Lines end with `\n` or `\r\n` and nothing else. None is left out: an empty line is an empty sentence, and bytes
    that are no UTF-8 are an error. The text's content names the dataset, not where the file lies.

    Args:
        path: the file, also with `.gz` or `.zst` behind.
    """

    path: str

    def info(self) -> SourceInfo:
        """Find the file and its digest. Raises SourceError."""
        sha256 = self._file.sha256()
        identity = {"class": "source text", "compression": self._file.compression, "sha256": sha256}
        return SourceInfo(self._file.stem, ("src", "tgt"), f"sha256:{sha256}", identity, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the lines, in bounded memory. Raises SourceError, with the line that is no UTF-8."""
        num_rows = 0
        for batch in batches_of_rows(self._pairs(), None):
            num_rows += batch.num_rows
            yield batch
        self._file.check_unchanged()
        if not num_rows:
            raise SourceError(f"{self._file.path} has no line. Name another file with {KEY}=FILE")

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for number, text in enumerate(decoded_lines(self._file), 1):
            if not is_text(text):
                what = not_utf8(text.encode(errors="surrogateescape"))
                raise MalformedPairError(
                    f"{self._file.path}, line {number}: {what}. Lines are not left out, as each gets its prediction: "
                    f"write the file as UTF-8, or name another with {KEY}=FILE"
                )
            yield text, ""

    @cached_property
    def _file(self) -> SourceFile:
        return find_text(self.path, KEY)
