"""Compute the page's sections about data and batches. Jobs with equal data share one entry."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtx.data.dataset import SPLITS
from mtx.page.ranking import group_label
from mtx.page.rules_section import RulesTable, rules_table
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_record import Report
from mtx.records.result_types import JobRecord

MAX_SAMPLES = 5  # dropped pairs shown for each rule of the filter
MAX_TEXT_CHARS = 400  # characters of a shown text


@dataclass(frozen=True)
class Step:
    """One row of the table of pairs kept and dropped; `kind` is `in`, `skipped`, `dropped`, `kept` or `split`."""

    kind: str
    name: str
    count: int
    share: float
    samples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Funnel:
    """The table of pairs kept and dropped; `label` names the jobs that share it.

    `held_out` says whether validation and test are filtered; None if it is not reported, or if there are no such pairs.
    """

    label: str
    name: str
    languages: tuple[str, ...]
    steps: tuple[Step, ...]
    rules: RulesTable | None = None
    held_out: str | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Statistics of a tokenizer on one side of the training split; None for a statistic that is not known."""

    label: str
    side: str
    size: int | None
    joint: bool
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch of one job, for one row of the ranking."""

    label: str
    job: JobRecord
    profile: RunProfile
    facts: Mapping[str, float]


OF_FUNNEL = ("name", "skipped", "dropped", "num_pairs_raw", "num_pairs_kept", *(f"num_pairs_{s}" for s in SPLITS))
BATCH_FACTS = (
    "num_batches",
    "padding_ratio",
    "source_padding_ratio",
    "target_padding_ratio",
    "num_shapes",
    "max_padded_tokens",
    "real_tokens_per_batch.mean",
)


def shared(
    jobs: Sequence[JobRecord], varied: Sequence[str], key_of: Callable[[JobRecord], Hashable | None]
) -> list[tuple[str, list[JobRecord]]]:
    """Group jobs by `key_of`, and return each group with its label; jobs whose key is None are left out."""
    found: dict[Hashable, list[JobRecord]] = {}
    for job in jobs:
        key = key_of(job)
        if key is not None:
            found.setdefault(key, []).append(job)
    having = [job for gathered in found.values() for job in gathered]
    return [(group_label(gathered, having, varied), gathered) for gathered in found.values()]


def funnels(
    jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, RunProfile]
) -> tuple[Funnel, ...]:
    """Return the tables of pairs kept and dropped, one for each group of jobs with equal counts."""

    def key_of(job: JobRecord) -> Hashable | None:
        report = job.report
        counts = [getattr(report, name) for name in OF_FUNNEL]
        return repr(counts) if report.num_pairs_raw else None

    found = []
    for label, gathered in shared(jobs, varied, key_of):
        with_samples = next((job for job in gathered if profiles[job.folder].rejects), gathered[0])
        found.append(_funnel(label, with_samples, profiles[with_samples.folder]))
    return tuple(found)


def vocabularies(
    jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, RunProfile]
) -> tuple[Vocabulary, ...]:
    """Return the tokenizer statistics of each side, once for each group of jobs with equal statistics."""

    def key_of(job: JobRecord) -> Hashable | None:
        found = profiles[job.folder].fertility
        return (
            repr([(_vocabulary_size(job.report, side), side, of.shares) for side, of in found.items()])
            if found
            else None
        )

    return tuple(
        Vocabulary(label, side, _vocabulary_size(report, side), bool(report.joint_vocabulary), of.shares)
        for label, gathered in shared(jobs, varied, key_of)
        for report in [gathered[0].report]
        for side, of in profiles[gathered[0].folder].fertility.items()
    )


def histograms(
    jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, RunProfile]
) -> list[tuple[str, RunProfile]]:
    """Return the profiles with length histograms, one for each group of jobs with equal lengths and buckets."""

    def key_of(job: JobRecord) -> Hashable | None:
        profile = profiles[job.folder]
        has_counts = any(found.counts for found in profile.lengths.values())
        return repr((profile.lengths, profile.bucket_edges)) if has_counts else None

    return [(label, profiles[gathered[0].folder]) for label, gathered in shared(jobs, varied, key_of)]


def batch_facts(job: JobRecord) -> dict[str, float]:
    """Return the numbers in a job's report that describe the batches of an epoch."""
    return {name: job.metrics[name] for name in BATCH_FACTS if name in job.metrics}


def run_facts(report: Report) -> list[tuple[str, str]]:
    """Return the facts of a training that have no column in comparisons: the start, the model, and where it ran."""
    facts = (
        ("bits per byte at the start", None if (bits := report.bits_per_byte_first) is None else f"{bits:.4f}"),
        ("parameters", None if report.num_parameters is None else f"{report.num_parameters:,}"),
        ("device", report.device),
        ("threads", None if report.num_threads is None else f"{report.num_threads:,}"),
        ("ended by", report.ended_by),
    )
    return [(name, text) for name, text in facts if text is not None]


def excerpt(text: str) -> str:
    """Return a text, cut to `MAX_TEXT_CHARS` characters with its full length appended if it is longer."""
    return text if len(text) <= MAX_TEXT_CHARS else f"{text[:MAX_TEXT_CHARS]}… ({len(text):,} characters)"


def _funnel(label: str, job: JobRecord, profile: RunProfile) -> Funnel:
    report = job.report
    raw = max(report.num_pairs_raw or 0, 1)
    samples: dict[str, list[tuple[str, str]]] = {}
    for rules in profile.rejects.values():
        for rule, rejects in rules.items():
            samples.setdefault(rule, []).extend((sample.source, sample.target) for sample in rejects.samples)
    steps = [Step("skipped", name, count, count / raw) for name, count in report.skipped.items()]
    steps.append(Step("in", "pairs read", report.num_pairs_raw or 0, 1.0))
    steps += [
        Step("dropped", name, count, count / raw, _sample_excerpts(samples.get(name, [])))
        for name, count in sorted(report.dropped.items(), key=lambda item: -item[1])
    ]
    steps.append(Step("kept", "pairs kept", report.num_pairs_kept or 0, (report.num_pairs_kept or 0) / raw))
    of_splits = ((split, report.num_pairs_of(split)) for split in SPLITS)
    steps += [Step("split", split, count, count / raw) for split, count in of_splits]
    has_held_out = report.held_out is not None and any(report.num_pairs_of(split) for split in SPLITS[1:])
    return Funnel(
        *(label, report.name or "", report.languages or (), tuple(steps), rules_table(report, profile)),
        held_out=report.held_out.filtering if report.held_out is not None and has_held_out else None,
    )


def _sample_excerpts(samples: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((excerpt(source), excerpt(target)) for source, target in samples[:MAX_SAMPLES])


def _vocabulary_size(report: Report, side: str) -> int | None:
    return report.source_vocab_size if side == "source" else report.target_vocab_size
