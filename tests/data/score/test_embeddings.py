"""The scorer `embeddings`, with an encoder whose vectors are known, and the encoder of sentence-transformers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from mtx.components.check_and_build import build_multiple, check_config
from mtx.components.identity import identity
from mtx.data.score.embeddings import EmbeddingsScorer
from mtx.data.score.text_encoder import SentenceTransformersEncoder, TextEncoder
from mtx.errors import ConfigError, DataError
from mtx.testing import check_scorer


@dataclass(frozen=True)
class LetterEncoder(TextEncoder):
    """Counts the letters a to d, as if they were meanings; a text with a `?` has no finite vector."""

    letters: str = "abcd"

    def encode(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        vectors = np.array(
            [[text.lower().count(letter) for letter in self.letters] for text in texts], dtype=np.float32
        )
        vectors = vectors.reshape(len(texts), len(self.letters))
        vectors[["?" in text for text in texts]] = np.nan
        return vectors


def batch(sources: Sequence[str], targets: Sequence[str]) -> pa.RecordBatch:
    columns = [pa.array(list(side), pa.large_string()) for side in (sources, targets)]
    return pa.record_batch(columns, ["src", "tgt"])


def scored(
    scorer: EmbeddingsScorer, sample: pa.RecordBatch, pairs: pa.RecordBatch, folder: Path, *, in_sample: bool = False
) -> tuple[list[float], list[float]]:
    scorer.train(lambda: iter([sample]), folder)
    found = scorer.load(folder).scores(pairs, np.full(pairs.num_rows, in_sample))
    return tuple([round(value, 5) for value in found[name].to_pylist()] for name in ("score", "cosine"))  # type: ignore[return-value]


def test_the_margin_is_the_cosine_divided_by_that_of_the_nearest_neighbours(tmp_path: Path) -> None:
    sample = batch(["a", "b", "ab"], ["A", "B", "AB"])
    pairs = batch(["a", "a", "ab", "a", ""], ["A", "B", "A", "C", "A"])
    half = 0.5**0.5
    # The two nearest texts of "a" have the cosines 1 and √½, and those of "ab" 1 and √½, too.
    mean = (1 + half) / 2
    margins, cosines = scored(EmbeddingsScorer(encoder=LetterEncoder(), neighbours=2), sample, pairs, tmp_path)
    assert cosines == [1.0, 0.0, round(half, 5), 0.0, 0.0]
    assert margins == [round(1 / mean, 5), 0.0, round(half / mean, 5), 0.0, 0.0]


def test_a_pair_of_the_sample_is_no_neighbour_of_itself(tmp_path: Path) -> None:
    sample = batch(["a", "b", "ab"], ["A", "B", "AB"])
    half = 0.5**0.5
    scorer = EmbeddingsScorer(encoder=LetterEncoder(), neighbours=1)
    margins, _ = scored(scorer, sample, sample, tmp_path, in_sample=True)
    assert margins == [round(1 / half, 5)] * 3, "the nearest other text of each has the cosine √½"
    margins, _ = scored(scorer, sample, sample, tmp_path)
    assert margins == [1.0] * 3
    many = EmbeddingsScorer(encoder=LetterEncoder(), neighbours=9)
    margins, _ = scored(many, sample, sample.slice(0, 1), tmp_path, in_sample=True)
    assert margins == [round(1 / (half / 2), 5)], "all two others are its neighbours"


def test_pairs_without_vectors_or_neighbours_have_no_score(tmp_path: Path) -> None:
    scorer = EmbeddingsScorer(encoder=LetterEncoder())
    margins, cosines = scored(scorer, batch(["a", "?"], ["A", "a"]), batch(["?", "a"], ["a", "a"]), tmp_path)
    assert np.isnan(margins).tolist() == np.isnan(cosines).tolist() == [True, False]
    margins, cosines = scored(scorer, batch(["a"], ["a"]), batch(["a"], ["a"]), tmp_path, in_sample=True)
    assert np.isnan(margins).tolist() == [True]
    assert cosines == [1.0]


def test_it_keeps_the_contract_of_scorers() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcd "), 12)) for _ in range(600)]
    pairs = pa.Table.from_batches([batch([*texts[:300], "", "\0", "🎉"], [*texts[300:], "a", "b", "c"])])
    found = check_scorer(EmbeddingsScorer(encoder=LetterEncoder(), sample_pairs=100), pairs)
    assert np.isfinite(found["score"].to_numpy()).all()


@pytest.mark.parametrize(
    ("returned", "shape"),
    [(np.zeros(2), r"float64 of shape \[2\]"), (np.zeros((1, 3), dtype=int), r"int64 of shape \[1, 3\]")],
)
def test_an_encoder_that_returns_other_arrays_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, returned: Any, shape: str
) -> None:
    monkeypatch.setattr(LetterEncoder, "encode", lambda *_: returned)
    with pytest.raises(
        DataError, match=rf"LetterEncoder\.encode must return .* of 2 texts, but returned an array of {shape}"
    ):
        scored(EmbeddingsScorer(encoder=LetterEncoder()), batch(["a", "b"], ["a", "b"]), batch([], []), tmp_path)


def test_an_encoder_of_ones_own_is_an_option_and_part_of_the_id() -> None:
    target = f"{LetterEncoder.__module__}.LetterEncoder"
    sys.modules.setdefault(LetterEncoder.__module__, sys.modules[__name__])
    config = {
        "score": {
            "embeddings": {
                "_target_": "mtx.data.score.embeddings.EmbeddingsScorer",
                "encoder": {"_target_": target, "letters": "ab"},
            }
        }
    }
    check_config(config)
    scorer = build_multiple(config, "score")["embeddings"]
    assert scorer == EmbeddingsScorer(encoder=LetterEncoder("ab"))
    assert identity(scorer) != identity(EmbeddingsScorer(encoder=LetterEncoder("abc")))
    assert str(identity(scorer)["encoder"]["version"]).startswith("code:")  # type: ignore[index,call-overload]


class StandInModel:
    def __init__(self, folder: str, **options: Any) -> None:
        assert options == {"device": None, "local_files_only": True}

    def encode(self, texts: list[str], **options: Any) -> NDArray[np.floating[Any]]:
        assert options["batch_size"] == 64
        return LetterEncoder().encode(texts)


class OtherModel(StandInModel):
    def encode(self, texts: list[str], **options: Any) -> NDArray[np.floating[Any]]:
        return np.full((len(texts), 1), 9.0)


def test_an_encoder_is_not_called_without_texts(tmp_path: Path) -> None:
    class Unready(LetterEncoder):
        def encode(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
            return super().encode(texts) if texts else np.empty(0)

    scorer = EmbeddingsScorer(encoder=Unready())
    pairs = batch(["ab", "cd"], ["ab", "cd"])
    scorer.train(lambda: iter([pairs.slice(0, 0), pairs]), tmp_path)
    model = scorer.load(tmp_path)
    assert len(model.scores(pairs.slice(0, 0), np.empty(0, dtype=np.bool_))["score"]) == 0
    assert len(model.scores(pairs, np.ones(2, dtype=np.bool_))["score"]) == 2


def test_a_model_of_sentence_transformers_is_read_from_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module: Any = ModuleType("sentence_transformers")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("sentence_transformers", None)
    module.SentenceTransformer = StandInModel
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    encoder = SentenceTransformersEncoder(folder=str(tmp_path))
    with pytest.raises(ConfigError, match=r"folder must be a folder with a model .*, but .* is empty"):
        encoder.check()
    (tmp_path / "weights.bin").write_bytes(b"1")
    encoder.check()
    assert encoder.encode(["ab"]).tolist() == [[1.0, 1.0, 0.0, 0.0]]
    before = identity(encoder)
    (tmp_path / "weights.bin").write_bytes(b"22")
    assert identity(encoder) != before
    module.SentenceTransformer = OtherModel
    assert encoder.encode(["ab"]).tolist() == [[9.0]], "a changed model is loaded again"
    with pytest.raises(ConfigError, match=r"but .*absent is no folder"):
        identity(SentenceTransformersEncoder(folder=str(tmp_path / "absent")))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path) -> None:
    if "sentence_transformers" in sys.modules:
        pytest.skip("sentence-transformers is installed")
    scorer = EmbeddingsScorer(encoder=SentenceTransformersEncoder(folder=str(tmp_path)))
    with pytest.raises(ConfigError, match=r'^score\.embeddings\.encoder needs .*pip install "mtx\[embeddings\]"$'):
        scorer.check_corpus([1])
