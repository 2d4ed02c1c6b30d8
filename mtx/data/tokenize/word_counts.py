"""Counts the words of texts for a trainer of `tokenizers`, which would split each occurrence of a word again.

Texts are cut into pieces at which every byte-level tokenizer begins a word, and equal pieces are counted with Arrow.
Only distinct pieces are then split into words. The trainer gets each word as often as it occurs, between separators, so
its own counts, and the vocabulary, are the same as for the texts.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, CharDelimiterSplit, PreTokenizer, Sequence, Split

from mtx.cpu_count import granted_cores
from mtx.data.freed_memory import make_room_for
from mtx.data.row_slices import row_slices
from mtx.data.text_bytes import text_buffers
from mtx.data.threaded_map import threaded_map
from mtx.data.tokenize.text_pieces import piece_bounds, pieces_between

BLOCK_BYTES = 1 << 23  # of text whose pieces are counted at once; takes about 10 times the memory
MAX_HELD_ROWS = 1 << 22  # counts of pieces from several blocks that are held before equal pieces are added up
SEPARATOR = "\0"  # byte-level words have other characters for control characters
WORDS_PER_TEXT = 100  # for the trainer; the library takes longer per word for longer texts, and for shorter ones
TEXTS_PER_BATCH = 64
LONG = 100  # characters of a run that is cut, because the trainer takes quadratic time for long words
LONG_RUNS = rf"[\p{{L}}\p{{M}}]{{{LONG}}}|\p{{N}}{{{LONG}}}|[^\s\p{{L}}\p{{M}}\p{{N}}]{{{LONG}}}|\s{{{LONG}}}"
ONE_WORD = f"^ ?(?:[A-Za-z]{{1,{LONG - 1}}}|[0-9]{{1,{LONG - 1}}})$"  # pieces that need no pre-tokenizer
SPACE_IN_WORD = "Ġ"  # the byte-level character of a space

Counts: TypeAlias = pa.Table  # columns `text` (large_string, distinct) and `count` (int64)


def word_splitter() -> CharDelimiterSplit:
    """Return the pre-tokenizer that splits the texts of `repeated_words` into words."""
    return CharDelimiterSplit(SEPARATOR)


def word_counts(batches: Iterator[list[str]]) -> Counts:
    """Return the words of all texts as `ByteLevel` writes them, and how often each occurs.

    Words are those of GPT-2's pattern, cut after each 100 letters, digits or other characters in a row. Words of one
    byte are left out.
    """
    counts = _added(_words_of_pieces(_piece_counts(batches)))
    make_room_for(counts.num_rows)  # the trainer takes much memory of its own
    return counts


def repeated_words(counts: Counts) -> Iterator[list[str]]:
    """Stream texts that have each word as often as `counts` says, with a separator after each word."""
    texts: list[str] = []
    text: list[str] = []
    room = WORDS_PER_TEXT
    for batch in counts.to_batches(max_chunksize=1 << 16):
        for word, count in zip(batch["text"].to_pylist(), batch["count"].to_pylist(), strict=True):
            while count:
                taken = min(count, room)
                text.append(f"{word}{SEPARATOR}" * taken)
                count, room = count - taken, room - taken
                if not room:
                    texts.append("".join(text))
                    text, room = [], WORDS_PER_TEXT
                if len(texts) == TEXTS_PER_BATCH:
                    yield texts
                    texts = []
    yield [*texts, "".join(text)]


def _piece_counts(batches: Iterator[list[str]]) -> Counts:
    """Return the distinct pieces of all texts, and how often each occurs."""
    held, num_rows = [_counts([], [])], 0
    with ThreadPoolExecutor(granted_cores()) as threads:
        for counted in threaded_map(threads, _pieces_of_block, _blocks(batches)):
            held.append(counted)
            num_rows += counted.num_rows
            if num_rows > MAX_HELD_ROWS:
                held, num_rows = [_added(pa.concat_tables(held))], 0
    return _added(pa.concat_tables(held))


def _blocks(batches: Iterator[list[str]]) -> Iterator[pa.LargeStringArray]:
    """Yield all texts in blocks of about `BLOCK_BYTES`."""
    held: list[pa.LargeStringArray] = []
    for texts in batches:
        array = pa.array(texts, pa.large_string())
        for part in row_slices(array, max(1, len(array) * BLOCK_BYTES // max(1, array.nbytes))):
            held.append(part)
            if sum(each.nbytes for each in held) >= BLOCK_BYTES:
                yield pa.concat_arrays(held)
                held = []
    if held:
        yield pa.concat_arrays(held)


def _pieces_of_block(texts: pa.LargeStringArray) -> Counts:
    data, ends = text_buffers(texts)
    counted = pieces_between(data, piece_bounds(data, ends, "classes")[1]).value_counts()
    return _counts(counted.field("values"), counted.field("counts"))


def _words_of_pieces(pieces: Counts) -> Counts:
    """Return the words of the pieces with their counts; a word of several pieces occurs several times."""
    is_word = pc.match_substring_regex(pieces["text"], ONE_WORD)
    alone, others = pieces.filter(is_word), pieces.filter(pc.invert(is_word))
    found = [_counts(pc.replace_substring(alone["text"], " ", SPACE_IN_WORD), alone["count"])]
    short = ByteLevel(add_prefix_space=False, use_regex=True)
    long = Sequence([Split(Regex(LONG_RUNS), "isolated"), short])
    for batch in others.to_batches(max_chunksize=1 << 16):
        words, counts = [], []
        for piece, count in zip(batch["text"].to_pylist(), batch["count"].to_pylist(), strict=True):
            splitter: PreTokenizer = short if len(piece) < LONG else long
            split = [word for word, _ in splitter.pre_tokenize_str(piece)]
            words += split
            counts += [count] * len(split)
        found.append(_counts(words, counts))
    joined = pa.concat_tables(found)
    return joined.filter(pc.greater(pc.utf8_length(joined["text"]), 1))  # others have no pair to merge


def _counts(texts: object, counts: object) -> Counts:
    schema = pa.schema([("text", pa.large_string()), ("count", pa.int64())])
    return pa.table([texts, counts], schema=schema)


def _added(counts: Counts) -> Counts:
    """Return the distinct texts with the sum of their counts; `group_by` takes three times as long."""
    texts = counts["text"].combine_chunks().dictionary_encode()
    sums = np.bincount(texts.indices.to_numpy(), weights=counts["count"].to_numpy(), minlength=len(texts.dictionary))
    return _counts(texts.dictionary, sums.astype(np.int64))  # sums below 2^53 are exact
