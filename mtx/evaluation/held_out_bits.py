"""Held-out bits per byte of a user's own model, from its logits.

`bits_per_byte_of` computes the figure of a batch, and `log_held_out` logs it, so that Lightning computes that of all
batches and ranks.

Shapes: B pairs, T target positions, N real labels, V target vocabulary. A flat batch has [N] in place of [B, T], and a
packed batch [1, N].
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtx.batches.schema import batch_tensor, is_causal
from mtx.errors import DataError
from mtx.evaluation.likelihood import MAX_LOGITS, PairLikelihoods, nll_by_pair, without_first_labels

IGNORED_LABEL = -100  # the label that torch's and transformers' losses leave out
DATAMODULE_HELP = "Train with mtx's data module: trainer.fit(model, datamodule=dm)"


class BatchLikelihood(NamedTuple):
    """The likelihood of the targets of a batch.

    Attributes:
        nats: negative log-likelihood of each pair, float64 [B] on the CPU.
        num_labels: real labels of each pair, EOS included, int64 [B] on the CPU.
    """

    nats: Tensor
    num_labels: Tensor


def bits_per_byte_of(logits: Tensor, labels: Tensor, num_bytes: Tensor | int, *, mask: Tensor | None = None) -> float:
    """Return the bits per byte of the targets of a batch: their negative log2-likelihood, divided by their UTF-8 bytes.

    The mean over batches, weighted by `num_bytes`, is the figure of all batches.

    Args:
        logits: any float dtype [..., V]; position i predicts `labels[i]`.
        labels: int64 [...]; EOS counts, and labels of -100 do not.
        num_bytes: UTF-8 bytes of the target texts: a number, or int64 [B], as `dm.num_target_bytes` returns them.
        mask: bool or int64 [...], nonzero at real labels; needed if padding has another id than -100.

    Raises:
        DataError: the shapes differ, or the targets have no bytes.
    """
    try:
        total = int(torch.as_tensor(num_bytes).sum())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(f"num_bytes is a number, or int64 [B], but is {num_bytes!r:.80}") from error
    if total <= 0:
        raise DataError(f"bits per byte need at least one byte of target text, but num_bytes is {total}")
    chosen, wanted, _ = _real_labels(logits, labels, mask)
    return float(_nats(chosen, wanted, torch.tensor([len(wanted)]))) / math.log(2) / total


def log_held_out(
    module: Any,
    batch: Mapping[str, Tensor],
    logits: Tensor,
    batch_idx: int,
    dataloader_idx: int = 0,
    *,
    labels: Tensor | None = None,
) -> None:
    """Log `val/bits_per_byte` and `val/loss` from a `validation_step`, over all batches and ranks.

    Call it once for each batch. With several validation sets, these are the figures of the first set, and each set also
    has `val/NAME/bits_per_byte` and `val/NAME/loss`. In a `test_step`, the names are `test/bits_per_byte` and
    `test/loss`. The function also keeps the likelihood of each pair in `module.pair_likelihoods`, from which a sweep
    computes intervals over held-out sentences.

    Args:
        module: the LightningModule, in a Trainer with mtx's data module.
        batch: a batch with `row_ids`.
        logits: the logits at the target positions of the batch: [B, T, V]; [N, V] with batch_format=flat; [1, N, V]
            with huggingface_packed; or, with causal, [R, L, V] at all positions, where position i predicts the id after
            it.
        batch_idx: the number of the batch, as `validation_step` gets it.
        dataloader_idx: the number of the validation set.
        labels: the labels of the logits, if they are not those of the batch, as of a decoder that also reads the
            source: int64 [B, L], with -100 at positions that do not count.

    Raises:
        DataError: the batch has no `row_ids`, the Trainer has another data module, or the shapes differ.
    """
    rows, data = _rows_and_data(batch, module)
    is_test = module.trainer.state.fn == "test"
    names = ["test"] if is_test else list(data.val_names)
    name, prefix = names[dataloader_idx], "test" if is_test else "val"
    num_bytes = data.num_target_bytes(rows.cpu(), name)
    forced = getattr(getattr(data, "batch_format", None), "forced_target_tokens", 0)
    nats, num_labels = pair_likelihood(batch, logits, labels, forced_target_tokens=forced)
    if len(nats) != len(rows):
        raise DataError(f"a batch has {len(rows)} row_ids, but labels of {len(nats)} pairs")
    if batch_idx == 0:
        _reset_pairs(module, name, is_first=dataloader_idx == 0)
    module.pair_likelihoods[name].add(rows, nats, num_bytes)
    total, total_bytes, total_labels = float(nats.sum()), int(num_bytes.sum()), int(num_labels.sum())
    prefixes = [prefix] if dataloader_idx == 0 else []
    prefixes += [f"{prefix}/{name}"] if len(names) > 1 else []
    figures = {"bits_per_byte": (total / math.log(2), total_bytes), "loss": (total, total_labels)}
    for metric, (amount, weight) in figures.items():
        for of in prefixes if weight else ():
            module.log(
                f"{of}/{metric}",
                torch.tensor(amount / weight, dtype=torch.float32, device=module.device),
                batch_size=weight,  # Lightning's mean over batches and ranks is weighted by it
                prog_bar=of == prefix,
                on_step=False,
                on_epoch=True,
                sync_dist=True,
                add_dataloader_idx=False,
            )


def _rows_and_data(batch: Mapping[str, Tensor], module: Any) -> tuple[Tensor, Any]:
    """Return the row numbers of a batch and the data module; see `log_held_out` for the errors."""
    rows = batch.get("row_ids")
    data: Any = getattr(module.trainer, "datamodule", None)
    if rows is None:
        raise DataError(
            "bits per byte need the row_ids of a batch, which batches of datamodule.batch_format=huggingface lack. Set "
            "datamodule.batch_format=mtx and pass its tensors to the model by name, or set huggingface_packed"
        )
    if not hasattr(data, "num_target_bytes"):
        raise DataError(
            f"bits per byte need the data module's num_target_bytes, which {type(data).__name__} lacks. "
            + DATAMODULE_HELP
        )
    return rows, data


def pair_likelihood(
    batch: Mapping[str, Tensor], logits: Tensor, labels: Tensor | None = None, *, forced_target_tokens: int = 0
) -> BatchLikelihood:
    """Return the likelihood of each target of a batch of any format; see `log_held_out` for the arguments.

    The first `forced_target_tokens` labels of each target do not count, because generation is given them.

    Raises:
        DataError: the shapes differ.
    """
    if is_causal(batch) and (labels is None or labels is batch["labels"]):
        return _causal_likelihood(batch, logits, forced_target_tokens)
    offsets = batch_tensor(batch, "target_offsets")
    if labels is None:
        labels = batch_tensor(batch, "labels")
        if labels is None:
            raise DataError(f"a batch has no labels, but {', '.join(batch)}. Pass labels= to log_held_out")
        mask = batch_tensor(batch, "target_mask")
    else:
        mask, offsets = None, None
    chosen, wanted, real = _real_labels(logits, labels, mask)
    if offsets is None and real.ndim != 2:
        raise DataError(f"labels have the shape [B, L], but are {list(real.shape)}. Flat labels need target_offsets")
    counts = real.sum(dim=1).cpu() if offsets is None else offsets.cpu().long().diff()
    if int(counts.sum()) != len(wanted):
        raise DataError(f"a batch has {len(wanted)} real labels, but its target_offsets give {int(counts.sum())}")
    chosen, wanted, counts = without_first_labels(chosen, wanted, counts, forced_target_tokens)
    return BatchLikelihood(_nats(chosen, wanted, counts), counts)


def _causal_likelihood(batch: Mapping[str, Tensor], logits: Tensor, forced_target_tokens: int) -> BatchLikelihood:
    """Return the likelihood of each target of a decoder-only batch; position i of the logits predicts id i + 1."""
    labels, segments = batch["labels"][:, 1:], batch["segment_ids"][:, 1:]
    if isinstance(logits, Tensor) and (logits.ndim != 3 or logits.shape[:2] != batch["labels"].shape):
        raise DataError(
            "logits have the shape of input_ids, [R, L], and a last dimension for the vocabulary, but are "
            f"{list(logits.shape)}, and input_ids {list(batch['labels'].shape)}"
        )
    before = logits[:, :-1] if isinstance(logits, Tensor) else logits
    chosen, wanted, real = _real_labels(before, labels, None)
    counts = torch.bincount(segments[real], minlength=len(batch["row_ids"]) + 1)[1:].cpu()
    chosen, wanted, counts = without_first_labels(chosen, wanted, counts, forced_target_tokens)
    return BatchLikelihood(_nats(chosen, wanted, counts), counts)


def _nats(logits: Tensor, labels: Tensor, num_labels: Tensor) -> Tensor:
    """Return the nats of each pair, float64 [B] on the CPU, of logits [N, V] and labels [N]; see `nll_by_pair`."""
    at_once = max(1, MAX_LOGITS // logits.shape[-1])
    return nll_by_pair(lambda some: some, logits, labels, num_labels, labels_at_once=at_once)


def _real_labels(logits: Tensor, labels: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits [N, V] and the ids [N] of all real labels, and where they are, bool of the labels' shape."""
    for name, given, is_right in (
        ("logits", logits, torch.is_floating_point),
        ("labels", labels, lambda tensor: not tensor.is_floating_point() and tensor.dtype != torch.bool),
    ):
        if not isinstance(given, Tensor) or not is_right(given):
            what = f"of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
            raise DataError(f"logits are a tensor of floats, and labels one of ids (int64), but {name} are {what}")
    if logits.shape[:-1] != labels.shape or (mask is not None and mask.shape != labels.shape):
        shapes = f"logits {list(logits.shape)}, labels {list(labels.shape)}"
        shapes += "" if mask is None else f", mask {list(mask.shape)}"
        raise DataError(f"logits have the shape of labels and a last dimension for the vocabulary, but are: {shapes}")
    real = labels != IGNORED_LABEL if mask is None else mask.bool() & (labels != IGNORED_LABEL)
    chosen, wanted = logits.detach()[real], labels[real].long()
    if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < logits.shape[-1]:
        raise DataError(
            f"labels are ids below the size of the vocabulary, {logits.shape[-1]}, or {IGNORED_LABEL}, but are from "
            f"{int(wanted.min())} to {int(wanted.max())}. Pass mask= if padding has another id"
        )
    return chosen, wanted, real


def _reset_pairs(module: Any, name: str, *, is_first: bool) -> None:
    kept = {} if is_first else getattr(module, "pair_likelihoods", {})
    module.pair_likelihoods = {**kept, name: PairLikelihoods()}
