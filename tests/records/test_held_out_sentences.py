"""held_out.parquet, read back: what was written, what is refused, and that 200,000 pairs are no problem."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.errors import DamagedError, NewerFormatError
from mtx.evaluation.corpus_metrics import METRICS, score_statistics
from mtx.records import held_out_sentences as module
from mtx.records.held_out_sentences import HELD_OUT_FILE, complete_held_out, read_held_out, write_likelihoods

ROWS, NATS, BYTES = [4, 0, 2], [0.5, 1.5, 2.5], [3, 4, 5]
VERSION = {b"mtx.held_out_version": b"1"}


def likelihoods() -> Any:
    return np.array([ROWS, NATS, BYTES], dtype=np.float64)


def write(folder: Path, metadata: dict[bytes, bytes] = VERSION, **columns: Any) -> None:
    table = pa.table({"row": [0, 1], "nats": [1.0, 2.0], "target_bytes": [1, 2], **columns})
    pq.write_table(table.replace_schema_metadata(metadata), folder / HELD_OUT_FILE)


def test_likelihoods_are_read_in_the_order_of_rows(tmp_path: Path) -> None:
    assert read_held_out(tmp_path, "bits_per_byte") is None
    write_likelihoods(tmp_path, likelihoods())
    found = read_held_out(tmp_path, "bits_per_byte")
    assert found is not None
    assert found.rows.tolist() == [0, 2, 4]
    assert found.values.tolist() == [[1.5, 4], [2.5, 5], [0.5, 3]]
    assert (found.digest, found.documents) == (None, None)
    assert read_held_out(tmp_path, "scores.bleu") is None
    assert [path.name for path in tmp_path.iterdir()] == [HELD_OUT_FILE]


def test_a_pair_of_several_batches_counts_as_often(tmp_path: Path) -> None:
    write_likelihoods(tmp_path, np.array([[1, 0, 1], [1.0, 2.0, 4.0], [3, 4, 3]], dtype=np.float64))
    found = read_held_out(tmp_path, "bits_per_byte")
    assert found is not None
    assert (found.rows.tolist(), found.values.tolist()) == ([0, 1], [[2, 4], [5, 6]])


def test_scores_documents_and_the_digest_are_added_to_the_likelihoods(tmp_path: Path) -> None:
    write_likelihoods(tmp_path, likelihoods())
    scores = score_statistics([2, 3], ["a b c d", "x"], ["a b c e", "x y"], tokenizer="13a")
    documents = np.array([7, -1, 8, 8, 7])
    for of_scores in (None, scores):  # as task=fit does before and after it translates
        path = complete_held_out(tmp_path, digest="d1", documents=documents, scores=of_scores)
    assert path == tmp_path / HELD_OUT_FILE
    assert scores is not None
    bits, bleu, chrf = (read_held_out(tmp_path, metric) for metric in METRICS)
    assert bits is not None
    assert bleu is not None
    assert chrf is not None
    assert (bits.rows.tolist(), bits.documents.tolist() if bits.documents is not None else 0) == ([0, 2, 4], [7, 8, 7])
    assert bits.values[:, 0].tolist() == [1.5, 2.5, 0.5]
    assert (bleu.rows.tolist(), chrf.rows.tolist()) == ([2, 3], [2, 3])
    assert bleu.values.tolist() == scores.bleu.tolist()
    assert chrf.values.tolist() == scores.chrf.tolist()
    assert bits.digest == bleu.digest == "d1"


def test_without_statistics_there_is_no_file(tmp_path: Path) -> None:
    assert complete_held_out(tmp_path, digest="d1", documents=None, scores=None) is None
    assert list(tmp_path.iterdir()) == []
    scores = score_statistics([0], ["a"], ["a"], tokenizer="13a")
    assert complete_held_out(tmp_path, digest=None, documents=np.array([-1]), scores=scores) is not None
    assert read_held_out(tmp_path, "bits_per_byte") is None
    assert read_held_out(tmp_path, "scores.chrf") is not None


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"row": [1, 0]}, "its rows do not ascend from 0"),
        ({"row": [0, 0]}, "its rows do not ascend from 0"),
        ({"row": [-1, 0]}, "its rows do not ascend from 0"),
        ({"row": [0, None]}, "a pair has only some of its statistics"),
        ({"target_bytes": [1, None]}, "a pair has only some of its statistics"),
        ({"target_bytes": [1, -2]}, "a count is negative, or 2^53 or more"),
        ({"target_bytes": [1, 2**60]}, "a count is negative, or 2^53 or more"),
        ({"target_bytes": ["1", "2"]}, "its column target_bytes should be int64, but is string"),
        ({"row": [0.0, 1.0]}, "its column row should be int64, but is double"),
        ({"document": [[1], [2]]}, "its column document should be int64, but is list"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    write(tmp_path)
    assert read_held_out(tmp_path, "bits_per_byte") is not None
    write(tmp_path, **columns)
    with pytest.raises(DamagedError) as told:
        read_held_out(tmp_path, "bits_per_byte")
    assert f"{HELD_OUT_FILE} is no table of held-out pairs: {problem}" in str(told.value)
    assert str(told.value).endswith("Repeat the run that wrote it, or leave its folder out")


@pytest.mark.parametrize("version", [b"", b"0", b"x", b"-1", b"1" * 5000])
def test_a_file_without_a_version_is_refused(tmp_path: Path, version: bytes) -> None:
    write(tmp_path, {b"mtx.held_out_version": version})
    with pytest.raises(DamagedError, match=r"its metadata has no mtx\.held_out_version"):
        read_held_out(tmp_path, "bits_per_byte")


def test_a_file_of_a_newer_mtx_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {b"mtx.held_out_version": b"2"})
    with pytest.raises(NewerFormatError, match="has version 2, but this mtx reads versions up to 1"):
        read_held_out(tmp_path, "bits_per_byte")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_likelihoods(tmp_path, likelihoods())
    path = tmp_path / HELD_OUT_FILE
    content = path.read_bytes()
    for damaged in (b"", b"PAR1", content[: len(content) // 2], content[:-9] + b"\xff" * 5 + content[-4:]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"held_out\.parquet cannot be read: .*Repeat the run that wrote it"):
            read_held_out(tmp_path, "bits_per_byte")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedError, match="it is no file of at most 1,073,741,824 bytes"):
        read_held_out(tmp_path, "bits_per_byte")


def test_too_many_pairs_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PAIRS", 1)
    write(tmp_path)
    with pytest.raises(DamagedError, match="it has 2 pairs, but at most 1 are read"):
        read_held_out(tmp_path, "bits_per_byte")
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    with pytest.raises(DamagedError, match="it is no file of at most 10 bytes"):
        read_held_out(tmp_path, "bits_per_byte")


def test_two_hundred_thousand_pairs_are_no_problem(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    num = 200_000
    started = time.process_time()
    write_likelihoods(tmp_path, np.stack([rng.permutation(num), rng.random(num), rng.integers(1, 300, num)]))
    complete_held_out(tmp_path, digest="d", documents=np.arange(num) // 20, scores=None)
    found = read_held_out(tmp_path, "bits_per_byte")
    assert time.process_time() - started < 5
    assert found is not None
    assert len(found.rows) == num
    assert (tmp_path / HELD_OUT_FILE).stat().st_size < 5e6
