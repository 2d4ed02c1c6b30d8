"""Reading back what jobs left: what varied, which is best, old runs, damaged files. Numbers are worked by hand."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.job_status import LOCK_FILE, JobStatus, hold_lock, write_status
from mtx.records.result_tables import tidy
from mtx.records.setting_notation import short_key
from mtx.records.verdict_lines import verdict_text
from mtx.sweep.terminal_summary import built_by, end_sweep, print_summary


def job(
    folder: Path,
    config: dict[str, Any],
    report: dict[str, Any] | None = None,
    *,
    choices: dict[str, str] | None = None,
    **ended: Any,
) -> None:
    """Write a job's folder as a run does; `objective` is its padding ratio unless told otherwise."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report))
    begun = JobStatus.begin(f"hash-{folder.name}", overrides=["a=1"], choices=choices or {})
    objectives = {"padding_ratio": report["padding_ratio"]} if report else {}
    write_status(folder, begun.end("completed" if report else "failed", seconds=2.0, objectives=objectives, **ended))


def test_what_varied_leaves_out_what_follows_from_an_option(tmp_path: Path) -> None:
    random = {"_target_": "Random", "batch_size": 64}
    job(tmp_path / "0", {"sampler": random, "seed": 0}, {"padding_ratio": 0.5}, choices={"sampler": "random"})
    job(
        tmp_path / "1",
        {"sampler": {"_target_": "Budget", "max_tokens": 4096}, "seed": 0},
        {"padding_ratio": 0.1},
        choices={"sampler": "token_budget"},
    )
    assert read_results([tmp_path]).varied == ("sampler",)
    job(
        tmp_path / "2",
        {"sampler": {"_target_": "Budget", "max_tokens": 512}, "seed": 1},
        {"padding_ratio": 0.2},
        choices={"sampler": "token_budget"},
    )
    results = read_results([tmp_path])
    assert results.varied == ("sampler", "sampler.max_tokens", "seed")
    assert results.jobs[0].value("sampler") == "random"
    assert results.jobs[0].value("sampler.max_tokens") is None


def test_another_class_under_the_same_option_varied(tmp_path: Path) -> None:
    for number, name in enumerate(["Random", "Mine"]):
        config = {"sampler": {"_target_": name}}
        job(tmp_path / str(number), config, {"padding_ratio": 0.5}, choices={"sampler": "random"})
    assert read_results([tmp_path]).varied == ("sampler._target_",)


def test_one_row_is_no_winner(tmp_path: Path) -> None:
    for seed in (1, 2):
        job(tmp_path / str(seed), {"seed": seed}, {"padding_ratio": 0.5})
    results = read_results([tmp_path])
    assert verdict_text(results) == ""
    console = Console(record=True, width=80)
    print_summary(results, console)
    assert "★" not in console.export_text()


def test_jobs_that_were_only_checked_have_nothing_to_compare(tmp_path: Path) -> None:
    for task in ("check", "measure"):
        for seed in (1, 2):
            job(tmp_path / task / str(seed), {"seed": seed}, {}, choices={"task": task})
    assert (
        verdict_text(read_results([tmp_path / "check"]))
        == "The jobs were only checked, so there is nothing to compare."
    )
    assert verdict_text(read_results([tmp_path / "measure"])).startswith(
        "The task returned no number to compare jobs by."
    )


def test_a_row_of_many_choices_over_seeds_fits_into_eighty_columns(tmp_path: Path) -> None:
    keys = ("accumulate_grad_batches", "max_tokens", "window", "learning_rate")
    for number, (value, seed) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
        report = {"padding_ratio": 0.123456 * value + seed / 7, "num_batches": 12345 * seed, "fit_s": 345.6 * seed}
        job(tmp_path / str(number), {"a": dict.fromkeys(keys, value), "seed": seed}, report)
    console = Console(record=True, width=80, file=io.StringIO())
    print_summary(read_results([tmp_path]), console)
    lines = console.export_text().splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "what varied" in line) :]
    assert all(any(f"{key}=1 " in line for line in table) for key in keys)
    assert "34 ± 10" in "\n".join(table)
    assert all(len(line) <= 80 for line in table)


