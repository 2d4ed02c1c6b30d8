"""The texts that `task=fit` prints about its data, its validations and its result.

Each text has a label in the left column. Long texts are wrapped, so that the left column has only labels.
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from mtx.data.dataset import SPLITS
from mtx.experiment.run_context import Run
from mtx.progress.formatting import duration, rounded
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_record import Report, Spent
from mtx.records.trained_model_report import TrainedModelReport
from mtx.sweep.run_start_end_log import near
from mtx.training.callbacks.training_budget import UNITS
from mtx.training.checkpoint_callback import held_out_metric
from mtx.training.checkpoint_selection import missing_state

METRIC = "val/bits_per_byte"
LABEL_WIDTH = 10
UNBROKEN = frozenset({"", "model", "kept", "continue", "report"})  # labels whose tables, paths and commands don't wrap
MAX_ROWS = 20  # rows of the table of validations
SIDES = ("source", "target")
READABLE = 0.5  # lower end of the contrastive accuracy's interval above which translations are shown
SIZES = ("max_tokens", "batch_size")  # sampler options that give the size of a batch


def begin_values(run: Run, trainer: pl.Trainer, model: pl.LightningModule) -> dict[str, object]:
    """Return the key=value fields of the log line that `task=fit` writes when training begins."""
    limits = {f"budget.{unit}": limit for unit, limit in (run.config.get("budget") or {}).items() if unit in UNITS}
    return {
        "model": type(model).__name__,
        "parameters": num_parameters(model),
        "device": devices(trainer).replace(" ", ""),
        "threads": torch.get_num_threads(),
        "pairs": run.datamodule.split_counts("train")["num_pairs"],
        **limits,
        "max_steps": trainer.max_steps if trainer.max_steps >= 0 else None,
        "max_epochs": trainer.max_epochs if (trainer.max_epochs or -1) >= 0 else None,
    }


def model_report(trainer: pl.Trainer, model: pl.LightningModule) -> TrainedModelReport:
    """Return the size of the model, and the device and the threads of its training, for `report.json`."""
    return TrainedModelReport(
        num_parameters=num_parameters(model), device=devices(trainer), num_threads=torch.get_num_threads()
    )


def num_parameters(model: pl.LightningModule) -> int:
    """Return the number of parameters of a model, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def devices(trainer: pl.Trainer) -> str:
    """Return the device and the number of ranks of a Trainer: `cpu`, or `cuda x 2`."""
    return trainer.strategy.root_device.type + (f" x {trainer.world_size}" if trainer.world_size > 1 else "")


def opening(run: Run, data: Report, profile: RunProfile, prepare_s: float) -> Iterator[tuple[str, list[str]]]:
    """Yield the labelled texts that `task=fit` prints before training: data, tokenizer and batches."""
    tokenizer, sampler = (run.config.get(group) or {} for group in ("tokenizer", "sampler"))
    yield "data", data_text(data)
    yield "tokenizer", tokenizer_text(data, profile, option_name(tokenizer), prepare_s)
    yield "batches", batches_text(data, option_name(sampler), sampler)
    if (options := run.config.get("datamodule", {})).get("stream"):
        yield (
            "stream",
            [f"the above is of the first {options['stream_shard_rows']:,} rows; training reads more of them"],
        )


def model_text(run: Run, trainer: pl.Trainer, model: pl.LightningModule, ckpt: Path | None) -> list[str]:
    """Return the model's class, its number of parameters, the device, the seed, and the checkpoint to resume from."""
    threads = f", {torch.get_num_threads()} threads" if trainer.strategy.root_device.type == "cpu" else ""
    told = f"{type(model).__name__}, {rounded(num_parameters(model))} parameters, {devices(trainer)}{threads}"
    return [f"{told}, seed {run.seed}", *([f"resuming from {ckpt}"] if ckpt else [])]


def option_name(options: Mapping[str, Any]) -> str:
    """Return the name of a config option, such as `token_budget`: the last module in the path of its `_target_`."""
    return str(options.get("_target_", "")).rpartition(".")[0].rpartition(".")[2]


