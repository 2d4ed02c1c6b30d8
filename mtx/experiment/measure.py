"""`task=measure`: one epoch of batches, and what the data costs.

`report.json` is this module's contract; docs/report.md explains each field.
"""

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mtx.data.corpus import BETWEEN
from mtx.data.dataset import SPLITS, TranslationDataset
from mtx.experiment.profile import data_profile, plan_profile, write_profile
from mtx.experiment.ranks import ranks_report
from mtx.experiment.run import Run
from mtx.infra.dataset.plan.base import Lengths, Plan, check_at_least, padding, shapes
from mtx.infra.dataset.plan.mixture import ledgers
from mtx.training.loader import EpochBatches

REPORT_VERSION = 1
MEMORY = Path("/proc/self/smaps_rollup")  # what Linux says of this process
SIDES = ("source", "target", "both")
LABELS = {"not_drawn": "left to other epochs"}
TABLE_WIDTH = 60  # characters, so that titles stay on one line
PACKAGES = ("mtx", "torch", "pytorch-lightning", "tokenizers", "datasets", "pyarrow", "numpy", "hydra-core")


def measure(run: Run, *, epoch: int = 0, world_size: int = 1) -> float:
    """Prepare everything, serve epoch `epoch` once, print a summary, and write `report.json` and `profile.json`.

    Args:
        run: the config and what is made from it.
        epoch: which one, from 0.
        world_size: ranks among which the report deals the epoch out; it is served whole, by this process alone.

    Returns the padding ratio, which a sweep can minimise. Raises ConfigError for numbers that are none.
    """
    check_at_least("task.epoch", epoch, 0)
    check_at_least("task.world_size", world_size, 1)
    run.datamodule.prepare_data()
    run.datamodule.setup("fit")
    report = data_report(run)
    report.update(serve(run, epoch))  # before anything else asks for a plan, so that its time counts
    batches = epoch_batches(run, epoch)
    report.update(plan_report(run, batches, world_size=world_size))
    write_profile(run.output_dir, {**data_profile(run), **profile_of(run, batches)})
    report["real_tokens_per_s"] = report["real_tokens"] / report["epoch_s"]
    run.console.print(funnel(report))
    run.console.print(epoch_table(report))
    run.console.print(f"report: {run.write_report(report)}")
    return float(report["padding_ratio"])


