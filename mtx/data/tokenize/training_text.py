"""Streams the texts for training a tokenizer, in batches of one column, so that they never fill memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import problem_of
from mtx.data.dataset import TranslationDataset
from mtx.data.row_slices import row_slices
from mtx.data.tokenize.tokenization import MAX_TOKEN_ID, Normalization, Side, normalizer
from mtx.errors import ConfigError, DataError, EmptyDatasetError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SelectedRows
from mtx.library_errors import library_reason
from mtx.progress.tracking import Phases

ROWS_PER_BATCH = 8192  # pairs that are converted to Python strings at once
COLUMNS = {"source": ("src",), "target": ("tgt",), "both": ("src", "tgt")}
ALPHABET_GAP = "\0"  # replaces characters outside the alphabet; trainers split words at this character


Coverage = Annotated[float, Field(gt=0, le=1)]  # share of all characters of the text


@dataclass(frozen=True)
class Texts:
    """A repeatable stream of batches of texts, which shows the progress of each pass.

    Attributes:
        stream: starts a new pass over all texts.
        num_texts: number of texts.
        phases: progress display of the passes; None: no display.
    """

    stream: Callable[[], Iterator[list[str]]]
    num_texts: int
    phases: Phases | None = None

    def __call__(self) -> Iterator[list[str]]:
        """Stream all texts in batches."""
        return self.stream()

    def to_count(self) -> Iterator[list[str]]:
        """Stream all texts, and show the progress as the phase `counting characters`."""
        return self._pass("counting characters")

    def to_learn_from(self) -> Iterator[list[str]]:
        """Stream all texts as the phase `counting words`, and then begin the phase `learning the vocabulary`."""
        yield from self._pass("counting words")
        if self.phases is not None:
            self.phases.begin("learning the vocabulary", unit=None)

    def _pass(self, name: str) -> Iterator[list[str]]:
        return self.stream() if self.phases is None else self.phases.through(self.stream(), name, self.num_texts)


def training_texts(
    dataset: TranslationDataset,
    *,
    side: Side,
    max_pairs: int,
    normalization: Normalization | None = None,
    phases: Phases | None = None,
) -> Texts:
    """Return a repeatable stream of the texts of `dataset`, in batches.

    Args:
        dataset: a dataset whose `data` is `Rows`, an Arrow table, or a sequence of mappings.
        side: the column to stream; `both`: for each range of rows a batch of `src`, and then a batch of `tgt`.
        max_pairs: maximum number of pairs, evenly spaced over the dataset; each pass takes the same pairs.
        normalization: Unicode normal form that is applied to the texts.
        phases: shows the progress of each pass.

    Raises:
        ConfigError: `side` is not valid.
        DataError: the dataset has no rows, lacks a text column, or has a value that is no text or no valid Unicode.
        EmptyDatasetError: all texts are empty or white space.
    """
    if problem := problem_of("side", Side, side):
        raise ConfigError(problem)
    columns = COLUMNS[side]
    data = dataset.data
    if data is None:
        raise DataError(
            "a tokenizer cannot learn from a dataset without its rows, but this is only a manifest. "
            "Read the dataset with its rows: repo.get(dataset_id=…)"
        )
    rows = Rows(data) if isinstance(data, pa.Table) else data
    normal_form = normalizer(normalization)

    def batches() -> Iterator[list[str]]:
        if isinstance(rows, Rows):
            return _row_batches(rows, columns, max_pairs)
        return _list_batches(rows, columns, max_pairs)

    def stream() -> Iterator[list[str]]:
        for batch in batches():
            _check_text(batch)
            yield batch if normal_form is None else [normal_form.normalize_str(text) for text in batch]

    if not any(text and not text.isspace() for batch in stream() for text in batch):
        raise EmptyDatasetError(
            f"a tokenizer needs text to learn from, but the {' and '.join(columns)} of {len(rows)} pairs hold none. "
            "Check with mtx task=show what the filter dropped, or set filter=none"
        )
    return Texts(stream, min(len(rows), max_pairs) * len(columns), phases)


def alphabet(stream: Iterator[list[str]], coverage: float) -> set[str]:
    """Return the most frequent characters that together make up the share `coverage` of the text.

    Among equally frequent characters, those with lower code points are preferred.
    """
    counts: Counter[str] = Counter()
    for batch in stream:
        counts.update("".join(batch))
    counts.pop(ALPHABET_GAP, None)
    ranked = sorted((-count, char) for char, count in counts.items())
    sums = np.cumsum([-count for count, _ in ranked])
    num_kept = int(np.searchsorted(sums, coverage * sums[-1])) + 1
    return {char for _, char in ranked[:num_kept]}


def restricted_texts(stream: Iterator[list[str]], characters: set[str]) -> Iterator[list[str]]:
    """Stream the texts, with `ALPHABET_GAP` in place of each character that is not in `characters`."""
    for batch in stream:
        others = set("".join(batch)) - characters
        gaps = {ord(char): ALPHABET_GAP for char in others}
        yield [text if others.isdisjoint(text) else text.translate(gaps) for text in batch]


def check_vocabulary_size(vocab_size: int, num_fixed: int, num_characters: int, coverage: float) -> None:
    """Raise ConfigError if the vocabulary is too small for the fixed tokens and the characters of the alphabet."""
    needed = num_fixed + num_characters
    if vocab_size < needed:
        raise ConfigError(
            f"tokenizer.vocab_size must be at least {needed} for this text, but is {vocab_size}. It needs {num_fixed} "
            f"fixed tokens, and {num_characters} for the characters that make up {coverage} of the text. Raise it, "
            "lower tokenizer.character_coverage, or use tokenizer=bpe, which starts from bytes"
        )


def check_vocabulary_bound(vocab_size: int) -> None:
    """Raise ConfigError if the vocabulary is larger than `MAX_TOKEN_ID` allows; the library would end the process."""
    if vocab_size > MAX_TOKEN_ID + 1:
        raise ConfigError(
            f"tokenizer.vocab_size is at most {MAX_TOKEN_ID + 1}, because a model has an embedding for each token, but "
            f"is {vocab_size}. Set a smaller size, such as tokenizer.vocab_size=32000"
        )


def _row_batches(rows: Rows, columns: tuple[str, ...], max_pairs: int) -> Iterator[list[str]]:
    _check_columns(columns, rows.schema.names)
    if max_pairs < len(rows):  # a view reads only these pairs
        taken = pa.table({ROW_COLUMN: _evenly_spaced_rows(len(rows), max_pairs)})
        rows = SelectedRows([rows], [len(rows)], Rows(taken))
    for batch in rows.batches(columns):
        for piece in row_slices(batch, ROWS_PER_BATCH):
            for column in columns:
                yield piece.column(column).to_pylist()


def _list_batches(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], max_pairs: int) -> Iterator[list[str]]:
    taken = _evenly_spaced_rows(len(rows), max_pairs)
    for start in range(0, len(taken), ROWS_PER_BATCH):
        batch = [rows[i] for i in taken[start : start + ROWS_PER_BATCH]]
        for row in batch:
            _check_columns(columns, row)
        for column in columns:
            yield [row[column] for row in batch]


def _evenly_spaced_rows(num_rows: int, max_pairs: int) -> NDArray[np.int64]:
    num_taken = min(num_rows, max_pairs)
    return np.arange(num_taken, dtype=np.int64) * num_rows // max(1, num_taken)


def _check_columns(wanted: tuple[str, ...], present: Iterable[str]) -> None:
    names = list(present)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"a tokenizer learns from the texts src and tgt, but these rows have {', '.join(names) or 'no columns'}: "
            f"{' and '.join(missing)} is missing. Use a dataset of stage raw or filtered"
        )


def _check_text(batch: list[str]) -> None:
    try:
        "".join(batch).encode()
    except (TypeError, UnicodeEncodeError) as error:
        wrong = [text for text in batch if not isinstance(text, str)][:1]
        reason = f"{wrong[0]!r} is no text" if wrong else library_reason(error)
        raise DataError(
            f"a tokenizer cannot learn from this text: {reason}. Every src and tgt must be a str "
            "without lone surrogates. Correct or drop such a pair in the source"
        ) from error
