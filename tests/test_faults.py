"""The fault figures: a short run finds no fault, and each of them can find one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import warm_process
from conf_options import options

SCRIPTS = Path(__file__).parents[1] / "scripts"
STORAGE = options("storage")


def run(code: str, folder: Path) -> Any:
    """Run code in a process of its own, which may fork, in `folder`, and return what it prints as its last line."""
    head = (
        f"import sys, json; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom pathlib import Path\nimport numpy as np\n"
        f"random, folder = np.random.default_rng(0), Path({str(folder)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGE)
def test_a_short_run_finds_no_fault(storage: str) -> None:
    command = [sys.executable, SCRIPTS / "faults.py", "--quick", "--storage", storage]
    done = subprocess.run(command, capture_output=True, text=True, timeout=115)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "total faults: 0;" in done.stdout
    for figure in (
        "kill -9, one process",
        "kill -9, 4 on one store",
        "kill -9 after each step",
        "power fails after each step",
        "8 processes add, read, remove",
        "one bit flipped, payload",
        "one bit flipped, manifests",
        "one bit flipped, tokenizers: files",
    ):
        assert f"  {figure}" in done.stdout


def test_what_kills_did_is_compared_with_what_was_reported_and_with_a_clean_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from faults_kills import Kills
    from faults_store import Found

    kills = Kills()
    clean = Found(content={"raw-1": "a", "raw-2": "b", "raw-3": "c"})
    found = Found(content={"raw-1": "a", "raw-2": "other"}, damaged={"raw-3": "its rows are gone"})
    kills.compare(found, {"raw-1", "raw-3", "raw-4"}, clean)
    assert kills.lost == ["raw-4"]
    assert kills.damaged == ["raw-3: its rows are gone"]
    assert kills.differing == ["raw-2"]
    assert (kills.acks, kills.faults) == (3, 3)


def test_a_store_that_names_files_without_syncing_folders_is_found_out(tmp_path: Path) -> None:
    code = """
import mtx.infra.dal.atomic_file as base, mtx.infra.dal.json_file_object_layer as files
from faults_kills import Killing
from faults_power import fail_power
from faults_store import write_corpus

corpus = write_corpus(folder / "corpus.jsonl", 200, random)
clean, _ = Killing("files_arrow", corpus, random, timed_runs=1).clean()
base.sync_folder = files.sync_folder = lambda path: None
kills = fail_power("files_arrow", corpus, folder, random, clean, most=40)
print(json.dumps([len(kills.lost), len(kills.damaged)]))
"""
    lost, _ = run(code, tmp_path)
    assert lost > 0


@pytest.mark.slow
def test_a_store_that_names_files_before_their_content_is_synced_is_found_out(tmp_path: Path) -> None:
    code = """
import faults_power
from faults_kills import Killing
from faults_store import write_corpus

corpus = write_corpus(folder / "corpus.jsonl", 200, random)
clean, _ = Killing("files_arrow", corpus, random, timed_runs=1).clean()
sync = faults_power.Disk._sync
faults_power.Disk._sync = lambda disk, inode, path: sync(disk, inode, path) if path.is_dir() else None
kills = faults_power.fail_power("files_arrow", corpus, folder, random, clean, most=40)
print(json.dumps(len(kills.lost) + len(kills.damaged)))
"""
    assert run(code, tmp_path) > 0


def test_damage_that_verify_does_not_look_for_is_counted_as_missed(tmp_path: Path) -> None:
    code = """
import faults_bytes
from mtx.data.verify import verify_store

root = faults_bytes.small_store("shelve_jsonl", folder / "store")
found = faults_bytes.flip_all("shelve_jsonl", root, random, every=60)
faults_bytes.verify_store = lambda store, full: verify_store(store, full=False)
blind = faults_bytes.flip_all("shelve_jsonl", root, random, every=60)
total = {kind: sum(getattr(flips, kind) for flips in found.values()) for kind in ("tried", "found", "faults")}
print(json.dumps([total, sum(flips.faults for flips in blind.values())]))
"""
    total, missed = run(code, tmp_path)
    assert total["tried"] == total["found"] > 0
    assert total["faults"] == 0
    assert missed > 0


def test_writers_notice_an_update_that_was_lost(tmp_path: Path) -> None:
    code = """
from faults_writers import write_at_once
from mtx.infra.dal.oal import ObjectAccessLayer
from contextlib import nullcontext

ObjectAccessLayer._lock = lambda self: nullcontext()  # nobody waits for the other
found = write_at_once("shelve_jsonl", folder / "store", num_processes=4, seconds=1.5, seed=0)
print(json.dumps(found.faults))
"""
    assert run(code, tmp_path) > 0


@pytest.mark.slow
def test_bench_storage_compares_with_other_ways_to_read() -> None:
    done = warm_process.run(SCRIPTS / "bench_storage.py", "--quick", "--sample")
    assert done.returncode == 0, done.stderr
    for reader in (
        "mtx, a batch at a time",
        "datasets, a batch at a time",
        "JSON Lines, by seeking",
        "Parquet, by row groups",
    ):
        line = next(line for line in done.stdout.splitlines() if line.startswith(reader))
        assert float(line[56:]) > 0
    assert "lists of int" in done.stdout
