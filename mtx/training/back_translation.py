"""Back-translation: pairs of a target text and its translation into the source language by a checkpoint.

The translations are stored as a raw dataset, so they are computed once and can be a part of a mixture. The method is of
Sennrich et al. 2016, "Improving Neural Machine Translation Models with Monolingual Data" (ACL). The tag that marks such
sources is of Caswell et al. 2019, "Tagged Back-Translation" (WMT).
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from mtx.components.checked_options import Count, component
from mtx.components.identity import JSON, LATER, class_identity
from mtx.errors import ConfigError, MalformedPairError, OwnCodeError, SourceError
from mtx.infra.dal.atomic_file import sha256_of
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import batches_of_rows, is_text
from mtx.infra.dataset.sources.file_discovery import find_text
from mtx.infra.dataset.sources.local_files import SourceFile, decoded_lines, utf8_problem
from mtx.infra.dataset.sources.translation_directions import direction_name
from mtx.library_errors import library_reason
from mtx.training.checkpoint_content import existing_checkpoint

if TYPE_CHECKING:
    from mtx.training.checkpoint_translator import CheckpointTranslator

LEFT_OUT = ("empty_line", "empty_translation", "too_long")  # reasons for which a line gives no pair
LINES_AT_ONCE = 1000  # lines that are translated together, in batches of similar length


@component("downloader")
class BackTranslationDownloader(Downloader):
    """Translates lines of target text with a checkpoint of the opposite direction.

    The target of a pair is the line, and its source is the translation. The id of the dataset depends on the contents
    of the checkpoint and of the text, and on the options of the search. The manifest names the checkpoint.

    Args:
        ckpt: the checkpoint, which translates from the target language of the pairs into their source language.
        text: the file of lines, UTF-8, one sentence per line, optionally with `.gz` or `.zst` added.
        beam: the number of hypotheses in beam search; 1 is greedy search.
        length_penalty: the exponent of the length in the score of a hypothesis.
        tag: a word that is put before each source, so that the model can tell it from human text; None: none.
        n: the number of lines to translate, from the first on; None: all.
        batch_tokens: the padded source positions of a batch, times `beam`.
        device: where the model computes; None: a GPU if there is one.
        direction: the direction, such as `de-en`, of a checkpoint of several; None: it has one.
    """

    kind: ClassVar[str] = "downloader/back_translation"
    version: ClassVar[int] = 1

    ckpt: str
    text: str
    beam: Count = 4
    length_penalty: Annotated[float, Field(ge=0, le=10)] = 1.0
    tag: str | None = "<BT>"
    n: Count | None = None
    batch_tokens: Count = 4096
    device: str | None = None
    direction: str | None = field(default=None, metadata=LATER)

    def info(self) -> SourceInfo:
        """Return the description of the pairs. Raises SourceError if the text cannot be read.

        Raises ConfigError if the checkpoint cannot translate.
        """
        text, model = self._file.sha256(), self._hashed[0]
        search: dict[str, JSON] = {
            "beam": self.beam,
            "length_penalty": self.length_penalty,
            "tag": self.tag,
            "n": self.n,
            **({} if self.direction is None else {"direction": self.direction}),
        }
        checkpoint: dict[str, JSON] = {"sha256": model}
        identity: dict[str, JSON] = {**class_identity(type(self)), **search, "checkpoint": checkpoint, "text": text}
        revision = f"sha256:{hashlib.sha256(f'{text} {model}'.encode()).hexdigest()}"
        source, target = self._translator.languages
        return SourceInfo(
            name=f"{self._file.stem}-back-translated",
            languages=(target, source),
            revision=revision,
            identity=identity,
            splits=("train",),
            provenance={"checkpoint_path": str(Path(self.ckpt).resolve())},
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Yield the pairs in the order of the lines; empty lines and lines that the model would truncate are left out.

        Raises SourceError at a line that is not valid UTF-8, or if no line gives a pair.
        """
        if split != "train":
            raise SourceError(f"{self._file.name} has no split {split!r}; there is: train")
        num_pairs = 0
        for batch in batches_of_rows(self._pairs(counts), None):
            num_pairs += batch.num_rows
            yield batch
        self._file.check_unchanged()
        if not num_pairs:
            left_out = ", ".join(f"{counts[reason]:,} {reason}" for reason in LEFT_OUT if counts.get(reason))
            raise SourceError(
                f"no line of {self._file.name} gives a pair: {left_out}. Train "
                f"downloader.ckpt={self.ckpt} longer, or set downloader.text to another file"
            )

    def _pairs(self, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
        waiting: list[str] = []
        for text in self._lines():
            waiting.append(text)
            if len(waiting) == LINES_AT_ONCE:
                yield from self._translated(waiting, counts)
                waiting = []
        yield from self._translated(waiting, counts)

    def _lines(self) -> Iterator[str]:
        for number, text in enumerate(decoded_lines(self._file), 1):
            if self.n is not None and number > self.n:
                return
            if not is_text(text):
                what = utf8_problem(text.encode(errors="surrogateescape"))
                raise MalformedPairError(f"{self._file.name}, line {number}: {what}. Convert the file to UTF-8")
            yield text

    def _translated(self, texts: list[str], counts: dict[str, int]) -> Iterator[tuple[str, str]]:
        from mtx.training.checkpoint_translator import SearchOptions

        options = SearchOptions(beam=self.beam, length_penalty=self.length_penalty, batch_tokens=self.batch_tokens)
        rows = self._translator.encode(texts)
        is_kept = [bool(ids) and not self._translator.num_truncated([len(ids)]) for ids in rows]
        found = self._translator.n_best_of_ids(
            [ids if kept else [] for ids, kept in zip(rows, is_kept, strict=True)], options
        )
        for text, ids, kept, best in zip(texts, rows, is_kept, found, strict=True):
            if not kept or not best[0].text:
                reason = LEFT_OUT[0 if not ids else 1 if kept else 2]
                counts[reason] = counts.get(reason, 0) + 1
                continue
            yield (best[0].text if self.tag is None else f"{self.tag} {best[0].text}"), text

    @cached_property
    def _file(self) -> SourceFile:
        return find_text(self.text, "downloader.text")

    @cached_property
    def _path(self) -> Path:
        try:
            return existing_checkpoint(self.ckpt, task="prepare")
        except ConfigError as error:
            raise ConfigError(_with_key(str(error))) from error

    @cached_property
    def _hashed(self) -> tuple[str, tuple[int, int, int]]:
        """The SHA-256 of the checkpoint, and its stamp from before it was read."""
        stamp = _file_stamp(self._path)
        return sha256_of(self._path), stamp

    @cached_property
    def _translator(self) -> "CheckpointTranslator":
        from mtx.training.checkpoint_translator import load_translator

        _, before = self._hashed
        try:
            translator = load_translator(self._path, device=self.device, direction=self.direction)
        except OwnCodeError as error:
            reason, _, typed = _with_key(str(error)).rpartition(". ")
            raise ConfigError(
                f"{reason}. Back-translation builds none: translate with mtx task=translate, and read the two files. "
                f"There, {typed[0].lower()}{typed[1:]}"
            ) from error
        except ConfigError as error:
            raise ConfigError(_with_key(str(error))) from error
        if len(directions := translator.state.directions) > 1:
            known = ", ".join(map(direction_name, directions))
            raise ConfigError(
                f"downloader.ckpt={self._path} has several directions: {known}. Choose one: "
                f"downloader.direction={direction_name(directions[0])}"
            )
        if prefixes := translator.state.normalise.part_prefixes:
            known = ", ".join(map(repr, prefixes))
            raise ConfigError(
                f"downloader.ckpt={self._path} was trained with a prefix for each part ({known}), and back-translation "
                "cannot choose one. Translate with mtx task=translate normalise.source_prefix=PREFIX. Read both files"
            )
        if _file_stamp(self._path) != before:
            raise SourceError(
                f"downloader.ckpt={self._path} was replaced while it was read, as by a training that is running. Copy "
                "the checkpoint, and set downloader.ckpt to the copy"
            )
        return translator


def _file_stamp(path: Path) -> tuple[int, int, int]:
    """Return size, time of the last change in ns, and inode of a checkpoint. Raises SourceError without the file."""
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(f"downloader.ckpt={path} cannot be read: {library_reason(error)}. Correct it") from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def _with_key(message: str) -> str:
    """Return a message about `ckpt` with the key of this downloader."""
    return re.sub(r"(?<![\w./-])(?:task\.)?(ckpt|device|direction)(?==| must\b)", r"downloader.\1", message)
