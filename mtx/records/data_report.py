"""The data part of `report.json`: the pairs kept and dropped in each stage, and the table of them in the terminal."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtx.data.concatenated_corpus import NAME_SEPARATOR
from mtx.data.dataset import SPLITS, TranslationDataset
from mtx.data.tokenize.tokenization import vocabulary_size
from mtx.records.data_assumptions import assume_about_data
from mtx.records.report_record import DataReport, HeldOut, SourceReport
from mtx.records.score_report import scorer_reports, scores_table, selection_report, selection_tables
from mtx.records.used_dataset_ids import StageNames

if TYPE_CHECKING:
    from mtx.training.translation_data import TranslationData

TABLE_WIDTH = 60  # characters, so that titles stay on one line
PACKAGES = ("mtx", "torch", "pytorch-lightning", "tokenizers", "datasets", "pyarrow", "numpy", "hydra-core")


def data_report(datamodule: "TranslationData", *, seed: int) -> DataReport:
    """Return the data part of the report, computed from the manifests of the prepared stages."""
    repo, ids = datamodule.storage.repo, datamodule.ids
    assert ids is not None
    raw = {split: repo.manifest(name) for split, name in ids.raw.items()}
    text = [repo.manifest(name) for name in ids.text.values()]
    filtered = {split: repo.manifest(name) for split, name in ids.filtered.items()}
    dropped = {split: dict(_counts(d.metrics["dropped"])) for split, d in filtered.items()}
    train = filtered["train"]
    pair = datamodule.tokenizers
    num_pairs = {split: len(filtered[split]) if split in filtered else 0 for split in SPLITS}
    held_out = HeldOut.model_validate(datamodule.held_out())
    sizes = {" of the source": vocabulary_size(pair.source), " of the target": vocabulary_size(pair.target)}
    told = {"": sizes[" of the source"]} if pair.joint else sizes
    assume_about_data(datamodule, held_out, told, num_pairs)
    report = DataReport(
        name=ids.name or train.name,
        languages=train.languages,
        skipped=_summed_counts([_counts(d.metrics["skipped"]) for d in raw.values()]),
        num_pairs_raw=sum(len(d) for d in raw.values()),
        num_pairs_kept=sum(len(d) for d in filtered.values()),
        num_pairs_changed=sum(_count(d.metrics["changed"]) for d in text),
        changed_by_step=_summed_counts([_counts(d.metrics.get("changed_by_step", {})) for d in text]),
        dropped=_summed_counts(list(dropped.values())),
        dropped_by_split=dropped,
        contaminated=_counts(repo.manifest(ids.split["train"]).metrics.get("contaminated", {})),
        num_pairs_train=num_pairs["train"],
        num_pairs_validation=num_pairs["validation"],
        num_pairs_test=num_pairs["test"],
        held_out=held_out,
        source_vocab_size=sizes[" of the source"],
        target_vocab_size=sizes[" of the target"],
        joint_vocabulary=pair.joint,
        train_tokens=datamodule.token_counts(),
        ids=StageNames(
            raw=dict(ids.raw),
            text=dict(ids.text),
            split=dict(ids.split),
            scores={name: dict(of) for name, of in ids.scores.items()},
            models=dict(ids.models),
            filtered=dict(ids.filtered),
            tokenizer=ids.tokenizer,
            encoded=dict(ids.encoded),
        ),
        built=tuple(ids.built),
        store=datamodule.storage.location,
        seed=seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )
    update: dict[str, Any] = {}
    if names := datamodule.source_names:
        update["sources"] = sources(names, raw, filtered)
    if ids.scores:
        update["scorers"] = scorer_reports(datamodule)
    if selection := selection_report(train.metrics):
        update["selection"] = selection
    return report.model_copy(update=update)


def sources(
    names: list[str], raw: Mapping[str, TranslationDataset], filtered: Mapping[str, TranslationDataset]
) -> dict[str, SourceReport]:
    """Return the pairs kept and dropped of each source of a mixture, summed over all splits."""
    found: dict[str, SourceReport] = {}
    for name in names:
        of_split = {split: _counts(_counts(d.metrics["sources"])[name]) for split, d in filtered.items()}
        own = [d for key, d in raw.items() if key.rpartition(NAME_SEPARATOR)[0] == name]
        found[name] = SourceReport(
            skipped=_summed_counts([_counts(d.metrics["skipped"]) for d in own]),
            num_pairs_raw=sum(len(d) for d in own),
            dropped=_summed_counts([_counts(counts["dropped"]) for counts in of_split.values()]),
            num_pairs_train=_kept(of_split, "train"),
            num_pairs_validation=_kept(of_split, "validation"),
            num_pairs_test=_kept(of_split, "test"),
        )
    return found


def funnel_table(report: DataReport) -> Table:
    """Return the table of the pairs: read from the source, dropped by reason, kept, and kept by split."""
    table = plain_table(f"{report.name} {'–'.join(report.languages or ())}: pairs kept and dropped")
    for reason, count in report.skipped.items():
        table.add_row(f"skipped while reading: {reason}", f"{count:,}")
    table.add_row("pairs read", f"{report.num_pairs_raw:,}")
    for step, count in report.changed_by_step.items():
        table.add_row(f"  changed: {step}", f"{count:,}")
    for reason, count in sorted(report.dropped.items(), key=lambda item: -item[1]):
        table.add_row(f"  dropped: {reason}", f"{count:,}")
    table.add_row("pairs kept", f"{report.num_pairs_kept:,}")
    for split in SPLITS:
        table.add_row(f"  {split}", f"{getattr(report, f'num_pairs_{split}'):,}")
    if report.held_out is not None and (report.num_pairs_validation or report.num_pairs_test):
        table.add_row("validation and test are", report.held_out.filtering or "not reported")
    if found := report.contaminated:
        sides = f"{found['pairs']:,} (source {found['source']:,}, target {found['target']:,})"
        table.add_row("contaminated training pairs", sides)
        if (shared := found.get("ngram")) is not None:
            table.add_row("  with a held-out n-gram", f"{shared:,}")
    for name, of in report.sources.items():
        kept = f"{of.num_pairs_train:,}, {of.num_pairs_validation:,}, {of.num_pairs_test:,}"
        table.add_row(f"  of {name}: read; {', '.join(SPLITS)}", f"{of.num_pairs_raw:,}; {kept}")
    sizes = (report.source_vocab_size, report.target_vocab_size)
    table.add_row("vocabulary", " + ".join(f"{size:,}" for size in sizes[: 1 if report.joint_vocabulary else 2]))
    table.add_row("stages built", ", ".join(sorted({name.split("-")[0] for name in report.built})) or "nothing")
    return table


def data_tables(report: DataReport) -> list[Table]:
    """Return the tables of the data: scores, the rules of a selection, and pairs kept and dropped."""
    tables = [scores_table(report.scorers)] if report.scorers else []
    tables += selection_tables(report.selection) if report.selection else []
    return [*tables, funnel_table(report)]


def plain_table(title: str) -> Table:
    """Return an empty table with two columns, a name and a value, and no header."""
    table = Table(title=title, title_justify="left", show_header=False, min_width=TABLE_WIDTH)
    table.add_column("name")
    table.add_column("value", justify="right")
    return table


def _counts(value: Any) -> dict[str, int]:
    assert isinstance(value, dict)
    return value


def _count(value: Any) -> int:
    assert isinstance(value, int)
    return value


def _kept(of_split: Mapping[str, dict[str, int]], split: str) -> int:
    return of_split[split]["kept"] if split in of_split else 0


def _summed_counts(counts: list[dict[str, int]]) -> dict[str, int]:
    """Return the sum of counts by reason, without reasons whose sum is 0."""
    total: dict[str, int] = {}
    for counted in counts:
        for reason, count in counted.items():
            total[reason] = total.get(reason, 0) + count
    return {reason: count for reason, count in total.items() if count}