def closing(
    run: Run,
    report: Report,
    losses: Sequence[Sequence[float]],
    path: Path,
    translate_s: float,
    missing: Sequence[str] = (),
) -> Iterator[tuple[str, list[str]]]:
    """Yield the labelled texts that `task=fit` prints after training: validations, result, end, checkpoints, report.

    `missing` says which figures the model does not give, and how to get them.
    """
    validations = [each.model_dump() for each in report.validations]
    metric = held_out_metric({name for each in validations for name, value in each.items() if value is not None})
    if rows := validation_rows(validations, losses, metric or METRIC):
        yield "", aligned(rows)
    yield "training", training_text(report)
    if result := result_text(report, translate_s):
        yield "result", result
    if missing:
        yield "missing", list(missing)
    yield "ended by", [report.ended_by or "no step was trained"]
    by = "" if metric in (None, METRIC) else f" (lowest {metric})"
    best = [f"best: {near(report.best_checkpoint)}{by}"] if report.best_checkpoint else []
    last = [f"last: {near(report.checkpoint)}"] if report.checkpoint else []
    yield "kept", [*best, *last] or ["no checkpoint was saved"]
    if command := resume_command(run, [report.checkpoint, report.best_checkpoint], **more_of(report)):
        yield "continue", [command]
    yield "report", [near(path)]


def show(run: Run, *parts: tuple[str, list[str]]) -> None:
    """Print texts with their labels. Paths and commands are not wrapped, so that they can be copied."""
    for label, texts in parts:
        width = sys.maxsize if label in UNBROKEN else run.console.width
        run.console.print(wrapped(label, texts, width), highlight=False, soft_wrap=True)


def data_text(report: Report) -> list[str]:
    """Return the number of pairs by split, and the number of skipped and dropped pairs by reason."""
    kept = ", ".join(f"{report.num_pairs_of(split):,} {split}" for split in SPLITS)
    found = [f"{report.name} {'→'.join(report.languages or ())}  {report.num_pairs_raw:,} pairs: {kept}"]
    for name, of in (("skipped", "while reading"), ("dropped", "")):
        if counts := getattr(report, name):
            total = sum(counts.values())
            all_pairs = (report.num_pairs_raw or 0) + (total if name == "skipped" else 0)
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(counts.items(), key=lambda item: -item[1]))
            found.append(f"{total:,} {f'{name} {of}'.strip()} ({total / all_pairs:.1%}): {reasons}")
    return found


def tokenizer_text(report: Report, profile: RunProfile, name: str, prepare_s: float) -> list[str]:
    """Return the vocabulary size, the tokens per word or character, and the numbers of reused and built stages."""
    sizes = [report.source_vocab_size] + [report.target_vocab_size] * (not report.joint_vocabulary)
    vocabulary = " + ".join(f"{size:,}" for size in sizes) + (" joint" if report.joint_vocabulary else "")
    cut = []
    for side in SIDES:
        fertility = profile.fertility[side]
        per = "word" if fertility.tokens_per_word is not None else "char"
        if (value := getattr(fertility, f"tokens_per_{per}")) is not None:
            cut.append(f"{value:.2f} tokens/{per.replace('char', 'character')} {side}")
    ids = {name for names in report.ids.by_stage().values() for name in names}
    built = len(ids & set(report.built))
    stages = f"{len(ids) - built} stages reused" + (f", {built} built in {prepare_s:.0f} s" if built else "")
    return [", ".join([f"{name} {vocabulary}", *cut]), stages]


def batches_text(report: Report, name: str, options: Mapping[str, Any]) -> list[str]:
    """Return the sampler's name and size, its batches per epoch, the padding ratio, and the pairs that are too long."""
    size = next((f" {options[key]:,}" for key in SIZES if isinstance(options.get(key), int)), "")
    told = [f"{report.num_batches:,} per epoch", f"padding {report.padding_ratio:.1%}"]
    too_long = report.ledger.dropped_length if report.ledger else 0
    return [f"{name}{size}: {', '.join([*told, *([f'{too_long:,} pairs too long'] if too_long else [])])}"]


