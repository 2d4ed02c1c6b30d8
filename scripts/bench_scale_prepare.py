"""Benchmark: `mtx task=prepare` of synthetic corpora of several sizes: seconds, memory of all processes, and disk.

A child process writes the corpus, and another runs the command with the default filter and tokenizer in a store of its
own. Memory is the sum of the anonymous memory of all processes of the command, sampled five times a second. Disk is the
size of the files of each stage, in relation to the UTF-8 bytes of the texts.
"""

import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SAMPLE_S = 0.2  # between two samples of the memory
DONE = re.compile(r"^\S+ \S+ prepare +(.*?) done\b.* s=([\d.]+)$")
BEGIN = re.compile(r"^\S+ \S+ prepare +(.*?) begin\b")
PREPARE = ("-m", "mtx", "task=prepare", "downloader=local")


@dataclass
class Measured:
    """What one command took.

    Attributes:
        num_pairs: number of pairs of the corpus.
        text_bytes: UTF-8 bytes of all texts.
        seconds: wall clock of the command.
        cpu_s: processor time of all its processes.
        stages: seconds by stage, in order.
        peaks: highest sum of anonymous memory by stage, in bytes.
        disk: bytes of the store by stage.
    """

    num_pairs: int
    text_bytes: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """The highest sum of anonymous memory, in bytes."""
        return max(self.peaks.values(), default=0)


def write_corpus(path: Path, batches: Iterator[pa.RecordBatch]) -> int:
    """Write pairs as Parquet or as JSON Lines, by the suffix of the path, and return the UTF-8 bytes of all texts."""
    num_bytes = 0
    writer: pq.ParquetWriter | None = None
    with path.open("wb") as file:
        for batch in batches:
            num_bytes += sum(pc.sum(pc.binary_length(column)).as_py() for column in batch.columns)
            if path.suffix == ".jsonl":
                file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in batch.to_pylist())
                continue
            writer = writer or pq.ParquetWriter(file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
    return num_bytes


def measure_prepare(
    path: Path, num_pairs: int, text_bytes: int, overrides: Sequence[str], before: Path | None = None
) -> Measured:
    """Prepare a corpus in a new store, and return what that took.

    Args:
        path: the corpus.
        num_pairs: number of its pairs.
        text_bytes: UTF-8 bytes of its texts.
        overrides: further overrides of the command.
        before: a checkout of another version of mtx to measure, with its environment in `.venv`; None: this version.

    Raises RuntimeError if the command fails.
    """
    own_python = None if before is None else before / ".venv" / "bin" / "python"
    python = sys.executable if own_python is None or not own_python.exists() else str(own_python)
    command = [python, *PREPARE, *overrides]
    inherited = {name: value for name, value in os.environ.items() if name != "RAYON_NUM_THREADS"}  # all cores
    found = Measured(num_pairs, text_bytes)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        store, started, children = Path(folder) / "store", time.perf_counter(), os.times()
        process = subprocess.Popen(
            [*command, f"downloader.path={path}", f"storage.root={store}", f"hydra.run.dir={folder}/run"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=path.parent,  # the current folder comes before all others where Python looks for mtx
            text=True,
            env={**inherited, "COLUMNS": "200", **({} if before is None else {"PYTHONPATH": str(before)})},
        )
        stage = ["start"]
        is_over = threading.Event()
        sampler = threading.Thread(target=sample_peaks, args=(process.pid, lambda: stage[0], found.peaks, is_over))
        sampler.start()
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if matched := BEGIN.match(line):
                stage[0] = matched[1]
            elif matched := DONE.match(line):
                found.stages[matched[1]] = found.stages.get(matched[1], 0.0) + float(matched[2])
        status = process.wait()
        is_over.set()
        sampler.join()
        ended = os.times()
        found.seconds = time.perf_counter() - started
        found.cpu_s = ended[2] + ended[3] - children[2] - children[3]  # user and system time of child processes
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with status {status}:\n{''.join(lines[-20:])}")
        for file in (each for each in store.rglob("*") if each.is_file()):
            name = file.name.partition("-")[0] if file.suffix == ".arrow" else "others"
            found.disk[name] = found.disk.get(name, 0) + file.stat().st_size
    return found


def sample_peaks(session: int, stage: Callable[[], str], peaks: dict[str, int], is_over: threading.Event) -> None:
    """Keep the highest memory of each stage, until `is_over` is set."""
    while not is_over.wait(SAMPLE_S):
        name = stage()
        peaks[name] = max(peaks.get(name, 0), anonymous_bytes(session))


def anonymous_bytes(session: int) -> int:
    """Return the anonymous memory of all processes of a session, in bytes."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            (line,) = [each for each in (folder / "status").read_text().splitlines() if each.startswith("RssAnon")]
        except (OSError, ValueError):  # the process has ended
            continue
        total += int(line.split()[1]) * 1024
    return total


def print_measured(found: Measured) -> None:
    """Print the seconds and the memory of each stage, and the disk of each kind of dataset."""
    print(f"{found.num_pairs:>12,} pairs, {found.text_bytes / 1e6:,.1f} MB of text: {found.seconds:.1f} s, ", end="")
    print(f"{found.cpu_s:.1f} CPU s, peak {found.peak / 1e6:,.0f} MB; load {os.getloadavg()[0]:.1f}")
    for name in dict.fromkeys([*found.peaks, *found.stages]):
        print(f"{'':12} {name:52} {found.stages.get(name, 0):8.1f} s {found.peaks.get(name, 0) / 1e6:8,.0f} MB")
    total = sum(found.disk.values())
    print(f"{'':12} on disk {total / 1e6:,.1f} MB, {total / found.text_bytes:.2f} x the text: ", end="")
    parts = sorted(found.disk.items(), key=lambda part: -part[1])
    print(", ".join(f"{name} {size / found.text_bytes:.3f}" for name, size in parts), flush=True)


def print_ratios(now: Measured, before: Measured) -> None:
    """Print time, memory and disk of this version divided by those of another version with the same corpus."""
    kinds = {
        "seconds": now.seconds / before.seconds,
        "CPU seconds": now.cpu_s / before.cpu_s,
        "peak": now.peak / before.peak,
        "disk": sum(now.disk.values()) / sum(before.disk.values()),
    }
    print(f"{'':12} this version / the one before: {', '.join(f'{name} {of:.2f}' for name, of in kinds.items())}")


def print_exponents(measured: Sequence[Measured]) -> None:
    """Print the slopes of time and memory over the number of pairs between neighbouring sizes, in logarithms."""
    for one, other in itertools.pairwise(measured):
        growth = math.log(other.num_pairs / one.num_pairs)
        kinds = {
            "seconds": (one.seconds, other.seconds),
            "CPU seconds": (one.cpu_s, other.cpu_s),
            "peak": (one.peak, other.peak),
            "disk": (sum(one.disk.values()), sum(other.disk.values())),
        }
        slopes = ", ".join(f"{name} {math.log(b / a) / growth:.2f}" for name, (a, b) in kinds.items())
        per_pair = (other.peak - one.peak) / (other.num_pairs - one.num_pairs)
        between = f"from {one.num_pairs:,} to {other.num_pairs:,} pairs"
        print(f"{between}, exponents: {slopes}; {per_pair:.0f} bytes of peak per pair")