def test_the_folder_of_the_store_is_no_choice(tmp_path: Path) -> None:
    for seed, root in enumerate(["/a", "/b"]):
        job(tmp_path / root[1:], {"storage": {"root": root}, "seed": seed}, {"padding_ratio": 0.5})
    results = read_results([tmp_path])
    assert results.varied == ("seed",)
    assert len(results.groups) == 1


def test_jobs_that_differ_in_the_seed_alone_are_repeats(tmp_path: Path) -> None:
    for number, (size, seed, padding) in enumerate([(8, 1, 0.1), (8, 2, 0.3), (16, 1, 0.5), (16, 2, 0.7)]):
        job(tmp_path / str(number), {"sampler": {"size": size}, "seed": seed}, {"padding_ratio": padding})
    results = read_results([tmp_path])
    assert [dict(group.values) for group in results.groups] == [{"sampler.size": 8}, {"sampler.size": 16}]
    assert results.groups[0].mean("padding_ratio") == pytest.approx(0.2)
    assert results.groups[0].spread("padding_ratio") == pytest.approx(0.02**0.5)  # two values .2 apart
    assert results.verdict.winner is None  # the t test needs 61, which is 4.303 standard errors of 14.14
    assert results.verdict.reason.startswith(
        "Can't tell yet: size=8 is 40 lower than size=16 (95 % interval -21 to 101, 2 seeds). About "
    )
    assert [results.mark(group) for group in results.groups] == ["≈", "≈"]


def test_no_winner_is_named_if_seeds_differ_as_much_as_arms(tmp_path: Path) -> None:
    for number, (size, seed, padding) in enumerate([(8, 1, 0.1), (8, 2, 0.3), (16, 1, 0.2), (16, 2, 0.4)]):
        job(tmp_path / str(number), {"sampler": {"size": size}, "seed": seed}, {"padding_ratio": padding})
    results = read_results([tmp_path])
    assert results.verdict.tied == ("size=8", "size=16")
    console = Console(width=80, record=True)
    end_sweep(tmp_path, console=console)
    told = console.export_text()
    words = " ".join(told.split())
    assert "Compared by padding ratio in percent (lower is better). Can't tell yet: size=8 is 10 lower" in words
    assert "20 ± 14" in told
    assert "+10 [-51, +71]" in told


def test_without_repeats_there_is_no_spread_and_equal_jobs_alone_are_no_winner(tmp_path: Path) -> None:
    for number, padding in enumerate([0.3, 0.1, 0.1]):
        job(tmp_path / str(number), {"sampler": {"size": number}}, {"padding_ratio": padding})
    results = read_results([tmp_path])
    assert results.verdict.winner is None
    assert [group.jobs[0].name for group in results.groups[:2]] == ["1", "2"]
    assert [group.spread("padding_ratio") for group in results.groups] == [None] * 3


def test_the_most_is_best_where_the_sweep_says_so(tmp_path: Path) -> None:
    for number, padding in enumerate([0.1, 0.3]):
        config = {"sampler": {"size": number}, "sweep": {"direction": "maximize"}}
        job(tmp_path / str(number), config, {"padding_ratio": padding})
    assert [group.jobs[0].name for group in read_results([tmp_path]).groups] == ["1", "0"]


def test_names_are_in_order_of_size_and_numbers_come_before_words(tmp_path: Path) -> None:
    for name in ("10", "x", "9", "2"):
        job(tmp_path / name, {"name": name}, {"padding_ratio": 0.1})
    assert [record.name for record in read_results([tmp_path]).jobs] == ["2", "9", "10", "x"]


def test_a_job_that_is_read_alone_is_named_by_its_folder(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1})
    assert [record.name for record in read_results([tmp_path / "0"]).jobs] == ["0"]


