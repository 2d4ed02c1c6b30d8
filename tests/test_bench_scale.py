"""The parts of the benchmark of large corpora: corpora in two formats, memory of a session, and slopes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from bench_scale_plan import write_pairs
from bench_scale_prepare import Measured, anonymous_bytes, print_exponents, print_measured, write_corpus

PAIRS = [{"src": "naïve", "tgt": "日本"}, {"src": "a", "tgt": ""}]


def test_a_corpus_is_the_same_in_both_formats_and_its_bytes_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / f"corpus.{suffix}" for suffix in ("jsonl", "parquet")]
    sizes = [write_corpus(path, iter([pa.RecordBatch.from_pylist([pair]) for pair in PAIRS])) for path in paths]
    assert sizes == [6 + 6 + 1] * 2
    assert [json.loads(line) for line in paths[0].read_text().splitlines()] == PAIRS
    assert pq.read_table(paths[1]).to_pylist() == PAIRS


def test_memory_of_a_session_is_that_of_its_processes() -> None:
    code = "held = bytes([1]) * 32_000_000; print(len(held), flush=True); input()"
    command = [sys.executable, "-S", "-c", code]
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"32000000\n"
        assert 32_000_000 < anonymous_bytes(child.pid) < 64_000_000
        child.kill()
    assert anonymous_bytes(child.pid) == 0


def test_slopes_are_those_of_logarithms(capsys: pytest.CaptureFixture[str]) -> None:
    one = Measured(1_000_000, 10**8, 10.0, 20.0, {"reading": 4.0}, {"reading": 100_000_000}, {"raw": 10**8})
    other = Measured(4_000_000, 4 * 10**8, 40.0, 40.0, {"reading": 9.0}, {"reading": 400_000_000}, {"raw": 4 * 10**8})
    print_measured(one)
    print_exponents([one, other])
    first, *_, disk, slopes = capsys.readouterr().out.splitlines()
    assert "1,000,000 pairs, 100.0 MB of text: 10.0 s, 20.0 CPU s, peak 100 MB" in first
    assert disk.strip() == "on disk 100.0 MB, 1.00 x the text: raw 1.000"
    assert slopes.endswith(
        "exponents: seconds 1.00, CPU seconds 0.50, peak 1.00, disk 1.00; 100 bytes of peak per pair"
    )


def test_synthetic_pairs_have_the_layout_of_an_encoded_dataset(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1000, seed=0)
    offsets = np.fromfile(tmp_path / "source_offsets", dtype=np.int64)
    assert (len(offsets), offsets[0]) == (1001, 0)
    lengths = np.diff(offsets)
    assert 1 <= lengths.min() <= np.median(lengths) <= 12 < lengths.max() <= 300
    assert (tmp_path / "source_ids").stat().st_size == 2 * offsets[-1]
    chosen = np.fromfile(tmp_path / "selection", dtype=np.uint32)
    assert 960 < len(chosen) < 1000
    assert (np.diff(chosen.astype(np.int64)) > 0).all()
