"""Bits per byte of held-out text: the figure that stays comparable when the tokenizer changes.

Loss per token falls when tokens get shorter; bits per byte do not. They are the negative log-likelihood of the target
texts, EOS included, in bits, over the UTF-8 bytes of these texts: what a compressor with this model would need.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class LikelihoodSums:
    """Sums over held-out text, added up batch by batch: a mean of batch means would weigh short batches too much.

    Attributes:
        nll: negative log-likelihood in nats.
        num_tokens: real labels, EOS included.
        num_bytes: UTF-8 bytes of the target texts; None where nobody knows them.
    """

    nll: float = 0.0
    num_tokens: int = 0
    num_bytes: int | None = 0

    def add(self, nll: float, num_tokens: int, num_bytes: int | None) -> None:
        """Add a batch. Python's floats have the 53 bits that a long sum of float32 values needs."""
        self.nll += nll
        self.num_tokens += num_tokens
        self.num_bytes = None if self.num_bytes is None or num_bytes is None else self.num_bytes + num_bytes

    @property
    def loss(self) -> float | None:
        """Nats per token; None without tokens."""
        return self.nll / self.num_tokens if self.num_tokens else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of target text; None without bytes, or where nobody knows them."""
        return self.nll / math.log(2) / self.num_bytes if self.num_bytes else None

    def as_tensor(self, device: torch.device) -> Tensor:
        """Return the sums as float64 [3], for adding up over ranks; unknown bytes are NaN and stay so in a sum."""
        num_bytes = math.nan if self.num_bytes is None else self.num_bytes
        return torch.tensor([self.nll, self.num_tokens, num_bytes], dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, sums: Tensor) -> "LikelihoodSums":
        """Take sums from float64 [3]."""
        nll, num_tokens, num_bytes = sums.tolist()
        return cls(nll, int(num_tokens), None if math.isnan(num_bytes) else int(num_bytes))