def test_a_run_from_before_there_was_a_status_is_read_from_what_hydra_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "outputs/2026-01-01/12-00-00"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text("sampler:\n  batch_size: 64\nseed: 3\n")
    (folder / ".hydra/hydra.yaml").write_text(
        "hydra:\n  runtime:\n    choices:\n      sampler: bucket\n      hydra/launcher: basic\n"
        "  overrides:\n    task:\n    - sampler=bucket\n"
    )
    (folder / "report.json").write_text('{"padding_ratio": 0.25, "real_tokens_per_batch": {"mean": 8.0}, "name": "x"}')
    (record,) = read_results([tmp_path / "outputs"]).jobs
    assert record.state == "completed"
    assert record.name == "2026-01-01/12-00-00"
    assert record.config == {"sampler.batch_size": 64, "seed": 3}
    assert record.choices == {"sampler": "bucket"}
    assert record.overrides == ("sampler=bucket",)
    assert record.metrics == {"padding_ratio": 0.25, "real_tokens_per_batch.mean": 8.0}
    assert record.objectives == {"padding_ratio": 0.25}


@pytest.mark.parametrize("name", ["status.json", "config.json", "report.json", ".hydra/config.yaml"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe", b'{"state": "happy"}', b"[" * 100_000])
def test_a_damaged_file_is_a_note_and_the_other_jobs_are_read(tmp_path: Path, name: str, damage: bytes) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1})
    job(tmp_path / "1", {"seed": 1}, {"padding_ratio": 0.2})
    (tmp_path / "0/.hydra").mkdir()
    (tmp_path / "0" / name).write_bytes(damage)
    results = read_results([tmp_path])
    assert [record.name for record in results.jobs] == ["0", "1"]
    assert results.jobs[1].number("padding_ratio") == 0.2
    if name == "status.json":
        assert "status.json" in results.jobs[0].notes[0]
        console = Console(width=80, record=True)
        end_sweep(tmp_path, console=console)
        assert "note: " in console.export_text()


def test_files_of_a_completed_job_that_are_gone_are_notes_and_make_no_other_arm(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0, "steps": 3}, {"padding_ratio": 0.1})
    job(tmp_path / "1", {"seed": 1, "steps": 3}, {"padding_ratio": 0.2})
    (tmp_path / "0/report.json").unlink()
    (tmp_path / "1/config.json").unlink()
    (tmp_path / "1/.hydra").mkdir()
    (tmp_path / "1/.hydra/config.yaml").write_text("seed: 1\nsteps: ${budget:3}\nmodel: {size: '${seed}', width: 8}\n")
    (tmp_path / "sweep.json").write_text("{}")
    first, second = read_results([tmp_path]).jobs
    assert first.objectives == {"padding_ratio": 0.1}
    assert "report.json of a completed job is gone" in first.notes[0]
    assert "status.json, and resume the sweep" in first.notes[0]
    assert second.config == {"seed": 1, "model.width": 8}
    assert "config.json is gone. The settings of the job are those of Hydra's file" in second.notes[0]
    assert second.notes[0].endswith("To write the file again, resume the sweep")
    (tmp_path / "sweep.json").unlink()  # single runs
    (tmp_path / "1/config.json").write_text("{")
    first, second = read_results([tmp_path]).jobs
    assert first.notes[0].endswith("is gone, and its figures with it")
    assert len(second.notes) == 1
    assert "no complete JSON" in second.notes[0]
    assert second.notes[0].endswith("without those that refer to others")


@pytest.mark.parametrize(
    "change", [{"overrides": 3}, {"seconds": "long"}, {"objectives": {"a": "b"}}, {"choices": []}, {"error": 1}]
)
def test_a_status_with_fields_of_other_kinds_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1})
    status = json.loads((tmp_path / "0/status.json").read_text())
    (tmp_path / "0/status.json").write_text(json.dumps({**status, **change}))
    (record,) = read_results([tmp_path]).jobs
    assert "is no status of a job" in record.notes[0]


