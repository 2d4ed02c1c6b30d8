"""`task=measure`: go through one epoch of batches, and report its padding, speed and memory.

docs/report.md explains each field of the `report.json` that this task writes.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from rich.table import Table

from mtx.batches.plan.mixture_epochs import source_ledgers
from mtx.batches.plan.planner import Lengths, Plan, batch_shapes, padding_ratios
from mtx.batches.schema import num_pairs as pairs_in_batch
from mtx.components.checked_options import Natural, checked
from mtx.experiment.run_context import DATA_GROUPS, Run, needs
from mtx.progress.tracking import CountedWork
from mtx.records.data_report import data_report, data_tables, plain_table
from mtx.records.plot_data_computation import data_profile, plan_profile
from mtx.records.plot_data_record import PlanProfile, RunProfile
from mtx.records.report_record import (
    Distribution,
    DrawReport,
    Ledger,
    PlanReport,
    Ranks,
    Report,
    SourceLedger,
    TooLong,
    TooLongBySide,
)
from mtx.records.setting_notation import metric_text
from mtx.training.loader import EpochBatches
from mtx.training.rank_balance import rank_report
from mtx.training.shard_stream_loader import ShardStreamLoader

MEMORY_FILE = Path("/proc/self/smaps_rollup")  # Linux reports the memory of this process in this file
MIN_PASSES_S = 1.0  # seconds that the passes over a short epoch take together
MAX_PASSES = 5
MAX_WORLD_SIZE = 1 << 20  # the report has a number for each rank
SIDES = ("source", "target", "both")
LEDGER = ("batched", "dropped_length", "dropped_remainder", "not_drawn", "repeated", "truncated")
LABELS = {"not_drawn": "not drawn in this epoch"}


@needs(*DATA_GROUPS)
@checked("task")
def measure(run: Run, *, epoch: Natural = 0, world_size: Annotated[int, Field(ge=1, le=MAX_WORLD_SIZE)] = 1) -> float:
    """Prepare the data, draw all batches of one epoch, print a summary, and write `report.json` and `profile.json`.

    Args:
        run: The config, and the components that are built from it.
        epoch: The number of the epoch, from 0.
        world_size: The number of ranks for which the report computes the balance. This process alone draws the epoch.

    Returns:
        The padding ratio, which a sweep can minimise.

    Raises:
        ConfigError: `epoch` or `world_size` is no whole number in its range.
    """
    run.datamodule.prepare_data()
    run.datamodule.setup("fit")
    data = data_report(run.datamodule, seed=run.seed)
    drawn = draw(run, epoch)  # first, so that its time includes the planning of the epoch
    batches = epoch_batches(run, epoch)
    plan = plan_report(run, batches, world_size=world_size)
    RunProfile.of(data_profile(run.datamodule), epoch_profile(run, batches)).write(run.output_dir)
    assert plan.real_tokens is not None
    assert drawn.epoch_s is not None
    pass_s = (drawn.epoch_s, *further_passes(run, epoch, drawn.epoch_s))
    speed = {"pass_s": pass_s, "real_tokens_per_s": plan.real_tokens / statistics.median(pass_s)}
    report = Report.of(data, drawn, plan, speed)
    for table in data_tables(report):
        run.console.print(table)
    run.console.print(epoch_table(report))
    run.console.print(f"report: {run.write_report(report)}")
    assert report.padding_ratio is not None
    return report.padding_ratio


def data_report_and_profile(run: Run) -> tuple[Report, RunProfile]:
    """Return the report and the profile of the data: pairs, stages, tokenizer, and the plan of epoch 0."""
    batches = epoch_batches(run, 0)
    report = Report.of(data_report(run.datamodule, seed=run.seed), plan_report(run, batches))
    return report, RunProfile.of(data_profile(run.datamodule), epoch_profile(run, batches))


def epoch_batches(run: Run, epoch: int) -> EpochBatches:
    """Return the training batches of one epoch, as planned by the sampler; of a stream, those of its first shard."""
    loader = run.datamodule.train_dataloader()
    batches = (loader.first_shard() if isinstance(loader, ShardStreamLoader) else loader).batch_sampler
    batches.set_epoch(epoch)
    return batches


def epoch_profile(run: Run, batches: EpochBatches) -> PlanProfile:
    """Return the profile of the batches of one epoch; `plan_profile` lists the contents."""
    lengths = run.datamodule.lengths("train", epoch=batches.epoch)
    return plan_profile(batches, lengths, length_multiple=run.datamodule.batch_format.length_multiple)


def plan_report(run: Run, batches: EpochBatches, *, world_size: int = 1) -> PlanReport:
    """Return the report of an epoch's plan: counts, padding, shapes, ledger and balance of ranks; draws no batch."""
    datamodule, epoch = run.datamodule, batches.epoch
    started = time.perf_counter()
    plan = batches.draft.plan(seed=batches.seed, epoch=batches.planned_epoch)  # always plans again, to measure the time
    plan_s = time.perf_counter() - started
    batches.plan()  # caches the plan for the calls below
    lengths, multiple = datamodule.lengths("train", epoch=epoch), datamodule.batch_format.length_multiple
    counts = datamodule.split_counts("train", epoch=epoch)
    ledger = Ledger(**plan.ledger(), truncated=counts["truncated"])
    names, groups = datamodule.source_names, datamodule.groups
    by_source = source_ledgers(plan, names, datamodule.sources("train")) if names else {}
    by_group = source_ledgers(plan, groups.names, groups.of_row) if groups is not None else {}
    sizes = batch_sizes(plan, lengths, multiple)
    return sizes.model_copy(
        update={
            "epoch": epoch,
            "plan_s": plan_s,
            "num_batches": len(plan),
            "ledger": ledger,
            **({"ledger_by_source": {name: SourceLedger(**of) for name, of in by_source.items()}} if names else {}),
            **({"ledger_by_group": {name: SourceLedger(**of) for name, of in by_group.items()}} if groups else {}),
            "too_long": long_pair_counts(ledger, counts),
            "ranks": Ranks.model_validate(rank_report(batches, world_size, lengths, multiple)),
        }
    )


