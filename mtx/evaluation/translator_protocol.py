"""What mtx asks of a model in order to translate held-out sentences and files."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Translator(Protocol):
    """A model that can translate a batch.

    `task=fit` translates held-out sentences with any model of this protocol, and `task=translate` and `task=evaluate`
    translate with its checkpoints.
    """

    def translate(self, batch: "dict[str, Tensor]", max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        """Return the target token ids of each sentence of a batch, without BOS and EOS.

        Args:
            batch: The tensors of the sentences.
            max_tokens: The largest number of tokens of a translation.
            beam: The number of hypotheses in beam search; 1 is greedy search.
        """