def test_a_status_of_a_newer_version_with_more_fields_is_read(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1})
    status = json.loads((tmp_path / "0/status.json").read_text())
    (tmp_path / "0/status.json").write_text(json.dumps({**status, "weather": "fine"}))
    (record,) = read_results([tmp_path]).jobs
    assert (record.state, record.notes) == ("completed", ())


def test_a_job_that_says_running_without_a_process_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    write_status(tmp_path / "0", JobStatus.begin("h", overrides=[], choices={}))
    (record,) = read_results([tmp_path]).jobs
    assert (record.state, record.error) == ("interrupted", "its process ended without a message")
    assert not (tmp_path / "0" / LOCK_FILE).exists(), "who only looks leaves nothing"


def test_a_job_that_says_running_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    write_status(tmp_path / "0", JobStatus.begin("h", overrides=[], choices={}))
    with hold_lock(tmp_path / "0" / LOCK_FILE, "busy"):
        (record,) = read_results([tmp_path]).jobs
    assert (record.state, record.error) == ("running", None)


def test_jobs_that_never_began_are_missing_and_later_attempts_count(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0})
    job(tmp_path / "2-0", {"seed": 0}, {"padding_ratio": 0.1})
    for name in ("0", "2-0"):  # the same job: first failed, then done
        path = tmp_path / name / "status.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "config_hash": "same"}))
    planned = [{"folder": "0", "config_hash": "same"}, {"folder": "1", "config_hash": "x", "overrides": ["seed=1"]}]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": planned, "done": {"same": "2-0"}, "command": ["-m"]}))
    results = read_results([tmp_path])
    assert [(record.name, record.state, record.reused) for record in results.jobs] == [
        ("1", "missing", False),
        ("2-0", "completed", True),
    ]
    assert results.jobs[0].overrides == ("seed=1",)
    assert results.command == ("-m",)


def test_one_job_of_a_sweep_is_read_without_the_jobs_that_its_sweep_misses(tmp_path: Path) -> None:
    planned = [{"folder": str(number), "overrides": [f"a={number}"]} for number in range(3)]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": planned}))
    for number in range(2):
        job(tmp_path / str(number), {"a": number}, {"padding_ratio": 0.1})
    assert [record.state for record in read_results([tmp_path]).jobs] == ["completed", "completed", "missing"]
    assert [record.name for record in read_results([tmp_path / "1"]).jobs] == ["1"]


def test_a_planned_job_that_began_in_any_folder_is_not_missing(tmp_path: Path) -> None:
    job(tmp_path / "2-0", {"seed": 0}, {"padding_ratio": 0.1})
    (tmp_path / "1").mkdir()
    planned = [{"folder": "0", "config_hash": "hash-2-0"}, {"folder": "1"}]
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": planned}))
    assert [record.name for record in read_results([tmp_path]).jobs] == ["2-0"]


@pytest.mark.parametrize("text", ["", "[]", '{"jobs": 3}', '{"jobs": [3, {}]}', '{"done": []}'])
def test_a_damaged_sweep_file_hides_no_job(tmp_path: Path, text: str) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1})
    (tmp_path / "sweep.json").write_text(text)
    assert [record.name for record in read_results([tmp_path]).jobs] == ["0"]


def test_several_folders_are_told_apart_and_missing_ones_noted(tmp_path: Path) -> None:
    job(tmp_path / "a/0", {"seed": 0}, {"padding_ratio": 0.1})
    job(tmp_path / "b/0", {"seed": 0}, {"padding_ratio": 0.1})
    (tmp_path / "c").mkdir()
    results = read_results([tmp_path / "a", tmp_path / "b/0", tmp_path / "c", tmp_path / "d"])
    assert [record.name for record in results.jobs] == ["a/0", "b/0"]
    assert set(results.notes) == {f"there is no run in {tmp_path / 'c'}", f"{tmp_path / 'd'} is no folder"}


