"""Scorers, which give each pair typed columns: scores, of which a higher one means a better pair, and other values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.score.planted_noise import PlantedPairs
from mtx.errors import ConfigError, DataError
from mtx.infra.dal.unconvertible_value import unconvertible_value

MAIN_COLUMN = "score"  # the stored name of the column that is called like its scorer
SAMPLE_PAIRS = 500_000  # pairs on which a scorer trains: enough for stable statistics, and a bound on time and memory

FLOAT = pa.float64()

Scores: TypeAlias = pa.Array | Mapping[str, pa.Array]
Sample: TypeAlias = Callable[[], Iterator[pa.RecordBatch]]
Mask: TypeAlias = NDArray[np.bool_]
ScorePlanted: TypeAlias = Callable[[PlantedPairs], pa.RecordBatch]


@dataclass(frozen=True)
class ScoreColumn:
    """A column that a scorer gives to each pair.

    Attributes:
        description: the meaning and the scale of the column.
        type: float64 for a score; higher is better, and NaN means that a pair has no score. Another type for other
            values, such as the number of a cluster or a language.
    """

    description: str
    type: pa.DataType = FLOAT

    @property
    def is_score(self) -> bool:
        """Whether the column is a score, on which a filter may set a minimum."""
        return bool(pa.types.is_float64(self.type))


class Scorer(ABC):
    """Base class of scorers, which give each pair numbers; a higher number means a better pair.

    Subclasses are frozen dataclasses of plain values, picklable and without state. The constructor checks the fields
    and does no I/O.

    Attributes:
        is_of_texts: whether the values of a pair depend on its texts alone. If not, the pairs to score have the column
            `row` with their numbers in the corpus, and planted noise gets no score.
        is_parallel: whether several processes may score at once. False for scorers with a large network. A class
            outside mtx that does not set it has False, since it may use an accelerator or much memory.
    """

    is_of_texts: ClassVar[bool] = True
    is_parallel: ClassVar[bool] = True

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if not cls.__module__.startswith("mtx.") and "is_parallel" not in vars(cls):
            cls.is_parallel = False

    @property
    def reads_rows(self) -> bool:
        """Whether values depend on the column `row`, so that a text at another place of the corpus has other values."""
        return not self.is_of_texts

    @property
    def scores_noise(self) -> bool:
        """Whether planted noise gets a score: the values depend on the texts, and need no further pairs."""
        return self.is_of_texts

    def check_corpus(self, num_pairs: Sequence[int]) -> None:
        """Check that this scorer fits a corpus, before it trains or scores.

        Args:
            num_pairs: number of raw pairs of each source of the corpus.

        Raises:
            MtxError: the scorer does not fit.
        """
        del num_pairs  # a scorer of texts fits any corpus

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The columns of this scorer by stored name.

        In reports and filters, the column `score` of a scorer NAME is called `NAME`, and another column x `NAME.x`.
        """
        return {MAIN_COLUMN: ScoreColumn((type(self).__doc__ or "").strip().partition("\n")[0])}

    @abstractmethod
    def scores(self, pairs: pa.RecordBatch) -> Scores:
        """Return the columns of the pairs by stored name, each with n values; a single array is the column `score`.

        The values of a pair must depend only on this pair. A score is NaN or null if the pair has none.

        Args:
            pairs: columns `src`, `tgt` and any further columns.
        """


class ScoringModel(Protocol):
    """What a trained scorer loads from its artifact; used by one thread, and not pickled."""

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Scores:
        """Return the columns of the pairs, as `Scorer.scores` does.

        Args:
            pairs: columns `src`, `tgt` and any further columns.
            in_sample: bool [n], True for each pair that was in the training sample. A model that would recognise such a
                pair takes the pair's own counts off (leave-one-out). So both kinds of pairs have one scale.
        """


@runtime_checkable
class LeaveOutModel(ScoringModel, Protocol):
    """A model that can take off the counts of other pairs than the scored ones, to measure it with planted noise.

    A bad pair that is made from a pair of the sample would be recognised by what the model has learned from that pair.
    If it stood in the corpus instead of that pair, the model would not have learned it.
    """

    def scores_without(self, pairs: pa.RecordBatch, originals: pa.RecordBatch, in_sample: Mask) -> Scores:
        """Return the columns of the pairs, as `Scorer.scores` does, without what was learned from the originals.

        Args:
            pairs: columns `src` and `tgt`.
            originals: the pairs from which they are made, one for each, with columns `src`, `tgt` and `other_tgt`. If a
                bad pair has the target of another pair of the training sample, `other_tgt` is this target, else an
                empty text.
            in_sample: bool [n], True for each original that was in the training sample.
        """


class TrainedScorer(Scorer):
    """Base class of scorers that train on a bounded, seeded sample of the corpus before they score.

    The model is an artifact of the store: files without code, such as arrays of numpy or JSON, but no pickle.
    """

    sample_pairs: int  # a field of each subclass: the largest number of pairs in the sample
    seed: int  # a field of each subclass: the seed of the sample, and of the training

    @abstractmethod
    def train(self, sample: Sample, folder: Path) -> None:
        """Train on a sample of pairs, and write the model into files in `folder`.

        Args:
            sample: returns the sample as a stream of record batches with `src`, `tgt` and further columns, in the
                order of the corpus. It can be called several times.
            folder: an empty folder.
        """

    @abstractmethod
    def load(self, folder: Path) -> ScoringModel:
        """Return the model that `train` has written into `folder`."""

    def scores(self, pairs: pa.RecordBatch) -> Scores:
        """Raise DataError: only the model that `load` returns can score pairs."""
        raise DataError(f"{type(self).__name__} scores only with its model: use load(folder).scores(pairs, in_sample)")


