"""The text stage: a normaliser changes raw text. It is the only stage that changes text, and it keeps all rows.

The text dataset stores only the changed rows, with their row numbers; all other rows are read from the raw dataset.
"""

import logging
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import component
from mtx.components.identity import LATER
from mtx.data.bounded_pair_batches import pair_batches
from mtx.errors import ConfigError, DataError, choices
from mtx.infra.dal.row_views import ROW_COLUMN
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

log = logging.getLogger(__name__)

Form = Literal["NFC", "NFKC"]
Prefix = Annotated[
    str | Mapping[str, str],
    Field(description="a text, or a text for the name of each part, such as {web: '>>de<< ', news: '>>fr<< '}"),
]
CHANGES_SCHEMA = pa.schema([pa.field(ROW_COLUMN, pa.int64()), *PAIR_SCHEMA])


class Normaliser(ABC):
    """Base class of normalisers, which change the texts of each pair.

    Subclasses are frozen dataclasses of plain values, picklable and without state. The constructor checks the fields
    and does no I/O. The result for a pair depends only on its two texts.
    """

    changes_text: ClassVar[bool] = True  # False: the stage skips this normaliser and uses the raw rows as text

    @property
    def source_prefix(self) -> Prefix:
        """The text before each source, or a text for each part of the corpus by its name; empty: none."""
        return ""

    @property
    def part_prefixes(self) -> tuple[str, ...]:
        """The different texts that stand before the sources of parts of the corpus, such as tags; empty: none."""
        return ()

    def for_part(self, name: str) -> "Normaliser":
        """Return the normaliser of a part of a mixture, or of a validation set, by its name."""
        del name
        return self

    @abstractmethod
    def apply(self, pairs: pa.RecordBatch) -> pa.RecordBatch:
        """Return the new `src` and `tgt` of the pairs: the same number and order of rows, large_string, no nulls."""

    def apply_counted(self, pairs: pa.RecordBatch, changed: dict[str, int]) -> pa.RecordBatch:
        """Return the result of `apply`, and add to `changed` the number of pairs that each step of it changes."""
        del changed
        return self.apply(pairs)


