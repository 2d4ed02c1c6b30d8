"""Mixin of the reference model: the negative log-likelihood of each target of a batch."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtx.evaluation.likelihood import MAX_LOGITS, nll_by_pair, without_first_labels

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from mtx.training.reference.network import Transformer

    Base = pl.LightningModule
else:
    Base = object


def network_nll(network: "Transformer", hidden: Tensor, labels: Tensor, num_labels: Tensor) -> Tensor:
    """Return the nats of each target, float64 [B] on the CPU, with few logits in memory; see `nll_by_pair`."""
    at_once = max(1, MAX_LOGITS // network.target_embedding.num_embeddings)
    return nll_by_pair(network.logits, hidden, labels, num_labels, labels_at_once=at_once)


class TargetLikelihoods(Base):
    """Scores targets with the network of a model that returns the hidden states at its labels."""

    network: "Transformer"
    forced_target_tokens: int  # labels at the start of each target that are given, so they are not scored

    if TYPE_CHECKING:

        def _label_states(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]: ...

    @torch.inference_mode()
    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the negative log-likelihood of each target, EOS included, in nats, float64 [B] on the CPU."""
        was_training = self.training
        self.eval()
        nll, _ = self._pair_nll({key: value.to(self.device) for key, value in batch.items()})
        self.train(was_training)
        return nll

    def _pair_nll(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Return the nats of each target, float64 [B] on the CPU, and the number of scored labels."""
        scored = without_first_labels(*self._label_states(batch), self.forced_target_tokens)
        hidden, labels, num_labels = scored
        return network_nll(self.network, hidden, labels, num_labels), len(labels)