def validation_rows(
    validations: Sequence[Mapping[str, Any]], losses: Sequence[Sequence[float]], metric: str = METRIC
) -> list[tuple[str, ...]]:
    """Return the rows of the table of validations: a heading and at most `MAX_ROWS` rows.

    The first, the last and the best validation are always included. The others are evenly spaced.

    Args:
        validations: One mapping for each validation: `step`, and if known `real_tokens`, `seconds` and `metric`.
        losses: Pairs [step, mean training loss since the pair before], in order of steps.
        metric: The name of the held-out metric; smaller values are better.
    """
    looked = [found for found in validations if found.get(metric) is not None]
    if not looked:
        return []
    best = min(range(len(looked)), key=lambda i: looked[i][metric])
    room = min(len(looked), MAX_ROWS - 1)
    chosen = {round(i * (len(looked) - 1) / max(room - 1, 1)) for i in range(room)} | {best}
    heading = "held-out" if metric == METRIC else metric
    rows: list[tuple[str, ...]] = [("update", "tokens", "time", "train loss", heading, "")]
    for i in sorted(chosen):
        found = looked[i]
        until = [loss for step, loss in losses if step <= found["step"]]
        tokens, seconds = found.get("real_tokens"), found.get("seconds")
        rows.append(
            (
                f"{found['step']:,}",
                "-" if tokens is None else rounded(tokens),
                "-" if seconds is None else duration(seconds),
                f"{until[-1]:.3f}" if until else "-",
                f"{found[metric]:.3f}",
                "best" if i == best and len(looked) > 1 else "",
            )
        )
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns: right-aligned, and left-aligned for the last column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def training_text(report: Report) -> list[str]:
    """Return the amount of training and its speed: updates, epochs, tokens, seconds, tokens per second and loss."""
    spent = report.spent or Spent()
    told = [f"{report.num_steps:,} updates in {report.num_epochs:,} epoch{'s' * (report.num_epochs != 1)}"]
    if (tokens := spent.real_tokens) is not None:
        told.append(f"{tokens:,} real tokens")
    if (source_bytes := spent.source_bytes) is not None:
        told.append(f"{source_bytes:,} bytes of source text")
    told.append(f"{report.fit_s:,.1f} s")
    if (speed := report.target_tokens_per_s) is not None:
        told.append(f"{rounded(speed)} target tokens/s")
    if report.train_loss is not None:
        told.append(f"loss {report.train_loss_first:.3f} → {report.train_loss:.3f}")
    return [", ".join(told)]


def result_text(report: Report, translate_s: float) -> list[str]:
    """Return the quality of the trained model: held-out bits per byte, BLEU and chrF; no line if nothing is known."""
    first, last = report.bits_per_byte_first, report.bits_per_byte
    told = [] if last is None else [f"{last:.3f} bits/byte ({first:.3f} at start)"]
    if scores := report.scores:
        told.append(f"BLEU {scores.bleu:.1f}")
        told.append(f"chrF {scores.chrf:.1f} on {scores.num_sentences} sentences ({translate_s:.0f} s)")
    lines = [", ".join(told)] if told else []
    if (contrastive := report.contrastive) is not None:
        lines.append(f"right target likeliest of {contrastive.num_candidates}: {contrastive.text}")
        if report.translations and contrastive.low <= READABLE:
            lines.append("translations are in report.json; they are shown when this share is surely above 50 %")
    return lines


def more_of(report: Report) -> dict[str, str]:
    """Return the overrides for `Run.command` that resume a run with twice of each limit that ended it."""
    limits = [text.partition("=") for text in (report.ended_by or "").split(", ") if "=" in text]
    return {key.replace(".", "__"): f"{2 * float(limit) or 2:.12g}" for key, _, limit in limits}


def resume_command(run: Run, checkpoints: Iterable[str | None], **changes: str) -> str | None:
    """Return the command that resumes a run from the first of its checkpoints that has the state of the training.

    The command names the file, because `ckpt=last` finds only checkpoints in the default folders.

    Args:
        run: the run.
        checkpoints: paths, the preferred one first; None and empty paths are passed over.
        changes: further overrides for `Run.command`.

    Returns:
        The command; None if no checkpoint is a file with the state of the training.
    """
    for path in checkpoints:
        if path and Path(path).is_file() and missing_state(Path(path)) is None:
            return run.command(ckpt=near(path), **changes)
    return None


def wrapped(label: str, texts: Iterable[str], width: int) -> str:
    """Return texts with a label before the first one, wrapped to `width` characters; each text starts a new line."""
    room = max(width - LABEL_WIDTH, 20)
    lines = [
        line
        for text in texts
        for line in ([text] if len(text) <= room else textwrap.wrap(text, room, break_on_hyphens=False))
    ]
    return "\n".join(f"{label if not i else '':<{LABEL_WIDTH}}{line}".rstrip() for i, line in enumerate(lines))
