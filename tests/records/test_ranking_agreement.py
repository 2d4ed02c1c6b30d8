"""Agreement of rankings between budgets, worked out by hand."""

from dataclasses import replace
from pathlib import Path

from jobs_on_disk import trained, write_job

from mtx.records.job_records import read_results
from mtx.records.ranking_agreement import agreement, agreements

BITS = "bits_per_byte"


def test_pairs_in_the_same_order_are_counted() -> None:
    found = agreement("half", {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, {"a": 1.0, "b": 2.0, "c": 5.0, "d": 4.0})
    assert found is not None
    assert (found.num_same, found.num_pairs, found.is_same_best) == (5, 6, True)
    assert found.low < 5 / 6 < found.high
    assert found.text.startswith("At half the order would have been the same in 5 of 6 pairs of arms (83 %, 95 % ")
    assert agreement("half", {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}) is None
    other = agreement("half", {"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 1.0, "b": 2.0, "c": 3.0}, "maximize")
    assert other is not None
    assert (other.best, other.is_same_best) == ("b", False)


def test_smaller_budgets_are_read_from_the_curves_of_a_sweep(tmp_path: Path) -> None:
    # At 10 of 100 seconds, c is the best; at 50 and at the end, a is.
    for arm, values in {"a": (9.0, 8.0, 4.0, 1.0), "b": (9.0, 8.5, 5.0, 2.0), "c": (9.0, 6.0, 6.0, 3.0)}.items():
        curve = [
            {"step": i, "seconds": s, "val/bits_per_byte": v}
            for i, (s, v) in enumerate(zip((0, 10, 50, 100), values, strict=True))
        ]
        report = trained(values[-1], validations=curve, spent={"steps": 3, "seconds": 100.0})
        config = {"sampler": {}, "budget": {"seconds": 100}}
        write_job(tmp_path / arm, config, report, choices={"sampler": arm}, objective="bits_per_byte")
    tenth, quarter, half = agreements(read_results([tmp_path]))
    assert (tenth.num_same, tenth.num_pairs, tenth.best, tenth.is_same_best) == (1, 3, "c", False)
    assert "a tenth of this budget (10 seconds)" in tenth.text
    assert (quarter.num_same, half.num_same, half.best) == (1, 3, "a")


def test_an_order_of_arms_that_are_not_told_apart_may_be_chance(tmp_path: Path) -> None:
    for folder, spread in (("alike", 3.0), ("apart", 0.001)):
        for arm, last in {"a": 1.0, "b": 2.0, "c": 3.0}.items():
            for seed in (1, 2):
                bits = last + spread * (seed if arm == "b" else -seed)
                curve = [{"step": s, "seconds": s, "val/bits_per_byte": 9.0 - s + bits} for s in (0, 5, 10)]
                config = {"sampler": {}, "seed": seed, "budget": {"seconds": 10}}
                report = trained(bits, validations=curve, spent={"steps": 10, "seconds": 10.0})
                write_job(tmp_path / folder / f"{arm}{seed}", config, report, choices={"sampler": arm}, objective=BITS)
    alike, apart = (agreements(read_results([tmp_path / folder]))[-1] for folder in ("alike", "apart"))
    assert (alike.is_chance, apart.is_chance) == (True, False)
    assert alike.text.endswith(" No arm is told apart from the best at the end, so this order may be chance.")
    assert apart.text.endswith(" as at the end.")


def test_a_line_from_the_beginning_to_the_end_tells_no_order(tmp_path: Path) -> None:
    for arm, last in {"a": 1.0, "b": 2.0, "c": 3.0}.items():
        for name, amounts in {"ends": (0, 100), "late": (0, 40, 100)}.items():
            curve = [{"step": i, "seconds": s, "val/bits_per_byte": 9.0 - s} for i, s in enumerate(amounts)]
            report = trained(last, validations=curve, spent={"steps": 3, "seconds": 100.0})
            config = {"sampler": {}, "budget": {"seconds": 100}}
            write_job(tmp_path / name / arm, config, report, choices={"sampler": arm}, objective=BITS)
    assert agreements(read_results([tmp_path / "ends"])) == ()
    assert [one.budget[:9] for one in agreements(read_results([tmp_path / "late"]))] == ["a quarter", "half of t"]


def test_runs_with_several_budgets_are_compared_with_the_largest(tmp_path: Path) -> None:
    numbers = {10: (3.0, 4.0, 5.0), 100: (2.0, 1.0, 3.0)}
    for budget, values in numbers.items():
        for arm, value in zip("abc", values, strict=True):
            config = {"sampler": {}, "budget": {"steps": budget}}
            folder = tmp_path / f"{arm}{budget}"
            write_job(folder, config, trained(value), choices={"sampler": arm}, objective="bits_per_byte")
    (found,) = agreements(read_results([tmp_path]))
    assert (found.budget, found.num_same, found.num_pairs) == ("budget.steps=10, compared with 100,", 2, 3)


def test_several_budgets_of_another_measure_than_the_compared_one_tell_nothing(tmp_path: Path) -> None:
    for budget in (10, 100):
        for arm, value in zip("abc", (3.0, 4.0, 5.0), strict=True):
            config = {"sampler": {}, "budget": {"steps": budget}, "sweep": {"budget": "seconds"}}
            write_job(tmp_path / f"{arm}{budget}", config, trained(value), choices={"sampler": arm}, objective=BITS)
    assert agreements(read_results([tmp_path])) == ()


def test_jobs_that_confirm_are_no_arms_of_their_own(tmp_path: Path) -> None:
    for arm, value in zip("abc", (3.0, 4.0, 5.0), strict=True):
        for budget in (10, 100):
            config = {"sampler": {}, "seed": 1, "budget": {"steps": budget}}
            write_job(tmp_path / f"{arm}{budget}", config, trained(value), choices={"sampler": arm}, objective=BITS)
    results = read_results([tmp_path])
    added = replace(results.jobs[0], name="new", confirms=True, config={**results.jobs[0].config, "seed": 9})
    (found,) = agreements(replace(results, jobs=(*results.jobs, added)))
    assert (found.num_same, found.num_pairs) == (3, 3)
    both = replace(results, jobs=(*results.jobs, added))
    assert list(both.judged_arms) == [name for name in both.arms if name.endswith(" (new seeds)")]