class NormaliseStep(ABC):
    """Base class of one's own steps of `normalise=steps`; `@mtx.normalise_step` makes one of a function."""

    @abstractmethod
    def apply(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        """Return the new texts of one side, in the same order, without nulls."""


@component("normalise")
class DefaultNormaliser(Normaliser):
    """Removes white space around each text, and applies a Unicode normal form.

    Args:
        strip: remove white space at the start and the end of each side, as `str.strip` does.
        form: Unicode normal form of each text, NFC or NFKC; None: no Unicode normalisation.
        source_prefix: text before each source, such as the language tag `>>de<< ` of a multilingual model, or
            `translate English to German: ` of T5. It counts in tokens, lengths and budgets like other text. Empty
            sources, and those that begin with it, stay as they are. Checkpoints contain it. A mapping gives one to
            each part of a mixture and each validation set, by name; the split and the search for leaks ignore it.
    """

    kind: ClassVar[str] = "normalise/default"
    version: ClassVar[int] = 1

    strip: bool = True
    form: Form | None = None
    source_prefix: Prefix = field(default="", metadata=LATER)

    def __post_init__(self) -> None:
        given = self.source_prefix
        for prefix in [given] if isinstance(given, str) else given.values():
            try:
                prefix.encode()
            except UnicodeEncodeError:
                raise ConfigError(
                    f"normalise.source_prefix must be text without lone surrogates, but is {prefix!r}. Set "
                    "\"normalise.source_prefix='>>de<< '\""
                ) from None

    @property
    def part_prefixes(self) -> tuple[str, ...]:
        """The different prefixes of parts; empty if all sources have one prefix or none."""
        given = self.source_prefix
        return () if isinstance(given, str) else tuple(dict.fromkeys(filter(None, given.values())))

    def for_part(self, name: str) -> "DefaultNormaliser":
        """Return the normaliser with the prefix of a part."""
        given = self.source_prefix
        return self if isinstance(given, str) else replace(self, source_prefix=given.get(name, ""))

    def apply(self, pairs: pa.RecordBatch) -> pa.RecordBatch:
        """Return the texts in the Unicode normal form `form`, stripped if `strip` is set; sources with their prefix."""
        source, target = (self._normal_form(pairs.column(name)) for name in PAIR_SCHEMA.names)
        return pa.record_batch([self._prefixed(source), target], schema=PAIR_SCHEMA)

    def _prefixed(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        if not self.source_prefix or not isinstance(self.source_prefix, str):
            return texts
        prefix = pa.scalar(self.source_prefix, pa.large_string())
        stays = pc.or_(pc.equal(texts, ""), pc.starts_with(texts, self.source_prefix))
        return pc.if_else(stays, texts, pc.binary_join_element_wise(prefix, texts, pa.scalar("", pa.large_string())))

    def _normal_form(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        if self.form is not None and not pc.all(pc.string_is_ascii(texts)).as_py():  # ASCII never changes
            form = self.form  # uses Python's Unicode tables, because Arrow's differ between versions of Arrow
            texts = pa.array([unicodedata.normalize(form, text) for text in texts.to_pylist()], pa.large_string())
        return pc.utf8_trim_whitespace(texts) if self.strip else texts


@component("normalise")
class NoNormaliser(Normaliser):
    """Keeps every text unchanged."""

    kind: ClassVar[str] = "normalise/none"
    version: ClassVar[int] = 1
    changes_text: ClassVar[bool] = False

    def apply(self, pairs: pa.RecordBatch) -> pa.RecordBatch:
        """Return the texts unchanged."""
        return pairs.select(PAIR_SCHEMA.names)


def without_prefixes(pairs: Iterable[pa.RecordBatch], prefixes: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Stream pairs without the prefixes of their sources, so that a sentence is one sentence with any tag.

    A source loses one prefix, the longest that it begins with.
    """
    for batch in pairs:
        texts = found = batch.column("src")
        for prefix in sorted(prefixes, key=len):  # the longest is the last, and so decides
            found = pc.if_else(pc.starts_with(texts, prefix), pc.utf8_slice_codeunits(texts, start=len(prefix)), found)
        yield batch.set_column(batch.schema.get_field_index("src"), "src", found) if prefixes else batch


def check_prefix_names(normaliser: Normaliser, known: Sequence[str], to_predict: str | None = None) -> None:
    """Raise ConfigError if a normaliser has a prefix for a part that is not `known`.

    The name `to_predict` of the text to translate, if there is one, is known, too; without a prefix, the log warns.
    """
    given = normaliser.source_prefix
    if isinstance(given, str):
        return
    known = [*known, *([] if to_predict is None else [to_predict])]
    for name in given:
        if name not in known:
            raise ConfigError(
                f"normalise.source_prefix has {name!r}, which is neither a part of the mixture nor a validation set; "
                f"present: {choices(name, known)}. For one prefix, set \"normalise.source_prefix='>>de<< '\""
            )
    if to_predict in known and to_predict not in given and normaliser.part_prefixes:
        log.warning(
            "normalise.source_prefix has no prefix for the text of datamodule.predict_from, which stays as it is. Give "
            "it one by the name %s, or an empty one",
            to_predict,
        )


def for_evaluation(normaliser: Normaliser, name: str, *, is_tagged: bool) -> Normaliser:
    """Return the normaliser of an evaluation set of a checkpoint.

    Args:
        normaliser: that of the checkpoint.
        name: the set. If the normaliser has no prefix by this name, the texts keep what they begin with.
        is_tagged: whether the texts are pairs of the training's corpus, with the prefixes of their parts.
    """
    given = normaliser.source_prefix
    if not is_tagged:
        return normaliser.for_part(name) if isinstance(given, str) or name in given else normaliser
    if isinstance(normaliser, DefaultNormaliser) and not isinstance(given, str):
        return replace(normaliser, source_prefix="")
    return normaliser


def untagged_message(texts: Sequence[str], prefixes: tuple[str, ...], how: str | None = None) -> str | None:
    """Return a warning if sources lack one of the prefixes of the training; None if there is nothing to warn of.

    `how` says how to set one; None: by the normaliser.
    """
    count = sum(bool(text.strip()) and not text.lstrip().startswith(prefixes) for text in texts) if prefixes else 0
    if not count:
        return None
    how = how or f"Set one: \"normalise.source_prefix='{prefixes[0]}'\""
    return (
        f"the checkpoint was trained with {' or '.join(map(repr, prefixes))} before each source, but {count} of "
        f"{len(texts)} sources have none. {how}, or write it before each of these sources"
    )


def changed_rows(
    normaliser: Normaliser,
    pairs: Iterable[pa.RecordBatch],
    first: int = 0,
    changed_by_step: dict[str, int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream the rows that a normaliser changes, as record batches of `CHANGES_SCHEMA`; at least one batch.

    Args:
        normaliser: the normaliser to apply.
        pairs: all rows, in order.
        first: row number of the first row of `pairs`.
        changed_by_step: receives the number of pairs that each step of the normaliser changes; None: not counted.

    Raises:
        DataError: the normaliser returns another number of rows, or other columns.
    """
    yield pa.RecordBatch.from_pylist([], schema=CHANGES_SCHEMA)
    if not normaliser.changes_text:
        return
    for batch in pair_batches(pairs):
        texts = normaliser.apply_counted(batch, {} if changed_by_step is None else changed_by_step)
        if texts.num_rows != batch.num_rows or texts.schema.names != PAIR_SCHEMA.names:
            raise DataError(
                f"{type(normaliser).__name__}.apply must return src and tgt of all {batch.num_rows} pairs of a batch, "
                f"but returned {texts.num_rows} rows of {', '.join(texts.schema.names)}. To drop pairs, write a filter"
            )
        found = np.flatnonzero(differing_pairs(texts, batch))
        if len(found):
            yield pa.record_batch(
                [pa.array(found + first), *texts.take(pa.array(found)).columns], schema=CHANGES_SCHEMA
            )
        first += batch.num_rows


def differing_pairs(one: pa.RecordBatch, other: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return which pairs of two batches differ in a text: bool [n]."""
    differs = [pc.not_equal(one.column(name), other.column(name)) for name in PAIR_SCHEMA.names]
    found: NDArray[np.bool_] = pc.or_(*differs).to_numpy(zero_copy_only=False)
    return found
