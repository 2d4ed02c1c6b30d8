"""A comparison of jobs with nothing in common says what is missing."""

from pathlib import Path

from jobs_on_disk import measured, trained, write_job

from mtx.page.render import render
from mtx.records.cohorts import cohorts
from mtx.records.job_records import read_results
from mtx.records.missing_in_common import missing_notes


def test_jobs_without_a_common_metric_or_setting_are_told_so(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"alpha": 1}, {"report_version": 2, "first": 3.0}, objective="first")
    write_job(tmp_path / "1", {"beta": "<b>"}, {"report_version": 2, "second": 5.0}, objective="second")
    results = read_results([tmp_path])
    metric, settings = missing_notes(results)
    assert metric == (
        "Not compared by first, which their reports lack: job 1. No number is in the reports of all jobs, so compare "
        "runs of one task: 'runs=[FOLDER,…]'."
    )
    assert settings.startswith("The configs of the jobs have no setting in common: job 0 has alpha; job 1 has beta.")
    (cohort,) = cohorts(results)
    assert cohort.notes == (metric, settings)
    assert "have no setting in common: job 0 has alpha" in render(results, tmp_path)


def test_a_metric_that_all_jobs_report_is_named(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"seed": 1, "a": 1}, {"report_version": 2, "first": 3.0, "both": 1.0}, objective="first")
    write_job(tmp_path / "1", {"seed": 2, "a": 2}, {"report_version": 2, "both": 2.0}, objective="both")
    (note,) = missing_notes(read_results([tmp_path]))
    assert note.endswith("All jobs report both. Set sweep.objective=both to compare them by that.")


def test_a_metric_that_ranks_arms_is_proposed_before_counts_of_pairs(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"a": 1}, trained(2.0), objective="bits_per_byte")
    write_job(tmp_path / "1", {"a": 2}, measured())
    (note,) = missing_notes(read_results([tmp_path]))
    assert "which their reports lack: job 1. All jobs report padding_ratio, num_batches, " in note
    assert note.endswith("Set sweep.objective=padding_ratio to compare them by that.")


def test_unknown_settings_are_named_and_a_usual_sweep_lacks_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write_job(tmp_path / str(number), {"seed": number, "sampler": {"batch_size": number}}, measured())
    assert missing_notes(read_results([tmp_path])) == ()
    (tmp_path / "1" / "config.json").unlink()
    (note,) = missing_notes(read_results([tmp_path]))
    assert note.startswith("The settings of job 1 are not known")
