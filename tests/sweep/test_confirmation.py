"""`sweep.confirm`: which jobs repeat the best two arms, and a verdict on these alone."""

import json
from pathlib import Path

import pytest
from jobs_on_disk import trained, write_job

from mtx.errors import ConfigError
from mtx.records.job_records import read_results
from mtx.records.sweep_record import read_sweep
from mtx.records.verdict_lines import verdict_text
from mtx.sweep.confirmation import check_confirm, confirmation_overrides, plan_confirmation

BITS = {"a": (2.0, 2.1), "b": (3.0, 3.3), "c": (2.2, 2.3)}


def written(folder: Path, arm: str, seed: int, name: int, bits: float) -> None:
    config = {"seed": seed, "sampler": {}}
    write_job(folder / str(name), config, trained(bits), choices={"sampler": arm}, objective="bits_per_byte")


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """A sweep of three arms and two seeds on disk; the overrides of each of its jobs."""
    found: dict[str, tuple[str, ...]] = {}
    for arm, numbers in BITS.items():
        for seed, bits in enumerate(numbers, start=1):
            name = str(len(found))
            written(tmp_path, arm, seed, int(name), bits)
            found[name] = (f"sampler={arm}", "task=fit", f"seed={seed}")
    (tmp_path / "sweep.json").write_text(json.dumps({"command": ["-m"], "num_jobs": len(found)}))
    return found


def test_the_best_two_arms_get_new_seeds(tmp_path: Path, overrides: dict[str, tuple[str, ...]]) -> None:
    rows = confirmation_overrides(read_results([tmp_path]), overrides, 3)
    assert rows == [(f"sampler={arm}", "task=fit", f"seed={seed}") for arm in ("a", "c") for seed in (3, 4, 5)]


def test_the_verdict_stands_on_the_new_jobs_alone(tmp_path: Path, overrides: dict[str, tuple[str, ...]]) -> None:
    rows = confirmation_overrides(read_results([tmp_path]), overrides, 3)
    plan_confirmation(tmp_path, {str(6 + number): row for number, row in enumerate(rows)})
    sweep = read_sweep(tmp_path)
    assert sweep is not None
    assert sweep.confirm_folders == ("6", "7", "8", "9", "10", "11")
    assert read_results([tmp_path]).count("missing") == 6
    for number, bits in enumerate((2.4, 2.5, 2.45, 2.2, 2.31, 2.25)):
        written(tmp_path, "a" if number < 3 else "c", 3 + number % 3, 6 + number, bits)
    results = read_results([tmp_path])
    assert results.verdict.winner == "c (new seeds)"
    assert list(results.verdict.differences) == ["a (new seeds)"]
    assert list(results.arms) == ["a", "b", "c", "a (new seeds)", "c (new seeds)"]
    marks = [(results.arm_name(group), results.mark(group)) for group in results.groups]
    assert marks == [("c (new seeds)", "★"), ("a (new seeds)", ""), ("a", ""), ("c", ""), ("b", "")]
    assert "On the new seeds of sweep.confirm alone: c (new seeds) is best: 0.197 lower" in verdict_text(results)
    assert confirmation_overrides(results, overrides, 3) == rows  # a resumed sweep repeats the same jobs


def test_one_arm_has_nothing_to_confirm(tmp_path: Path) -> None:
    written(tmp_path, "a", 1, 0, 2.0)
    assert confirmation_overrides(read_results([tmp_path]), {"0": ("seed=1",)}, 3) == []


def test_a_winner_of_several_arms_is_said_to_look_too_good(tmp_path: Path) -> None:
    for number, (arm, seed) in enumerate([(arm, seed) for arm in range(3) for seed in (1, 2)]):
        written(tmp_path, f"arm{arm}", seed, number, 2 + arm + seed / 100 + (arm * seed % 3) / 1000)
    told = verdict_text(read_results([tmp_path]))
    assert "arm0 is best" in told
    assert told.endswith("sweep.confirm=3 repeats the best two with new seeds.")


@pytest.mark.parametrize("number", [1, -1, 2.5, True, "3"])
def test_a_number_of_seeds_that_tells_nothing_is_refused(number: object) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.confirm is 0 or at least 2 new seeds per arm, but is "):
        check_confirm(number, is_grid=True)


def test_a_search_is_not_confirmed() -> None:
    check_confirm(0, is_grid=False)
    with pytest.raises(ConfigError, match=r"sweep\.confirm=3 repeats arms of a grid, but this sweep is a search\."):
        check_confirm(3, is_grid=False)
