"""Checks that a trained scorer writes equal models in two trainings, and trains the scorers that one combines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from mtx.data.score.planted_noise import PlantedPairs
from mtx.data.score.scorer import (
    CombiningScorer,
    CorpusScorer,
    Scorer,
    ScoringModel,
    TrainedScorer,
    score_batch,
    shown_name,
)


@dataclass(frozen=True)
class InputScores:
    """The scorers that a `CombiningScorer` combines, and the models of those that are trained."""

    scorers: Mapping[str, Scorer]
    models: Mapping[str, ScoringModel]

    @classmethod
    def of(cls, scorers: Mapping[str, Scorer], batches: list[pa.RecordBatch], folder: Path) -> Self:
        """Return the scorers after a training on batches of pairs. Models are written into `folder`."""
        models = {}
        for name, scorer in scorers.items():
            assert not isinstance(scorer, CombiningScorer | CorpusScorer), (
                f"combined takes scorers of single pairs, but {name} is a {type(scorer).__name__}"
            )
            if isinstance(scorer, TrainedScorer):
                place = folder / f"input-{name}"
                place.mkdir()
                scorer.train(lambda: iter(batches), place)
                models[name] = scorer.load(place)
        return cls(scorers, models)

    def added(self, pairs: pa.RecordBatch, *, is_sample: bool) -> pa.RecordBatch:
        """Return pairs with the columns of the scorers, by their names in reports."""
        found = pairs
        for name, scorer in self.scorers.items():
            in_sample = np.full(pairs.num_rows, is_sample)
            model = self.models.get(name)
            scores = scorer.scores(pairs) if model is None else model.scores(pairs, in_sample)
            scored = score_batch(scorer, scores, pairs.num_rows)
            for column in scored.schema.names:
                found = found.append_column(shown_name(name, column), scored[column])
        return found


def combining_function(
    scorer: CombiningScorer, batches: list[pa.RecordBatch], inputs: InputScores, folder: Path
) -> Callable[[pa.RecordBatch], Any]:
    """Return the function that scores a batch with the columns of other scorers, after a training."""

    def score_planted(planted: PlantedPairs) -> pa.RecordBatch:
        pairs = planted.pairs.select(["src", "tgt"]).combine_chunks().to_batches()[0]
        return inputs.added(pairs, is_sample=False)

    return _trained(scorer, lambda place: scorer.train_on_scores(lambda: iter(batches), score_planted, place), folder)


def scoring_function(scorer: Scorer, batches: list[pa.RecordBatch], folder: Path) -> Callable[[pa.RecordBatch], Any]:
    """Return the function that scores a batch, after a training if the scorer needs one."""
    if not isinstance(scorer, TrainedScorer):
        return scorer.scores
    return _trained(scorer, lambda place: scorer.train(lambda: iter(batches), place), folder)


def _trained(scorer: TrainedScorer, train: Callable[[Path], None], folder: Path) -> Callable[[pa.RecordBatch], Any]:
    """Return the function that scores a batch by the model that `train` writes, after two equal trainings."""
    files = []
    for name in ("first", "second"):
        place = folder / name
        place.mkdir()
        train(place)
        files.append({path.name: path.read_bytes() for path in sorted(place.iterdir())})
    assert files[0], "train() writes the model into files of its folder, but wrote none"
    assert files[0] == files[1], f"the model differs in a second training: {files[0]!r}, then {files[1]!r}"
    pickled = [name for name, content in files[0].items() if content[:1] == b"\x80" and content.endswith(b".")]
    assert not pickled, f"a model contains no pickle, which runs code when it is read, but {pickled[0]} is one"
    model = scorer.load(folder / "first")
    return lambda batch: model.scores(batch, np.ones(batch.num_rows, dtype=np.bool_))
