"""What the page says of the data: the funnel of the filter, lengths, batches, vocabularies. Shared, so told once."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtx.data.dataset import SPLITS
from mtx.experiment.page.profile import Profile, mapping, number
from mtx.experiment.page.ranking import label_of_many
from mtx.experiment.sweep.results import JobRecord

MOST_SAMPLES = 5  # rejected pairs shown of each rule
LONGEST_TEXT = 400  # characters of a text that are shown


@dataclass(frozen=True)
class Step:
    """One line of the funnel: `kind` is `in`, `skipped`, `dropped`, `kept` or `split`."""

    kind: str
    name: str
    count: int
    share: float
    samples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Funnel:
    """The way of the pairs through the filter, of the jobs that `label` names."""

    label: str
    name: str
    languages: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Vocabulary:
    """What a vocabulary makes of one side's text. None: not known."""

    label: str
    side: str
    size: int | None
    joint: bool
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch, of one row of the table."""

    label: str
    job: JobRecord
    profile: Profile
    facts: Mapping[str, float]


BATCH_FACTS = (
    "num_batches",
    "padding_ratio",
    "source_padding_ratio",
    "target_padding_ratio",
    "num_shapes",
    "max_padded_tokens",
    "real_tokens_per_batch.mean",
)


def told_once(
    jobs: Sequence[JobRecord], varied: Sequence[str], key_of: Callable[[JobRecord], Hashable | None]
) -> list[tuple[str, list[JobRecord]]]:
    """Gather jobs that share something, each gathering with its name; jobs for which `key_of` is None are left out."""
    found: dict[Hashable, list[JobRecord]] = {}
    for job in jobs:
        key = key_of(job)
        if key is not None:
            found.setdefault(key, []).append(job)
    having = [job for gathered in found.values() for job in gathered]
    return [(label_of_many(gathered, having, varied), gathered) for gathered in found.values()]


def funnels(jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, Profile]) -> tuple[Funnel, ...]:
    """Return the way of the pairs, once for jobs that share it."""

    def key_of(job: JobRecord) -> Hashable | None:
        counts = _funnel_counts(job.report)
        return repr(counts) if counts["num_pairs_raw"] else None

    found = []
    for label, gathered in told_once(jobs, varied, key_of):
        with_samples = next((job for job in gathered if profiles[job.folder].rejects), gathered[0])
        found.append(_funnel(label, with_samples, profiles[with_samples.folder]))
    return tuple(found)


def vocabularies(
    jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, Profile]
) -> tuple[Vocabulary, ...]:
    """Return what the vocabularies make of each side, once for jobs that share it."""

    def key_of(job: JobRecord) -> Hashable | None:
        shares = profiles[job.folder].fertility
        sizes = [_size(job, side) for side in shares]
        return repr((sizes, [(side, sorted(of_side.items())) for side, of_side in shares.items()])) if shares else None

    return tuple(
        Vocabulary(label, side, _size(gathered[0], side), gathered[0].report.get("joint_vocabulary") is True, shares)
        for label, gathered in told_once(jobs, varied, key_of)
        for side, shares in profiles[gathered[0].folder].fertility.items()
    )


def histograms(
    jobs: Sequence[JobRecord], varied: Sequence[str], profiles: Mapping[Path, Profile]
) -> list[tuple[str, Profile]]:
    """Return profiles with lengths, once for jobs that share lengths and buckets."""

    def key_of(job: JobRecord) -> Hashable | None:
        profile = profiles[job.folder]
        return repr((profile.lengths, profile.bucket_edges)) if profile.lengths else None

    return [(label, profiles[gathered[0].folder]) for label, gathered in told_once(jobs, varied, key_of)]


def batch_facts(job: JobRecord) -> dict[str, float]:
    """Return what the report says of the batches of an epoch."""
    return {name: job.metrics[name] for name in BATCH_FACTS if name in job.metrics}


def languages_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the codes of source and target language; nothing where a report does not have the two."""
    languages = report.get("languages")
    return tuple(map(str, languages)) if isinstance(languages, list) and len(languages) == 2 else ()


def cut(text: str) -> str:
    """Return a text with its end left out where it is too long, and with how long it is."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _funnel_counts(report: Mapping[str, Any]) -> dict[str, Any]:
    reasons = {name: _counts(report.get(name)) for name in ("skipped", "dropped")}
    numbers = {
        name: int(number(report.get(name)) or 0)
        for name in ("num_pairs_raw", "num_pairs_kept", *(f"num_pairs_{split}" for split in SPLITS))
    }
    return {**reasons, **numbers, "name": report.get("name")}


def _funnel(label: str, job: JobRecord, profile: Profile) -> Funnel:
    told = _funnel_counts(job.report)
    raw = max(told["num_pairs_raw"], 1)
    samples: dict[str, list[tuple[str, str]]] = {}
    for rules in profile.rejects.values():
        for rule, rejects in rules.items():
            samples.setdefault(rule, []).extend(rejects.samples)
    steps = [Step("skipped", name, count, count / raw) for name, count in told["skipped"].items()]
    steps.append(Step("in", "pairs in", told["num_pairs_raw"], 1.0))
    steps += [
        Step("dropped", name, count, count / raw, _shown(samples.get(name, [])))
        for name, count in sorted(told["dropped"].items(), key=lambda item: -item[1])
    ]
    steps.append(Step("kept", "pairs kept", told["num_pairs_kept"], told["num_pairs_kept"] / raw))
    of_splits = ((split, told[f"num_pairs_{split}"]) for split in SPLITS)
    steps += [Step("split", split, count, count / raw) for split, count in of_splits]
    return Funnel(label, str(job.report.get("name", "")), languages_of(job.report), tuple(steps))


def _shown(samples: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((cut(source), cut(target)) for source, target in samples[:MOST_SAMPLES])


def _counts(value: Any) -> dict[str, int]:
    found = {str(name): number(count) for name, count in mapping(value).items()}
    return {name: int(count) for name, count in found.items() if count}


def _size(job: JobRecord, side: str) -> int | None:
    found = number(job.report.get(f"{side}_vocab_size"))
    return None if found is None else int(found)
