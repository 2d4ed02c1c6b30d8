"""Write the folders of jobs as runs write them, without running a job; for tests of code that reads the folders."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtx.records.held_out_sentences import complete_held_out, write_likelihoods
from mtx.records.job_status import JobStatus, write_status


def write_job(
    folder: Path,
    config: Mapping[str, Any],
    report: Mapping[str, Any] | None = None,
    *,
    choices: Mapping[str, str] | None = None,
    objective: str | Sequence[str] = "padding_ratio",
    profile: Any = None,
    **ended: Any,
) -> None:
    """Write the folder of a job: completed if `report` is given, else failed."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if report is not None:
        (folder / "report.json").write_text(json.dumps(report))
    if profile is not None:
        (folder / "profile.json").write_text(json.dumps(profile))
    begun = JobStatus.begin(f"hash-{folder.name}", overrides=[f"job={folder.name}"], choices=choices or {})
    names = [objective] if isinstance(objective, str) else objective
    objectives = {name: report[name] for name in names if report and type(report.get(name)) in (int, float)}
    state = "completed" if report is not None else "failed"
    write_status(folder, begun.end(state, seconds=2.0, objectives=objectives, **ended))


def write_sentences(
    folder: Path, bits: Sequence[float], *, digest: str | None = "one", documents: Sequence[int] | None = None
) -> None:
    """Write the statistics of held-out pairs with targets of one byte; their mean is the job's bits per byte."""
    nats = np.array(bits) * np.log(2)
    write_likelihoods(folder, np.stack([np.arange(len(nats)), nats, np.ones(len(nats))]))
    of_rows = None if documents is None else np.array(documents, dtype=np.int64)
    complete_held_out(folder, digest=digest, documents=of_rows, scores=None)


def measured(padding: float = 0.25, **more: Any) -> dict[str, Any]:
    """Return a report as `task=measure` writes it, with the fields that pages use."""
    return {
        "report_version": 2,
        "name": "corpus",
        "languages": ["en", "ja"],
        "skipped": {},
        "dropped": {"length_ratio": 30, "duplicate": 10},
        "num_pairs_raw": 1000,
        "num_pairs_kept": 960,
        "num_pairs_train": 940,
        "num_pairs_validation": 10,
        "num_pairs_test": 10,
        "source_vocab_size": 500,
        "target_vocab_size": 500,
        "joint_vocabulary": True,
        "padding_ratio": padding,
        "num_batches": 20,
        "real_tokens_per_s": 1e6,
        "ids": {"raw": {"train": "raw-1"}, "filtered": {"train": "filtered-1"}, "tokenizer": "tokenizer-1"},
        "built": [],
        "held_out": {"digest": "one"},
        "versions": {"python": "3.11"},
        **more,
    }


def trained(bits: float, **more: Any) -> dict[str, Any]:
    """Return a report as `task=fit` writes it, with the fields that pages use."""
    return measured(**{"bits_per_byte": bits, "fit_s": 10.0, **more})


def profile(*, rejected: tuple[str, str] = ("a", "b"), buckets: list[int] | None = None) -> dict[str, Any]:
    """Return the profile of a run as `profile.json` contains it."""
    histogram = {"edges": [0, 10, 20, 30], "counts": [5, 80, 15]}
    return {
        "profile_version": 2,
        "lengths": {"source": histogram, "target": histogram},
        "bucket_edges": {"source": buckets, "target": None},
        "shapes": [[64, 20, 18, 12], [32, 30, 28, 8]],
        "num_shapes": 2,
        "other_batches": 0,
        "tokens_per_step": {"positions": [0, 1, 2], "real": [900, 1000, 950], "padded": [1000, 1100, 1200]},
        "rejects": {
            "train": {"length_ratio": {"count": 30, "samples": [{"source": rejected[0], "target": rejected[1]}]}}
        },
        "fertility": {
            "source": {"tokens_per_word": 1.5, "tokens_per_char": 0.25, "bytes_per_token": 4.0, "unknown_share": 0.0},
            "target": {"tokens_per_word": None, "tokens_per_char": 0.5, "bytes_per_token": 6.0, "unknown_share": 0.01},
        },
        "validations": [
            {"step": 0, "seconds": 0.0, "real_tokens": 0, "epoch": 0, "bits_per_byte": 4.0, "loss": 8.0},
            {"step": 10, "seconds": 5.0, "real_tokens": 10000, "epoch": 0, "bits_per_byte": 3.0, "loss": 6.0},
        ],
        "train_loss": [[1, 8.0], [2, 7.5]],
    }
