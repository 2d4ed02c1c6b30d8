"""Bits per byte of held-out text, a measure that is comparable between tokenizers.

The loss per token depends on the length of the tokens; bits per byte do not. Bits per byte are the negative
log-likelihood of the target texts, EOS included, in bits, divided by the UTF-8 bytes of these texts. A compressor that
uses the model would need this many bits per byte.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

MAX_LOGITS = 2**25  # logits in float32 at once in validation and evaluation: 128 MB


@dataclass
class LikelihoodSums:
    """Sums of log-likelihood, tokens and bytes over batches; a mean of batch means would overweight small batches.

    Attributes:
        nll: negative log-likelihood in nats.
        num_tokens: real labels, EOS included.
        num_bytes: UTF-8 bytes of the target texts; None if unknown.
    """

    nll: float = 0.0
    num_tokens: int = 0
    num_bytes: int | None = 0

    def add(self, nll: float, num_tokens: int, num_bytes: int | None) -> None:
        """Add the sums of a batch; Python floats have the 53 bits that a long sum of float32 values needs."""
        self.nll += nll
        self.num_tokens += num_tokens
        self.num_bytes = None if self.num_bytes is None or num_bytes is None else self.num_bytes + num_bytes

    @property
    def loss(self) -> float | None:
        """Negative log-likelihood per token in nats; None if there are no tokens."""
        return self.nll / self.num_tokens if self.num_tokens else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of target text; None if there are no bytes or the number of bytes is unknown."""
        return self.nll / math.log(2) / self.num_bytes if self.num_bytes else None

    def as_tensor(self, device: torch.device) -> Tensor:
        """Return the sums as float64 [3], to be added over ranks; an unknown number of bytes becomes NaN."""
        num_bytes = math.nan if self.num_bytes is None else self.num_bytes
        return torch.tensor([self.nll, self.num_tokens, num_bytes], dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, sums: Tensor) -> "LikelihoodSums":
        """Return the sums that `as_tensor` has converted to float64 [3]."""
        nll, num_tokens, num_bytes = sums.tolist()
        return cls(nll, int(num_tokens), None if math.isnan(num_bytes) else int(num_bytes))


class PairLikelihoods:
    """Log-likelihood and bytes of each held-out pair of one validation set, in the order of the batches.

    The verdict's interval over held-out sentences needs them. A pair that several batches contain occurs several times.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []  # float64 [3, B] each

    def add(self, row_ids: Tensor, nll: Tensor, num_bytes: Tensor) -> None:
        """Add the pairs of a batch.

        Args:
            row_ids: the rows of the pairs in their dataset, int64 [B].
            nll: negative log-likelihood of each target, EOS included, in nats, float [B].
            num_bytes: UTF-8 bytes of each target text, int64 [B].
        """
        self._parts.append(torch.stack([part.detach().cpu().double() for part in (row_ids, nll, num_bytes)]))

    def as_tensor(self) -> Tensor:
        """Return rows, nats and bytes as float64 [3, n] on the CPU; rows below 2^53 are exact."""
        return torch.cat(self._parts, dim=1) if self._parts else torch.zeros(3, 0, dtype=torch.float64)


@runtime_checkable
class PairScorer(Protocol):
    """A model whose validation keeps the log-likelihood of each pair.

    `task=fit` stores the likelihoods of the first validation set in `held_out.parquet`.
    """

    @property
    def pair_likelihoods(self) -> Mapping[str, PairLikelihoods]:
        """The likelihoods of this rank in the last validation, by validation set, in the order of the loaders."""


def sums_by_pair(of_labels: Tensor, num_labels: Tensor) -> Tensor:
    """Sum a value of each label over the labels of its pair, in float64 on the CPU.

    Args:
        of_labels: the values of all real labels of a batch, pair after pair, float [N].
        num_labels: the number of real labels of each pair, int64 [B]; the sum is N.

    Returns:
        The sums, float64 [B].
    """
    counts = num_labels.cpu()
    pairs = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return torch.zeros(len(counts), dtype=torch.float64).index_add_(0, pairs, of_labels.detach().cpu().double())


def without_first_labels(
    of_labels: Tensor, labels: Tensor, num_labels: Tensor, number: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a value of each label, the labels, and their number by pair, without the first labels of each pair.

    The first labels are given, such as the token of the target language, so they are not predicted.

    Args:
        of_labels: a value of all real labels of a batch, pair after pair, [N, ...].
        labels: these labels, int64 [N].
        num_labels: the number of real labels of each pair, int64 [B]; the sum is N.
        number: how many labels of each pair are left out; 0: none.
    """
    if not number:
        return of_labels, labels, num_labels
    counts = num_labels.to(labels.device)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    is_kept = torch.arange(len(labels), device=labels.device) - starts >= number
    return of_labels[is_kept], labels[is_kept], (num_labels - number).clamp(min=0)


def nll_by_pair(
    logits_of: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor, num_labels: Tensor, *, labels_at_once: int
) -> Tensor:
    """Return the negative log-likelihood of each pair in nats, float64 [B] on the CPU.

    Args:
        logits_of: the last layer, from hidden states [n, D] to logits [n, V].
        hidden: the hidden states at all real labels, pair after pair, float [N, D].
        labels: these labels, int64 [N].
        num_labels: the number of real labels of each pair, int64 [B]; the sum is N.
        labels_at_once: labels whose logits are in memory at the same time.
    """
    pieces = zip(torch.split(hidden, labels_at_once), torch.split(labels, labels_at_once), strict=True)
    parts = [
        torch.nn.functional.cross_entropy(logits_of(part).float(), wanted, reduction="none") for part, wanted in pieces
    ]
    return sums_by_pair(torch.cat(parts), num_labels)
