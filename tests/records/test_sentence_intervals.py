"""Verdicts with intervals over held-out sentences: which jobs have them, and what is said of those that have none."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs_on_disk import trained, write_job, write_sentences
from rich.console import Console

from mtx.evaluation.corpus_metrics import METRICS, score_statistics
from mtx.evaluation.verdict_text import difference_texts
from mtx.records.cohorts import cohorts
from mtx.records.held_out_sentences import HELD_OUT_FILE, complete_held_out
from mtx.records.job_records import read_results
from mtx.records.result_tables import result_rows
from mtx.records.result_types import Results
from mtx.records.verdict_lines import verdict_text
from mtx.sweep.terminal_summary import difference_headings, print_summary

NOISE = [0.3, -0.3, 0.1, -0.1, 0.2, -0.2, 0.05, -0.05]  # of eight sentences; adds up to 0


def job(folder: Path, arm: str, seed: int, bits: Sequence[float], **held_out: Any) -> Path:
    """Write a job whose held-out sentences have these bits per byte, with their statistics."""
    path = folder / f"{arm}{seed}"
    settings = {"seed": seed, "sampler": {}}
    write_job(path, settings, trained(sum(bits) / len(bits)), choices={"sampler": arm}, objective="bits_per_byte")
    write_sentences(path, bits, **held_out)
    return path


def around(mean: float, scale: float = 1.0) -> list[float]:
    return [mean + scale * noise for noise in NOISE]


def of(folder: Path) -> Results:
    (cohort,) = cohorts(read_results([folder]))
    return cohort.results


def printed(results: Results) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        print_summary(results, console)
    return " ".join(capture.get().split())


def test_a_verdict_has_both_kinds_of_interval_and_says_which_is_which(tmp_path: Path) -> None:
    for seed, more in ((1, 0.0), (2, 0.01)):
        job(tmp_path, "a", seed, around(2.0 + more))
        job(tmp_path, "b", seed, around(2.1 + more, 1.5))
    results = of(tmp_path)
    found = results.verdict
    assert (found.winner, found.compared_to) == ("a", "a")
    over_seeds, over_text = found.differences["b"], found.text_differences["b"]
    assert over_text.estimate == pytest.approx(over_seeds.estimate) == pytest.approx(0.1)
    deviation = 0.5 * np.std(NOISE, ddof=1) / math.sqrt(8)  # of the mean of the differences of eight pairs
    assert over_text.high - over_text.low == pytest.approx(2 * 2.365 * deviation, rel=0.15)
    assert over_text.num_seeds == 2
    basis = "Over sentences: 1,000 resamples of 8 held-out sentences; models stay as trained. Seeds alone decide."
    assert results.sentences.basis == basis
    assert difference_headings(found) == ["to best [95%]\nover seeds", "[95%] over\nsentences"]
    told = printed(read_results([tmp_path]))
    assert basis in told
    assert " ".join(difference_texts(found, "b")[1].split()) in told
    verdicts = {row.job: row.verdict for row in result_rows(results)}
    assert (verdicts["b1"]["text_low"], verdicts["b1"]["text_high"]) == (over_text.low, over_text.high)
    assert "text_low" not in verdicts["a1"]


def test_one_seed_has_no_winner_but_an_interval_over_sentences(tmp_path: Path) -> None:
    job(tmp_path, "a", 1, around(2.0))
    job(tmp_path, "b", 1, around(2.5, 1.2))
    results = of(tmp_path)
    assert results.verdict.winner is None
    assert results.verdict.text_differences["b"].is_told_apart
    assert difference_headings(results.verdict) == ["to best [95%]\nover sentences"]
    ((only,), (best,)) = (difference_texts(results.verdict, arm) for arm in ("b", "a"))
    assert only.startswith("+0.500 [+0.4")
    assert best == ""


def test_the_verdict_says_if_other_sentences_may_turn_it_around(tmp_path: Path) -> None:
    for seed in (1, 2):
        job(tmp_path, "a", seed, around(2.0 + seed / 1000))
        job(tmp_path, "b", seed, around(2.01 + seed / 1000, -1.0))
    results = of(tmp_path)
    assert results.verdict.winner == "a"
    told = "Other held-out sentences may turn this around: the interval over held-out sentences for b, [-"
    assert told in verdict_text(results)


def test_documents_are_drawn_as_a_whole(tmp_path: Path) -> None:
    documents = [0, 0, 1, 1, -1, -1, 2, 2]
    job(tmp_path / "by", "a", 1, [2.0] * 8, documents=documents)
    job(tmp_path / "by", "b", 1, [2.9, 2.9, 2.0, 2.0, 2.5, 2.5, 2.4, 2.4], documents=documents)
    job(tmp_path / "without", "a", 1, [2.0] * 8)
    job(tmp_path / "without", "b", 1, [2.9, 2.9, 2.0, 2.0, 2.5, 2.5, 2.4, 2.4])
    by, without = (of(tmp_path / name) for name in ("by", "without"))
    assert "8 held-out sentences in 5 documents, which are drawn as a whole;" in by.sentences.basis
    wide, narrow = (results.verdict.text_differences["b"] for results in (by, without))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_the_same_results_give_the_same_intervals(tmp_path: Path) -> None:
    for arm, mean in (("a", 2.0), ("b", 2.1), ("c", 2.3)):
        job(tmp_path, arm, 1, around(mean, mean))
    assert of(tmp_path).verdict.text_differences == of(tmp_path).verdict.text_differences
    assert list(of(tmp_path).verdict.text_differences) == ["b", "c"]


def test_jobs_without_sentences_are_left_out_and_told(tmp_path: Path) -> None:
    for arm, mean in (("a", 2.0), ("b", 2.1), ("c", 2.3)):
        for seed in (1, 2):
            job(tmp_path, arm, seed, around(mean + seed / 100))
    (tmp_path / "c2" / HELD_OUT_FILE).unlink()
    results = of(tmp_path)
    assert list(results.verdict.text_differences) == ["b"]
    assert results.sentences.basis.endswith("Seeds alone decide. Not known: c has jobs that stored no sentences.")
    (tmp_path / "a1" / HELD_OUT_FILE).unlink()
    results = of(tmp_path)
    assert results.verdict.text_differences == {}
    told = "Intervals over held-out sentences are not known: a has jobs that stored no sentences."
    assert results.sentences.basis == told
    assert told in printed(results)


def test_a_damaged_file_is_left_out_and_told(tmp_path: Path) -> None:
    for arm, mean in (("a", 2.0), ("b", 2.1)):
        job(tmp_path, arm, 1, around(mean))
    path = tmp_path / "b1" / HELD_OUT_FILE
    path.write_bytes(path.read_bytes()[:100])
    basis = of(tmp_path).sentences.basis
    assert basis.startswith("Intervals over held-out sentences are not known: b has a job whose sentences cannot be ")
    assert f"{path} cannot be read: " in basis


@pytest.mark.parametrize("how", ["digest", "rows", "bytes"])
def test_other_sentences_are_not_compared(tmp_path: Path, how: str) -> None:
    job(tmp_path, "a", 1, around(2.0))
    path = job(tmp_path, "b", 1, around(2.1), digest="two" if how == "digest" else "one")
    if how == "rows":
        write_sentences(path, [2.1] * 7)
    elif how == "bytes":
        from mtx.records.held_out_sentences import write_likelihoods

        write_likelihoods(path, np.array([range(8), [2.1 * 2 * math.log(2)] * 8, [2] * 8], dtype=np.float64))
        complete_held_out(path, digest="one", documents=None, scores=None)
    results = of(tmp_path)
    assert results.verdict.text_differences == {}
    told = "stored the sentences of other held-out pairs" if how == "digest" else "stored other held-out sentences"
    assert results.sentences.basis == f"Intervals over held-out sentences are not known: b {told}."


def test_a_number_at_an_equal_budget_has_no_sentences(tmp_path: Path) -> None:
    for arm, tokens, last in (("a", 1000, 4.0), ("b", 2000, 3.0)):
        path = tmp_path / arm
        validations = [{"step": 0, "real_tokens": 0, "val/bits_per_byte": 8.0}]
        validations.append({"step": tokens // 100, "real_tokens": tokens, "val/bits_per_byte": last})
        spent = {"steps": tokens // 100, "seconds": 1.0, "real_tokens": tokens, "source_bytes": None}
        settings = {"seed": 1, "sampler": {}, "budget": {"real_tokens": 1000}}
        report = trained(last, validations=validations, spent=spent)
        write_job(path, settings, report, choices={"sampler": arm}, objective="bits_per_byte")
        write_sentences(path, [last] * 8)
    results = of(tmp_path)
    assert results.arms["b"].mean("bits_per_byte") == pytest.approx(5.5)
    told = "b is not compared by its last evaluation, whose sentences are stored."
    assert results.sentences.basis == f"Intervals over held-out sentences are not known: {told}"


def test_numbers_that_are_not_of_held_out_text_and_single_arms_raise_no_question(tmp_path: Path) -> None:
    for seed, arm in enumerate("ab"):
        settings = {"seed": seed, "sampler": {}}
        write_job(tmp_path / "padding" / arm, settings, trained(2.0, padding=0.1 * seed), choices={"sampler": arm})
    results = of(tmp_path / "padding")
    assert (results.sentences.basis, results.verdict.text_differences) == ("", {})
    for seed in (1, 2):
        job(tmp_path / "one", "a", seed, around(2.0))
    assert of(tmp_path / "one").sentences.basis == ""


def test_a_diverged_arm_is_left_out(tmp_path: Path) -> None:
    for arm, mean in (("a", 2.0), ("b", 2.1), ("c", math.nan)):
        job(tmp_path, arm, 1, around(mean))
    assert list(of(tmp_path).verdict.text_differences) == ["b"]


def test_repeats_of_a_seed_count_as_one(tmp_path: Path) -> None:
    job(tmp_path, "a", 1, around(2.0))
    job(tmp_path, "b", 1, around(2.3))
    for name, mean in (("b2", 2.1), ("again", 2.2)):
        path = tmp_path / name
        write_job(path, {"seed": 2, "sampler": {}}, trained(mean), choices={"sampler": "b"}, objective="bits_per_byte")
        write_sentences(path, around(mean))
    results = of(tmp_path)
    assert results.verdict.text_differences["b"].estimate == pytest.approx((2.3 + 2.15) / 2 - 2.0)
    assert sorted(weight for weight, _ in results.arms["b"].weighted_jobs("bits_per_byte")) == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_scores_have_intervals_over_the_translated_sentences(
    tmp_path: Path, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = [f"the cat {i} sat on the mat number {i * i}" for i in range(30)]
    for arm, cut in (("a", 8), ("b", 5)):
        outputs = [" ".join(text.split()[: cut + i % 3]) for i, text in enumerate(references)]
        statistics = score_statistics(range(30), outputs, references, tokenizer="13a")
        assert statistics is not None
        values = getattr(statistics, metric).astype(float)
        scores = {"num_sentences": 30, "bleu": 0.0, "chrf": 0.0}
        scores[metric] = round(METRICS[f"scores.{metric}"].of_sentences(values), 4)
        path = tmp_path / arm
        write_job(path, {"seed": 1, "sampler": {}, "sweep": {}}, trained(2.0, scores=scores), choices={"sampler": arm})
        status = (path / "status.json").read_text()
        assert '"padding_ratio": 0.25' in status
        said = f'"scores.{metric}": {scores[metric]}'
        (path / "status.json").write_text(status.replace('"padding_ratio": 0.25', said))
        complete_held_out(path, digest="one", documents=None, scores=statistics)
    results = of(tmp_path)
    assert (results.objective, results.direction) == (f"scores.{metric}", "maximize")
    found = results.verdict.text_differences["b"]
    assert found.high < 0
    assert found.low < found.estimate < found.high
    monkeypatch.setitem(__import__("sys").modules, f"sacrebleu.metrics.{metric}", None)
    told = 'Intervals over held-out sentences need sacrebleu: pip install "mtx[scores]".'
    assert of(tmp_path).sentences.basis == told