def long_pair_counts(ledger: Ledger, counts: dict[str, int]) -> TooLong:
    """Count the pairs that are too long by side, dropped and truncated ones separately.

    A pair with both sides too long counts in `source`, in `target` and in `both`.

    Args:
        ledger: The ledger of the plan.
        counts: The counts of the split from `TranslationDataModule.split_counts`.

    Returns:
        Counts by side. `dropped.sampler` counts the pairs within the length limits but above the sampler's budget.
        `ledger.dropped_length` equals source + target - both + sampler.
    """
    dropped, cut = ({side: counts[f"{done}_{side}"] for side in SIDES} for done in ("dropped_length", "truncated"))
    return TooLong(
        dropped=TooLongBySide(**dropped, sampler=ledger.dropped_length - counts["dropped_length"]),
        truncated=TooLongBySide(**cut),
    )


def batch_sizes(plan: Plan, lengths: Lengths, length_multiple: int = 1) -> PlanReport:
    """Return padding ratios, the number of batch shapes, the size of the largest batch, and real tokens per batch."""
    of_batches = batch_shapes(plan, lengths, length_multiple=length_multiple)
    real = np.add.reduceat((lengths.source + lengths.target)[plan.rows].astype(np.int64), plan.offsets[:-1])
    ratios = padding_ratios(plan, lengths, length_multiple=length_multiple)
    return PlanReport(
        padding_ratio=ratios["padding_ratio"],
        source_padding_ratio=ratios["source_padding_ratio"],
        target_padding_ratio=ratios["target_padding_ratio"],
        num_shapes=len(np.unique(of_batches, axis=0)),
        max_padded_tokens=int((of_batches[:, 0] * of_batches[:, 1:].max(axis=1)).max()),
        neighbour_correlation=neighbour_correlation(plan, lengths),
        real_tokens=int(real.sum()),
        real_tokens_per_batch=Distribution(
            mean=float(real.mean()), p5=float(np.percentile(real, 5)), p95=float(np.percentile(real, 95))
        ),
    )


def neighbour_correlation(plan: Plan, lengths: Lengths) -> float:
    """Return the correlation between the mean length of a batch and the mean length of the next batch.

    The value is near 0 if batches come in random order, and near 1 if they come sorted by length. The value is 0 for
    fewer than three batches, or if all lengths are equal.
    """
    both = (lengths.source + lengths.target)[plan.rows].astype(np.int64)
    mean = (np.add.reduceat(both, plan.offsets[:-1]) / np.diff(plan.offsets))[plan.order]
    if len(mean) < 3 or not (np.ptp(mean[:-1]) and np.ptp(mean[1:])):
        return 0.0
    return float(np.corrcoef(mean[:-1], mean[1:])[0, 1])


def draw(run: Run, epoch: int) -> DrawReport:
    """Draw all batches of one epoch from the train loader, and report time (planning included) and memory."""
    num_pairs, num_batches, first_batch_s = 0, 0, 0.0
    first: dict[str, tuple[str | int, ...]] = {}
    before, with_first = anonymous_memory_mb(), None
    started = time.perf_counter()
    loader = run.datamodule.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    # No progress thread: the loader may fork workers, and the memory of this process is measured.
    with CountedWork(f"epoch {epoch}", phase="serve", unit="batches", is_threaded=False) as progress:
        for batch in loader:
            if not num_batches:
                first_batch_s = time.perf_counter() - started
                first = {name: (str(t.dtype).removeprefix("torch."), *t.shape) for name, t in batch.items()}
                with_first = anonymous_memory_mb()
                progress.expect(len(loader))
                started = time.perf_counter() - first_batch_s  # excludes the time of reading the memory
            num_batches += 1
            num_pairs += pairs_in_batch(batch)
            progress.reach(num_batches)
        epoch_s = time.perf_counter() - started
    at_end = anonymous_memory_mb()
    added = None if before is None else max(with_first or 0, at_end or 0) - before
    return DrawReport(
        first_batch_s=first_batch_s,
        first_batch=first,
        epoch_s=epoch_s,
        memory_added_mb=added,
        num_batches_drawn=num_batches,
        num_pairs_drawn=num_pairs,
    )


