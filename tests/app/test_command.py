"""The application as a user types it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm_process
from command_line import Mtx

SMALL = ["downloader.n=600", "tokenizer.vocab_size=400"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_measure_serves_the_sample_and_its_report_adds_up(mtx: Mtx) -> None:
    result = mtx(*SMALL)
    assert result.code == 0, result.err
    assert "padding ratio" in result.out
    assert "pairs kept" in result.out
    report = result.report
    assert report["num_pairs_raw"] == 600 == report["num_pairs_kept"] + sum(report["dropped"].values())
    ledger = report["ledger"]
    assert ledger["num_pairs"] == report["num_pairs_train"]
    assert ledger["num_pairs"] == ledger["batched"] + ledger["dropped_length"] + ledger["dropped_remainder"]
    assert report["num_batches"] == report["num_batches_drawn"]
    assert report["num_pairs_drawn"] == ledger["batched"] + ledger["repeated"]
    assert 0 <= report["padding_ratio"] < 1
    assert {"encoder_input_ids", "labels", "row_ids"} <= set(report["first_batch"])


def test_measure_tells_of_ranks_of_memory_and_of_pairs_too_long_by_side(mtx: Mtx) -> None:
    result = mtx(*SMALL, "task.world_size=3", "datamodule.max_source_tokens=100", "datamodule.max_target_tokens=120")
    report = result.report
    dropped = report["too_long"]["dropped"]
    assert dropped["source"] + dropped["target"] > 0
    by_side = dropped["source"] + dropped["target"] - dropped["both"] + dropped["sampler"]
    assert by_side == report["ledger"]["dropped_length"]
    assert report["too_long"]["truncated"] == {"source": 0, "target": 0, "both": 0}
    ranks = report["ranks"]
    assert (ranks["world_size"], ranks["num_steps"]) == (3, -(-report["num_batches"] // 3))
    assert 1 <= ranks["imbalance"] < 2
    assert report["memory_added_mb"] is None or report["memory_added_mb"] < 150
    assert "source, target, both, sampler" in result.out
    assert "on 3 ranks" in result.out


def test_a_second_run_builds_nothing_and_a_changed_choice_builds_only_what_follows(mtx: Mtx) -> None:
    def built(*arguments: str) -> set[str]:
        result = mtx(*SMALL, *arguments)
        assert result.code == 0, result.err
        return {name.split("-")[0] for name in result.report["built"]}

    built()
    assert built() == set()
    assert built("sampler=random") == set()
    assert built("filter.max_chars=300") == {"filtered", "tokenizer", "encoded"}
    result = mtx("downloader.n=600", "tokenizer=byte")
    stages = {name.split("-")[0] for name in result.report["built"]}
    assert stages - {"tokenizer"} == {"encoded"}  # bytes need no training, so another test may have made the tokenizer


def test_both_storages_give_the_same_batches(mtx: Mtx) -> None:
    reports = [mtx(*SMALL, f"storage={name}").report for name in ("sqlite_arrow", "shelve_jsonl")]
    same = ("ids", "ledger", "padding_ratio", "num_batches", "first_batch", "train_tokens")
    assert [reports[0][key] for key in same] == [reports[1][key] for key in same]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("sampler=null", ["sampler has no option 'null'. Its options: bucket, packed_rows, random, "]),
        ("trainer=gpu", ["Its options: cpu, ", ". trainer=default takes a GPU where there is one"]),
        ("sampler=64", ["sampler has no option '64'. Its options: bucket, packed_rows, random, "]),
        ("tokenizer=[bpe]", ["tokenizer takes one option, but is a list. Choose one, such as tokenizer=bpe"]),
        ("experiment=null", ["experiment has no option 'null'. Its options: ", "none"]),
        ("sampelr=bucket", ["there is no group or key 'sampelr'", "sampler"]),
        ("sampler=bukcet", ["sampler has no option 'bukcet'. Its options: bucket,"]),
        ("sampler.max_tokns=3", ["sampler has no key 'max_tokns'. There are: max_tokens,"]),
        ("+sampler.extra=3", ["sampler.extra is not a key of TokenBudgetPlanner. Its keys: "]),
        ("+foo=3", ["there is no group or key 'foo'. There are: "]),
        ("storage.root=", ["storage.root is a folder, but is empty"]),
        ("sampler.max_tokens=many", ["sampler.max_tokens is an integer of at least 1, but is 'many'"]),
        ("sampler.max_tokens=0", ["sampler.max_tokens"]),
        ("sampler.max_tokens.x=0", ["sampler.max_tokens is a single value without keys"]),
        ("datamodule.too_long=cut", ["datamodule.too_long is one of drop, truncate, but is 'cut'"]),
        ("downloader=hf", ["downloader.dataset is required: set downloader.dataset=VALUE"]),
        (
            "score=[embeddings]",
            ["score.embeddings.encoder is required, as in: mtx task=prepare 'score=[language,embeddings]' 'score.emb"],
        ),
        (
            "sampler._target_=mtx.data.store.Store",
            ["sampler._target_ must name a Planner, but mtx.data.store.Store is not one"],
        ),
        ("model._target_=no.such.Model", ["model._target_ names 'no.such.Model', which cannot be imported"]),
        ("seed=", ["seed"]),
        ("sampler.max_tokens=[1", ["'sampler.max_tokens=[1' is not an override"]),
        ("justaword", ["'justaword' is not an override"]),
    ],
)
def test_a_mistake_is_one_clear_message_before_any_work(mtx, store_root: Path, argument: str, told: list[str]) -> None:  # type: ignore[no-untyped-def]
    before = sorted(store_root.rglob("*"))
    result = mtx(argument)
    assert result.code == 1
    assert result.err.startswith("mtx: ")
    for words in told:
        assert words in result.err
    assert "Traceback" not in result.err + result.out
    assert sorted(store_root.rglob("*")) == before


def test_show_lists_the_store(mtx: Mtx) -> None:
    mtx(*SMALL)
    result = mtx("task=show", "stage=filtered", "split=train")
    assert result.code == 0
    assert "with stage=filtered split=train, " in result.out
    assert "filtered-train-" in result.out
    assert "filtered-test-" not in result.out
    assert "No dataset" in mtx("task=show", "storage.root=empty").out


def test_prepare_makes_no_batches(mtx: Mtx) -> None:
    result = mtx("task=prepare", *SMALL)
    assert result.code == 0
    assert "num_batches" not in result.report


def test_check_says_that_the_config_is_valid(mtx: Mtx) -> None:
    assert "The config is valid." in mtx("task=check", "sampler=bucket").out


def test_a_sweep_runs_each_choice(mtx: Mtx) -> None:
    result = mtx("-m", "sampler=random,sequential", *SMALL)
    assert result.code == 0, result.err
    reports = [json.loads(path.read_text()) for path in sorted(Path.cwd().glob("multirun/*/*/*/report.json"))]
    assert len(reports) == 2
    assert reports[0]["ids"] == reports[1]["ids"]


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_help_does_not_wait_for_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from mtx.app.command import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "slow = {'torch', 'pytorch_lightning', 'datasets', 'pandas', 'transformers'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "sampler" in done.stdout


def test_output_that_nobody_reads_ends_without_a_trace() -> None:
    command = f"{sys.executable} -m mtx --cfg job | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert done.stdout == "storage:\n"
    assert done.stderr == ""


def test_each_run_has_a_folder_of_its_own(mtx: Mtx) -> None:
    for _ in range(2):
        mtx("task=prepare", "downloader.n=100", "tokenizer=byte")
    assert len(list(Path.cwd().glob("outputs/*/*"))) == 2
    mtx("task=check")
    assert len(list(Path.cwd().glob("outputs/*/*"))) == 2, "a task that only reads leaves none"


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(tmp_path: Path, mtx: Mtx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    command = ["task=prepare", "downloader.n=4000", "tokenizer.vocab_size=3000"]
    with warm_process.started("-m", "mtx", *command) as run:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "store").rglob("*.arrow")) and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        stopped = run.wait(60)
    assert stopped.returncode == 130
    assert stopped.stderr.strip().splitlines()[-1].startswith("mtx: stopped.")
    assert "Traceback" not in stopped.stderr
    again = mtx(*command)
    assert again.code == 0, again.err
    assert again.report["built"], "the first run did not come to its end"
    assert not list((tmp_path / "store").rglob("*.tmp"))
