"""Shows a scorer that trains on the corpus, and rules that use its columns.

Run it with overrides of the command line, or without any for the sample corpus:

    python examples/own_scorer.py
    python examples/own_scorer.py downloader=local downloader.path=corpus.jsonl.gz

The scorer counts how often each word of a side occurs in a sample. It gives each pair the share of frequent words, and
the length of the longer side. The program drops the tenth of the pairs with the rarest words, and prints what each rule
drops.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

import mtx
from mtx.components.checked_options import component
from mtx.data.filter.selection import SelectionFilter
from mtx.data.score.scorer import Mask, Sample, ScoreColumn, TrainedScorer
from mtx.training.translation_data import TranslationData


@component("score.frequent_words")
class FrequentWordsScorer(TrainedScorer):
    """Scores pairs by the share of their source words that are frequent in the corpus.

    Args:
        min_count: occurrences from which on a word is frequent.
        sample_pairs: maximum number of pairs that are counted.
        seed: another seed draws another sample.
    """

    kind: ClassVar[str] = "score/frequent_words"
    version: ClassVar[int] = 1

    min_count: int = 5
    sample_pairs: int = 100_000
    seed: int = 0

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        return {
            "score": ScoreColumn("share of frequent source words, 0 to 1; none for a source without words"),
            "longest": ScoreColumn("characters of the longer side", pa.int64()),
        }

    def train(self, sample: Sample, folder: Path) -> None:
        counts: Counter[str] = Counter()
        for batch in sample():
            for text in batch["src"].to_pylist():
                counts.update(text.lower().split())
        frequent = sorted(word for word, count in counts.items() if count >= self.min_count)
        (folder / "words.json").write_text(json.dumps(frequent))

    def load(self, folder: Path) -> "FrequentWords":
        return FrequentWords(frozenset(json.loads((folder / "words.json").read_text())))


class FrequentWords:
    """The model: the frequent words. `in_sample` is not needed, since one pair hardly changes the counts."""

    def __init__(self, words: frozenset[str]) -> None:
        self.words = words

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        shares = []
        for text in pairs["src"].to_pylist():
            words = text.lower().split()
            shares.append(sum(word in self.words for word in words) / len(words) if words else float("nan"))
        lengths = (pc.utf8_length(pairs[side]) for side in ("src", "tgt"))
        return {"score": pa.array(shares, pa.float64()), "longest": pc.max_element_wise(*lengths).cast(pa.int64())}


def main(overrides: list[str]) -> None:
    parts = mtx.compose_datamodule(["tokenizer=byte", *overrides])
    recipe = parts.recipe
    selection = SelectionFilter(
        before=recipe.filter,
        rules={"frequent_words": {"min_quantile": 0.1}, "longest": {"max": 500}},
    )
    dm = TranslationData(
        storage=parts.storage,
        downloader=recipe.downloader,
        filter=selection,
        tokenizer=recipe.tokenizer,
        sampler=parts.sampler,
        score={"frequent_words": FrequentWordsScorer()},
    )
    dm.prepare_data()
    assert dm.ids is not None
    metrics = dm.storage.repo.manifest(dm.ids.filtered["train"]).metrics
    print("judged", metrics["rules"]["num_pairs"], "pairs, kept", metrics["rules"]["num_kept"])
    for name, rule in metrics["rules"]["rules"].items():
        print(f"{name}: {rule['dropped_alone']} alone, {rule['dropped_only_here']} only here")


if __name__ == "__main__":
    main(sys.argv[1:])
