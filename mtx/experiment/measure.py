"""`task=measure`: one epoch of batches, and what the data costs.

`report.json` is this module's contract; docs/report.md explains each field.
"""

import platform
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.table import Table

from mtx.data.dataset import SPLITS
from mtx.experiment.run import Run
from mtx.infra.dataset.plan.base import Lengths, Plan, padding, shapes

REPORT_VERSION = 1
TABLE_WIDTH = 60  # characters, so that titles stay on one line
PACKAGES = ("mtx", "torch", "pytorch-lightning", "tokenizers", "datasets", "pyarrow", "numpy", "hydra-core")


def measure(run: Run, *, epoch: int = 0) -> float:
    """Prepare everything, serve epoch `epoch` once, print a summary, and write `report.json`.

    Returns the padding ratio, which a sweep can minimise.
    """
    run.datamodule.prepare_data()
    run.datamodule.setup("fit")
    report = data_report(run)
    report.update(serve(run, epoch))  # before anything else asks for a plan, so that its time counts
    report.update(plan_report(run, epoch))
    report["real_tokens_per_s"] = report["real_tokens"] / report["epoch_s"]
    run.console.print(funnel(report))
    run.console.print(batches(report))
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
    first = raw["train"]
    pair = datamodule.tokenizers
    train_tokens = encoded["train"].metrics
    return {
        "report_version": REPORT_VERSION,
        "name": first.name,
        "languages": list(first.languages),
        "skipped": _added([_counts(d.metrics["skipped"]) for d in raw.values()]),
        "num_pairs_raw": sum(len(d) for d in raw.values()),
        "num_pairs_kept": sum(len(d) for d in filtered.values()),
        "dropped": _added(list(dropped.values())),
        "dropped_by_split": dropped,
        **{f"num_pairs_{split}": len(filtered[split]) if split in filtered else 0 for split in SPLITS},
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
        "store": str(datamodule.storage.root),
        "seed": run.seed,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def plan_report(run: Run, epoch: int) -> dict[str, Any]:
    """Report the batches of an epoch from its plan alone: counts, padding, shapes, ledger."""
    loader = run.datamodule.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    started = time.perf_counter()
    plan = loader.batch_sampler.plan()
    plan_s = time.perf_counter() - started
    ledger = {**plan.ledger(), "truncated": run.datamodule.split_counts("train")["truncated"]}
    return {
        "epoch": epoch,
        "plan_s": plan_s,
        "num_batches": len(plan),
        "ledger": ledger,
        **batch_sizes(plan, run.datamodule.lengths("train"), run.datamodule.batch_format.length_multiple),
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
    """Ask for the train loader, go through one epoch, and report how long it takes, its plan included."""
    num_pairs, num_batches, first_batch_s = 0, 0, 0.0
    first: dict[str, list[int | str]] = {}
    started = time.perf_counter()
    loader = run.datamodule.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    for batch in loader:
        if not num_batches:
            first_batch_s = time.perf_counter() - started
            first = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in batch.items()}
        num_batches += 1
        num_pairs += len(batch["labels"])
    epoch_s = time.perf_counter() - started
    return {
        "first_batch_s": first_batch_s,
        "first_batch": first,
        "epoch_s": epoch_s,
        "num_batches_served": num_batches,
        "num_pairs_served": num_pairs,
    }


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
    vocabularies = [report["source_vocab_size"]] + [report["target_vocab_size"]] * (not report["joint_vocabulary"])
    table.add_row("vocabulary", " + ".join(f"{size:,}" for size in vocabularies))
    table.add_row("built now", ", ".join(sorted({name.split("-")[0] for name in report["built"]})) or "nothing")
    return table


def batches(report: dict[str, Any]) -> Table:
    """Show what an epoch of batches costs."""
    ledger = report["ledger"]
    table = _table(f"epoch {report['epoch']} of the training batches")
    table.add_row("batches", f"{report['num_batches']:,}")
    table.add_row("pairs", f"{ledger['num_pairs']:,}")
    for name in ("batched", "dropped_length", "dropped_remainder", "repeated", "truncated"):
        table.add_row(f"  {name.replace('_', ', ')}", f"{ledger[name]:,}")
    table.add_row("padding ratio", f"{report['padding_ratio']:.4f}")
    table.add_row("  source, target", f"{report['source_padding_ratio']:.4f}, {report['target_padding_ratio']:.4f}")
    table.add_row("shapes", f"{report['num_shapes']:,}")
    table.add_row("largest batch, padded tokens a side", f"{report['max_padded_tokens']:,}")
    table.add_row("length correlation of neighbours", f"{report['neighbour_correlation']:+.2f}")
    table.add_row("real tokens a batch, mean", f"{report['real_tokens_per_batch']['mean']:,.0f}")
    table.add_row("real tokens/s", f"{report['real_tokens_per_s']:,.0f}")
    table.add_row("planning", f"{report['plan_s'] * 1000:,.1f} ms")
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