def test_columns_hold_one_kind_of_value_each(tmp_path: Path) -> None:
    values = [1, 2.5, None], [1, True, "x"], [True, False, None], [3, 4, 2**70], [[1], {"a": 2}, "\ud800"]
    values = *values, [-(2**63), None, 2**63 - 1], [3, 4, -(2**70)]
    for number in range(3):
        config = {name: column[number] for name, column in zip("abcdefg", values, strict=True)}
        job(tmp_path / str(number), config, {"padding_ratio": 0.1})
    table = tidy(read_results([tmp_path]))
    assert [table.schema.field(name).type for name in "abc"] == [pa.float64(), pa.string(), pa.bool_()]
    assert table["a"].to_pylist() == [1.0, 2.5, None]
    assert table["b"].to_pylist() == ["1", "True", "x"]
    assert table["d"].to_pylist() == [3, 4, None]  # beyond 64 bits, which a warning says
    assert table.schema.field("f").type == pa.int64()
    assert table["f"].to_pylist() == [-(2**63), None, 2**63 - 1]
    assert table["g"].to_pylist() == [3, 4, None]
    assert table["e"].to_pylist()[0] == "[1]"
    assert table["e"].to_pylist()[1] is None  # its own keys are columns
    assert table["e.a"].to_pylist() == [None, 2, None]
    assert table["metric.padding_ratio"].to_pylist() == [0.1] * 3
    assert table["config_hash"].to_pylist() == ["hash-0", "hash-1", "hash-2"]


def test_what_was_built_is_told_by_stage(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0}, {"padding_ratio": 0.1, "built": ["raw-train-1", "filtered-train-1"]})
    job(tmp_path / "1", {"seed": 1}, {"padding_ratio": 0.1, "built": ["raw-train-1", "filtered-train-2"]})
    assert built_by(read_results([tmp_path])) == {"raw": 1, "filtered": 2}


def test_text_of_errors_is_no_markup(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0}, error="ValueError: [bold]x[/bold] [/nonsense]")
    console = PlainConsole(width=80, record=True)
    end_sweep(tmp_path, console=console)
    assert "ValueError: [bold]x[/bold] [/nonsense]" in console.export_text()


def test_headings_are_as_short_as_tells_them_apart() -> None:
    keys = ["tokenizer.vocab_size", "model.size", "trainer.size", "seed"]
    assert [short_key(key, keys) for key in keys] == ["vocab_size", "model.size", "trainer.size", "seed"]


def test_records_are_plain_values(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 0, "a": {"b": [1, {"c": 2}]}}, {"padding_ratio": 0.1})
    (record,) = read_results([tmp_path]).jobs
    assert record.config["a.b"] == '[1, {"c": 2}]'
    assert dataclasses.asdict(record)["state"] == "completed"


def test_a_failed_job_is_named_by_what_varied(tmp_path: Path) -> None:
    fixed = {"filter": {"max_chars": 300}}
    for number, (option, seed) in enumerate([("random", 1), ("bucket", 1), ("bucket", 2)]):
        report = {"padding_ratio": 0.5} if option == "random" else None
        job(tmp_path / str(number), {**fixed, "seed": seed}, report, choices={"sampler": option}, error="E: broken")
    console = Console(width=80, record=True)
    end_sweep(tmp_path, console=console)
    told = console.export_text()
    assert "jobs 1, 2 failed (sampler=bucket)\n  E: broken" in told
    assert told.count("E: broken") == 1


def test_a_failed_job_is_named_by_its_overrides_where_nothing_varied(tmp_path: Path) -> None:
    job(tmp_path / "0", {"seed": 1}, error="E: broken")
    console = Console(width=80, record=True)
    end_sweep(tmp_path, console=console)
    assert "job 0 failed (a=1)" in console.export_text()