class CorpusScorer(Scorer):
    """Base class of scorers whose values of a pair depend on all pairs of the corpus, such as its duplicates.

    The columns of the whole corpus are computed at once, and are an artifact of the store, as a model is.
    """

    @abstractmethod
    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        """Return the columns of all pairs of a corpus by stored name, each with n values.

        Args:
            corpus: returns all pairs as a stream of record batches with `src` and `tgt`. It can be called several
                times. Pairs are numbered from 0 in this order.
            num_pairs: n, the number of pairs.
            scratch: an empty folder for temporary files, which is removed afterwards.
        """

    def scores(self, pairs: pa.RecordBatch) -> Scores:
        """Raise DataError: a batch is not the corpus."""
        raise DataError(f"{type(self).__name__} scores a whole corpus: use corpus_columns(corpus, num_pairs, folder)")


class HeldOutScorer(TrainedScorer):
    """Base class of trained scorers that compare training pairs with the held-out pairs, on which they train.

    `train` receives all held-out pairs: those of the validation and test splits, and of `datamodule.validation_sets`.
    In `scores`, `in_sample` is True for each pair that is itself held out from the training split.
    """

    sample_pairs: ClassVar[int]  # type: ignore[misc]  # no field: all held-out pairs are used
    seed: ClassVar[int]  # type: ignore[misc]  # no field: nothing is drawn

    @property
    def scores_noise(self) -> bool:
        """False: noise that is made from a held-out pair shares a side with it, whatever the kind of noise."""
        return False


class CombiningScorer(TrainedScorer):
    """Base class of scorers that combine the columns of other scorers.

    The other scorers score the corpus first. Their scores are part of the ids of the model and of the combined scores.
    """

    # A field of each subclass: names of the scorers to combine. None: all others that score noise.
    inputs: list[str] | None

    @abstractmethod
    def train_on_scores(self, sample: Sample, score_planted: ScorePlanted, folder: Path) -> None:
        """Train on a sample of scored pairs, and write the model into files in `folder`.

        Args:
            sample: as in `train`; the batches also have the columns of the other scorers, by their names in reports.
            score_planted: returns bad pairs that are planted into the sample, with the same columns.
            folder: an empty folder.
        """

    def train(self, sample: Sample, folder: Path) -> None:
        """Raise DataError: the columns of other scorers are needed."""
        raise DataError(f"{type(self).__name__} combines other scorers: use train_on_scores")


def scoring_order(scorers: Mapping[str, Scorer]) -> dict[str, list[str]]:
    """Return the names of scorers in the order in which they score a corpus, each with the scorers that it combines.

    Raises ConfigError if a scorer combines none, or one that is not chosen, or one that combines others itself.
    """
    order: dict[str, list[str]] = {name: [] for name, of in scorers.items() if not isinstance(of, CombiningScorer)}
    plain = list(order)
    for name, scorer in scorers.items():
        if not isinstance(scorer, CombiningScorer):
            continue
        usable = [of for of in plain if scorers[of].scores_noise]
        inputs = usable if scorer.inputs is None else scorer.inputs
        if not inputs:
            raise ConfigError(
                f"the scorer {name} combines other scorers, but none is chosen. Choose another one beside it, such as "
                f"'score=[rules,{name}]'"
            )
        if unknown := [other for other in inputs if other not in usable]:
            raise ConfigError(
                f"score.{name}.inputs names {unknown[0]}, which is not among the chosen scorers that can be combined: "
                f"{', '.join(usable) or 'none'}. Set score.{name}.inputs=null for all of them"
            )
        order[name] = list(inputs)
    return order


def score_batch(scorer: Scorer, found: Scores, num_rows: int) -> pa.RecordBatch:
    """Return the columns that a scorer has computed for `num_rows` pairs, checked against `scorer.columns`.

    Raises DataError if columns are missing or unknown, or do not have one value of the right type for each pair.
    """
    name = type(scorer).__name__
    given = found if isinstance(found, Mapping) else {MAIN_COLUMN: found}
    declared = scorer.columns
    if given.keys() != declared.keys():
        raise DataError(f"{name} must return the columns {', '.join(declared)}, but returned {', '.join(given)}")
    arrays = []
    for column, of in declared.items():
        try:
            array = pa.array(given[column], type=of.type, from_pandas=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(
                f"{name} must return {column} of type {of.type}, but returned other values, "
                f"{unconvertible_value(given[column], of.type)}"
            ) from error
        if len(array) != num_rows:
            raise DataError(f"{name} returned {len(array)} scores for {num_rows} pairs, not one per pair")
        if of.is_score and array.null_count:
            array = array.fill_null(float("nan"))
        arrays.append(array)
    return pa.record_batch(arrays, names=list(declared))


def shown_name(scorer_name: str, column: str) -> str:
    """Return the name of a stored column of a scorer in reports and filters: `NAME` or `NAME.column`."""
    return scorer_name if column == MAIN_COLUMN else f"{scorer_name}.{column}"
