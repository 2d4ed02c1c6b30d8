"""The texts that a vocabulary is learned from: streamed in batches, column by column, never the whole at once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.base import Normalization, Side, normalizer, one_of, require
from mtx.errors import ConfigError, DataError, EmptyDatasetError

ROWS_AT_ONCE = 8192  # pairs turned into Python strings together
COLUMNS = {"source": ("src",), "target": ("tgt",), "both": ("src", "tgt")}
GAP = "\0"  # stands in for characters left out of the alphabet; trainers cut words there

Texts = Callable[[], Iterator[list[str]]]


def texts(
    dataset: TranslationDataset, *, side: Side, max_pairs: int, normalization: Normalization | None = None
) -> Texts:
    """Return a function that streams the texts of `dataset` in batches, as often as it is called.

    Args:
        dataset: its `.data` is `Rows`, an Arrow table, or a sequence of mappings.
        side: which column; `both` gives a batch of `src`, then the batch of `tgt` beside it.
        max_pairs: take at most this many pairs, evenly spaced over the dataset; the same ones each time.
        normalization: bring the texts into this normal form.

    Raises:
        ConfigError: `side` is none of those.
        DataError: the dataset has no rows with it, or lacks the columns, or has no str that UTF-8 can hold there.
        EmptyDatasetError: there is nothing but white space.
    """
    require(one_of("side", side, tuple(COLUMNS)))
    columns = COLUMNS[side]
    data = dataset.data
    if data is None:
        raise DataError(
            "a tokenizer cannot learn from a dataset without its rows: this is only its manifest. "
            "Read it whole, with repo.get(dataset_id=…)"
        )
    table = getattr(data, "table", data)
    batches = _table_batches if isinstance(table, pa.Table) else _list_batches
    normal_form = normalizer(normalization)

    def stream() -> Iterator[list[str]]:
        for batch in batches(table, columns, max_pairs):
            _check_text(batch)
            yield batch if normal_form is None else [normal_form.normalize_str(text) for text in batch]

    if not any(text and not text.isspace() for batch in stream() for text in batch):
        raise EmptyDatasetError(
            f"a tokenizer needs text to learn from, but the {' and '.join(columns)} of {len(table)} pairs hold none. "
            "See what the filter dropped, with mtx task=show, or choose filter=none"
        )
    return stream


def alphabet(stream: Iterator[list[str]], coverage: float) -> set[str]:
    """Return the most frequent characters that make up the share `coverage` of the text.

    Of equally frequent ones at the border, those with lower code points are in.
    """
    counts: Counter[str] = Counter()
    for batch in stream:
        counts.update("".join(batch))
    counts.pop(GAP, None)
    ranked = sorted((-count, char) for char, count in counts.items())
    sums = np.cumsum([-count for count, _ in ranked])
    num_kept = int(np.searchsorted(sums, coverage * sums[-1])) + 1
    return {char for _, char in ranked[:num_kept]}


def restricted(stream: Iterator[list[str]], characters: set[str]) -> Iterator[list[str]]:
    """Stream the texts with `GAP` in place of every character that is not in `characters`."""
    for batch in stream:
        others = set("".join(batch)) - characters
        gaps = {ord(char): GAP for char in others}
        yield [text if others.isdisjoint(text) else text.translate(gaps) for text in batch]


def check_coverage(coverage: float) -> str | None:
    """Return the problem where `coverage` is no share of the text."""
    if 0 < coverage <= 1:
        return None
    return f"tokenizer.character_coverage must lie above 0 and at most at 1, but is {coverage!r}"


def check_room(vocab_size: int, num_fixed: int, num_characters: int, coverage: float) -> None:
    """Raise ConfigError where the characters that must be in the vocabulary do not fit in."""
    needed = num_fixed + num_characters
    if vocab_size < needed:
        raise ConfigError(
            f"tokenizer.vocab_size must be at least {needed} for this text, but is {vocab_size}: {num_fixed} fixed "
            f"tokens and {num_characters} for the characters that make up {coverage} of it. Raise it, lower "
            "tokenizer.character_coverage, or choose tokenizer=bpe, which starts from bytes"
        )


def _table_batches(table: pa.Table, columns: tuple[str, ...], max_pairs: int) -> Iterator[list[str]]:
    _check_columns(columns, table.column_names)
    taken = _evenly_spaced(table.num_rows, max_pairs)
    start = 0
    for batch in table.select(list(columns)).to_batches(max_chunksize=ROWS_AT_ONCE):
        inside = taken[np.searchsorted(taken, start) : np.searchsorted(taken, start + batch.num_rows)] - start
        chosen = batch if len(inside) == batch.num_rows else batch.take(pa.array(inside))
        for column in columns:
            yield chosen.column(column).to_pylist()
        start += batch.num_rows


def _list_batches(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...], max_pairs: int) -> Iterator[list[str]]:
    taken = _evenly_spaced(len(rows), max_pairs)
    for start in range(0, len(taken), ROWS_AT_ONCE):
        batch = [rows[i] for i in taken[start : start + ROWS_AT_ONCE]]
        for row in batch:
            _check_columns(columns, row)
        for column in columns:
            yield [row[column] for row in batch]


def _evenly_spaced(num_rows: int, max_pairs: int) -> NDArray[np.int64]:
    num_taken = min(num_rows, max_pairs)
    return np.arange(num_taken, dtype=np.int64) * num_rows // max(1, num_taken)


def _check_columns(wanted: tuple[str, ...], present: Iterable[str]) -> None:
    names = list(present)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"a tokenizer learns from the texts src and tgt, but these rows have {', '.join(names) or 'no columns'}: "
            f"{' and '.join(missing)} is missing. Take a dataset of stage raw or filtered"
        )


def _check_text(batch: list[str]) -> None:
    try:
        "".join(batch).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise DataError(
            f"a tokenizer cannot learn from this text: {error}. Every src and tgt must be a str without lone "
            "surrogates; correct or drop it in the source"
        ) from error