def further_passes(run: Run, epoch: int, spent_s: float) -> list[float]:
    """Draw an epoch again until all passes took `MIN_PASSES_S`, at most `MAX_PASSES` times; return the seconds of each.

    One pass of some milliseconds says little about the speed of a loader, and the first one compiles kernels.
    """
    found: list[float] = []
    while spent_s < MIN_PASSES_S and len(found) < MAX_PASSES - 1:
        started = time.perf_counter()
        loader = run.datamodule.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        for _ in loader:
            pass
        found.append(time.perf_counter() - started)
        spent_s += found[-1]
    return found


def speed_text(report: Report) -> str:
    """Return the real tokens per second with the slowest and the fastest pass, if there are several."""
    shown = metric_text("real_tokens_per_s", report.real_tokens_per_s or 0.0)
    if len(report.pass_s) < 2 or report.real_tokens is None:
        return shown
    ends_s = (max(report.pass_s), min(report.pass_s))
    ends = " to ".join(metric_text("real_tokens_per_s", report.real_tokens / seconds) for seconds in ends_s)
    return f"{shown} ({len(report.pass_s)} passes: {ends})"


def anonymous_memory_mb() -> float | None:
    """Return the anonymous memory of this process in MB; None if the system does not report it.

    Memory-mapped files, such as datasets, do not count, because the system can take their memory back at any time.
    """
    try:
        lines = MEMORY_FILE.read_text().splitlines()
    except OSError:  # not Linux, or a Linux without this file
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Anonymous:")]
    return kilobytes[0] * 1024 / 1e6 if kilobytes else None


def epoch_table(report: Report) -> Table:
    """Return the table of an epoch's batches: counts, ledger, padding, speed, memory and the first batch's tensors."""
    ledger, real, ranks = report.ledger, report.real_tokens_per_batch, report.ranks
    assert ledger is not None
    assert real is not None
    assert ranks is not None
    table = plain_table(f"epoch {report.epoch} of the training batches")
    table.add_row("batches", f"{report.num_batches:,}")
    add_ledger(table, report, ledger)
    for name, of in (*report.ledger_by_source.items(), *report.ledger_by_group.items()):
        table.add_row(f"  of {name}: drawn; batched, repeated", f"{of.drawn:,}; {of.batched:,}, {of.repeated:,}")
    table.add_row("padding ratio (%)", f"{100 * (report.padding_ratio or 0.0):.1f}")
    by_side = (report.source_padding_ratio, report.target_padding_ratio)
    table.add_row("  source, target", ", ".join(f"{100 * (share or 0.0):.1f}" for share in by_side))
    table.add_row("batch shapes", f"{report.num_shapes:,}")
    table.add_row("largest batch, padded tokens of one side", f"{report.max_padded_tokens:,}")
    table.add_row("length correlation of consecutive batches", f"{report.neighbour_correlation:+.2f}")
    table.add_row("real tokens per batch, mean", f"{real.mean:,.0f}")
    table.add_row("  5th and 95th percentile", f"{real.p5:,.0f}, {real.p95:,.0f}")
    table.add_row("real tokens/s", speed_text(report))
    table.add_row("planning time", f"{(report.plan_s or 0) * 1000:,.1f} ms")
    added = report.memory_added_mb
    table.add_row("memory added by loading", "unknown" if added is None else f"{added:,.0f} MB")
    if ranks.world_size > 1:
        table.add_row(f"on {ranks.world_size} ranks: steps, pairs left out", f"{ranks.num_steps:,}, {ranks.left_out:,}")
        uneven = "no step" if ranks.imbalance is None else f"{ranks.imbalance:.3f}"
        table.add_row("  largest ÷ mean padded tokens per step", uneven)
        varied = "no step" if ranks.length_variation is None else f"{ranks.length_variation:.3f}"
        table.add_row("  variation of the mean length over steps", varied)
    table.add_row("time to first batch", f"{(report.first_batch_s or 0) * 1000:,.1f} ms")
    for name, (dtype, *shape) in report.first_batch.items():
        table.add_row(f"  {name}", f"{dtype} {shape}")
    return table


def add_ledger(table: Table, report: PlanReport, ledger: Ledger) -> None:
    """Add the ledger to a table: the number of pairs by outcome, and the sides of the pairs that are too long."""
    table.add_row("pairs", f"{ledger.num_pairs:,}")
    by_side = report.too_long and {
        "dropped_length": report.too_long.dropped,
        "truncated": report.too_long.truncated,
    }
    for name in LEDGER:
        count = getattr(ledger, name)
        if count is None:
            continue
        table.add_row(f"  {LABELS.get(name) or name.replace('_', ', ')}", f"{count:,}")
        sides = by_side[name].model_dump(exclude_none=True) if by_side and name in by_side else {}
        if any(sides.values()):
            table.add_row(f"    {', '.join(sides)}", ", ".join(f"{number:,}" for number in sides.values()))