def data_report(run: Run) -> dict[str, Any]:
    """Report the way of the pairs, from the manifests of what was prepared."""
    datamodule = run.datamodule
    repo, ids = datamodule.storage.repo, datamodule.ids
    assert ids is not None
    raw = {split: repo.manifest(name) for split, name in ids.raw.items()}
    filtered = {split: repo.manifest(name) for split, name in ids.filtered.items()}
    encoded = {split: repo.manifest(name) for split, name in ids.encoded.items()}
    dropped = {split: dict(_counts(d.metrics["dropped"])) for split, d in filtered.items()}
    train = filtered["train"]
    pair = datamodule.tokenizers
    train_tokens = encoded["train"].metrics
    return {
        "report_version": REPORT_VERSION,
        "name": train.name,
        "languages": list(train.languages),
        "skipped": _added([_counts(d.metrics["skipped"]) for d in raw.values()]),
        "num_pairs_raw": sum(len(d) for d in raw.values()),
        "num_pairs_kept": sum(len(d) for d in filtered.values()),
        "dropped": _added(list(dropped.values())),
        "dropped_by_split": dropped,
        **({"sources": sources(datamodule.source_names, raw, filtered)} if datamodule.source_names else {}),
        **{f"num_pairs_{split}": len(filtered[split]) if split in filtered else 0 for split in SPLITS},
        "held_out": datamodule.held_out(),
        "source_vocab_size": pair.source.get_vocab_size(),
        "target_vocab_size": pair.target.get_vocab_size(),
        "joint_vocabulary": pair.joint,
        "train_tokens": dict(train_tokens),
        "ids": {
            "raw": ids.raw,
            "filtered": ids.filtered,
            "tokenizer": ids.tokenizer,
            "encoded": ids.encoded,
        },
        "built": ids.built,
        "store": datamodule.storage.location,
        "seed": run.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def of_data(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report and the profile of the data: how it was prepared, and the plan of epoch 0."""
    batches = epoch_batches(run, 0)
    report = {**data_report(run), **plan_report(run, batches)}
    return report, {**data_profile(run), **profile_of(run, batches)}


def epoch_batches(run: Run, epoch: int) -> EpochBatches:
    """Return the training batches of an epoch."""
    batches = run.datamodule.train_dataloader().batch_sampler
    batches.set_epoch(epoch)
    return batches


def profile_of(run: Run, batches: EpochBatches) -> dict[str, Any]:
    """Profile the batches of an epoch: see `plan_profile`."""
    lengths = run.datamodule.lengths("train", epoch=batches.epoch)
    return plan_profile(batches, lengths, length_multiple=run.datamodule.batch_format.length_multiple)


def plan_report(run: Run, batches: EpochBatches, *, world_size: int = 1) -> dict[str, Any]:
    """Report the batches of an epoch from its plan alone: counts, padding, shapes, ledger, balance of ranks."""
    datamodule, epoch = run.datamodule, batches.epoch
    started = time.perf_counter()
    plan = batches.draft.plan(seed=batches.seed, epoch=batches.planned_epoch)  # anew, whatever the batches have kept
    plan_s = time.perf_counter() - started
    batches.plan()  # which all that follows shares
    lengths, multiple = datamodule.lengths("train", epoch=epoch), datamodule.batch_format.length_multiple
    counts = datamodule.split_counts("train", epoch=epoch)
    ledger = {**plan.ledger(), "truncated": counts["truncated"]}
    names = datamodule.source_names
    return {
        "epoch": epoch,
        "plan_s": plan_s,
        "num_batches": len(plan),
        "ledger": ledger,
        **({"ledger_by_source": ledgers(plan, names, datamodule.sources("train"))} if names else {}),
        "too_long": too_long(ledger, counts),
        "ranks": ranks_report(batches, world_size, lengths, multiple),
        **batch_sizes(plan, lengths, multiple),
    }


def sources(
    names: list[str], raw: Mapping[str, TranslationDataset], filtered: Mapping[str, TranslationDataset]
) -> dict[str, dict[str, Any]]:
    """Report the way of the pairs of each source of a mixture, over all splits, from the manifests."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        of_split = {split: _counts(_counts(d.metrics["sources"])[name]) for split, d in filtered.items()}
        own = [d for key, d in raw.items() if key.rpartition(BETWEEN)[0] == name]
        found[name] = {
            "skipped": _added([_counts(d.metrics["skipped"]) for d in own]),
            "num_pairs_raw": sum(len(d) for d in own),
            "dropped": _added([_counts(counts["dropped"]) for counts in of_split.values()]),
            **{f"num_pairs_{split}": of_split[split]["kept"] if split in of_split else 0 for split in SPLITS},
        }
    return found


def too_long(ledger: dict[str, int], counts: dict[str, int]) -> dict[str, dict[str, int]]:
    """Tell apart the pairs that are too long, by side. `source` and `target` overlap: `both` are in either.

    Args:
        ledger: of the plan.
        counts: what the data module says of the split: see `TranslationDataModule.split_counts`.

    Returns:
        `dropped` and `truncated`, each with `source`, `target` and `both`; `dropped` with `sampler` too, the pairs that
        are within the maxima and above the sampler's budget. `ledger["dropped_length"]` is source + target - both +
        sampler.
    """
    dropped, cut = ({side: counts[f"{done}_{side}"] for side in SIDES} for done in ("dropped_length", "truncated"))
    return {
        "dropped": {**dropped, "sampler": ledger["dropped_length"] - counts["dropped_length"]},
        "truncated": cut,
    }


def batch_sizes(plan: Plan, lengths: Lengths, length_multiple: int = 1) -> dict[str, Any]:
    """Return padding ratios, the number of batch shapes, the largest batch, and real tokens a batch."""
    of_batches = shapes(plan, lengths, length_multiple=length_multiple)
    real = np.add.reduceat((lengths.source + lengths.target)[plan.rows].astype(np.int64), plan.offsets[:-1])
    return {
        **padding(plan, lengths, length_multiple=length_multiple),
        "num_shapes": len(np.unique(of_batches, axis=0)),
        "max_padded_tokens": int((of_batches[:, 0] * of_batches[:, 1:].max(axis=1)).max()),
        "neighbour_correlation": neighbour_correlation(plan, lengths),
        "real_tokens": int(real.sum()),
        "real_tokens_per_batch": {
            "mean": float(real.mean()),
            "p5": float(np.percentile(real, 5)),
            "p95": float(np.percentile(real, 95)),
        },
    }


def neighbour_correlation(plan: Plan, lengths: Lengths) -> float:
    """Return the correlation of a batch's mean length with that of the batch served after it.

    Near 0 where batches come in random order, near 1 where they run from short to long; 0 for fewer than three batches
    or lengths that do not vary.
    """
    both = (lengths.source + lengths.target)[plan.rows].astype(np.int64)
    mean = (np.add.reduceat(both, plan.offsets[:-1]) / np.diff(plan.offsets))[plan.order]
    if len(mean) < 3 or not (np.ptp(mean[:-1]) and np.ptp(mean[1:])):
        return 0.0
    return float(np.corrcoef(mean[:-1], mean[1:])[0, 1])


def serve(run: Run, epoch: int) -> dict[str, Any]:
    """Ask for the train loader, go through one epoch, and report its time, its plan included, and its memory."""
    num_pairs, num_batches, first_batch_s = 0, 0, 0.0
    first: dict[str, list[int | str]] = {}
    before, with_first = anonymous_mb(), None
    started = time.perf_counter()
    loader = run.datamodule.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    for batch in loader:
        if not num_batches:
            first_batch_s = time.perf_counter() - started
            first = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in batch.items()}
            with_first = anonymous_mb()
            started = time.perf_counter() - first_batch_s  # looking at the memory takes no time
        num_batches += 1
        num_pairs += len(batch["labels"])
    epoch_s = time.perf_counter() - started
    at_end = anonymous_mb()
    added = None if before is None else max(with_first or 0, at_end or 0) - before
    return {
        "first_batch_s": first_batch_s,
        "first_batch": first,
        "epoch_s": epoch_s,
        "memory_added_mb": added,
        "num_batches_served": num_batches,
        "num_pairs_served": num_pairs,
    }


def anonymous_mb() -> float | None:
    """Return the memory that this process has filled by itself, in MB, without what it maps of files; None: unknown.

    Files that are mapped, as datasets are, take memory that the system takes back when it needs it.
    """
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:  # another system than Linux, or one that does not tell
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Anonymous:")]
    return kilobytes[0] * 1024 / 1e6 if kilobytes else None


def funnel(report: dict[str, Any]) -> Table:
    """Show the way of the pairs: in, dropped by reason, kept, by split."""
    table = _table(f"{report['name']} {'–'.join(report['languages'])}: the way of the pairs")
    for reason, count in report["skipped"].items():
        table.add_row(f"skipped while reading: {reason}", f"{count:,}")
    table.add_row("pairs in", f"{report['num_pairs_raw']:,}")
    for reason, count in sorted(report["dropped"].items(), key=lambda item: -item[1]):
        table.add_row(f"  filtered: {reason}", f"{count:,}")
    table.add_row("pairs kept", f"{report['num_pairs_kept']:,}")
    for split in SPLITS:
        table.add_row(f"  {split}", f"{report[f'num_pairs_{split}']:,}")
    for name, counts in report.get("sources", {}).items():
        kept = ", ".join(f"{counts[f'num_pairs_{split}']:,}" for split in SPLITS)
        table.add_row(f"  of {name}: in; {', '.join(SPLITS)}", f"{counts['num_pairs_raw']:,}; {kept}")
    vocabularies = [report["source_vocab_size"]] + [report["target_vocab_size"]] * (not report["joint_vocabulary"])
    table.add_row("vocabulary", " + ".join(f"{size:,}" for size in vocabularies))
    table.add_row("built now", ", ".join(sorted({name.split("-")[0] for name in report["built"]})) or "nothing")
    return table


def epoch_table(report: dict[str, Any]) -> Table:
    """Show what an epoch of batches costs."""
    ledger = report["ledger"]
    table = _table(f"epoch {report['epoch']} of the training batches")
    table.add_row("batches", f"{report['num_batches']:,}")
    table.add_row("pairs", f"{ledger['num_pairs']:,}")
    for name in ("batched", "dropped_length", "dropped_remainder", "not_drawn", "repeated", "truncated"):
        if name not in ledger:
            continue
        table.add_row(f"  {LABELS.get(name) or name.replace('_', ', ')}", f"{ledger[name]:,}")
        by_side = report["too_long"].get(name.removesuffix("_length"), {})
        if any(by_side.values()):
            table.add_row(f"    {', '.join(by_side)}", ", ".join(f"{count:,}" for count in by_side.values()))
    for name, counts in report.get("ledger_by_source", {}).items():
        table.add_row(
            f"  of {name}: servings; batched, repeated",
            f"{counts['servings']:,}; {counts['batched']:,}, {counts['repeated']:,}",
        )
    table.add_row("padding ratio", f"{report['padding_ratio']:.4f}")
    table.add_row("  source, target", f"{report['source_padding_ratio']:.4f}, {report['target_padding_ratio']:.4f}")
    table.add_row("shapes", f"{report['num_shapes']:,}")
    table.add_row("largest batch, padded tokens a side", f"{report['max_padded_tokens']:,}")
    table.add_row("length correlation of neighbours", f"{report['neighbour_correlation']:+.2f}")
    real = report["real_tokens_per_batch"]
    table.add_row("real tokens a batch", f"{real['mean']:,.0f}")
    table.add_row("  5 % have fewer than, 5 % more than", f"{real['p5']:,.0f}, {real['p95']:,.0f}")
    table.add_row("real tokens/s", f"{report['real_tokens_per_s']:,.0f}")
    table.add_row("planning", f"{report['plan_s'] * 1000:,.1f} ms")
    added = report["memory_added_mb"]
    table.add_row("memory added by serving", "unknown" if added is None else f"{added:,.0f} MB")
    ranks = report["ranks"]
    if ranks["world_size"] > 1:
        table.add_row(
            f"on {ranks['world_size']} ranks: steps, pairs left out", f"{ranks['num_steps']:,}, {ranks['left_out']:,}"
        )
        uneven = "no step" if ranks["imbalance"] is None else f"{ranks['imbalance']:.3f}"
        table.add_row("  largest ÷ mean padded tokens of a step", uneven)
    table.add_row("first batch", f"{report['first_batch_s'] * 1000:,.1f} ms")
    for name, (dtype, *shape) in report["first_batch"].items():
        table.add_row(f"  {name}", f"{dtype} {shape}")
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, min_width=TABLE_WIDTH)
    table.add_column("what")
    table.add_column("value", justify="right")
    return table


def _counts(value: Any) -> dict[str, int]:
    assert isinstance(value, dict)
    return value


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    """Add counts up by reason, those that are 0 left out."""
    total: dict[str, int] = {}
    for counted in counts:
        for reason, count in counted.items():
            total[reason] = total.get(reason, 0) + count
    return {reason: count for reason, count in total.items() if count}
