"""Tell accelerate about a pass over a loader, so that accumulated gradients are applied at the end of each epoch.

accelerate keeps a list of the DataLoaders that are being iterated. At the last batch of the newest one, an optimizer
step is due even if fewer batches than `gradient_accumulation_steps` are accumulated. accelerate adds the DataLoaders
that it has made itself; mtx's loader is none of them, so it adds itself. Source:
https://huggingface.co/docs/accelerate/concept_guides/gradient_synchronization
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STATE_MODULE = "accelerate.state"  # never imported here: a program that uses accelerate has imported it


@contextmanager
def told_to_accelerate(loader: Any) -> Iterator[None]:
    """Let accelerate know, inside the `with` block, that `loader` is being iterated; does nothing without accelerate.

    Args:
        loader: has the attributes `end_of_dataloader` and `remainder`.
    """
    state = _gradient_state()
    loader.end_of_dataloader = False
    if state is not None:
        state._add_dataloader(loader)
    try:
        yield
    finally:
        if state is not None:
            state._remove_dataloader(loader)


def _gradient_state() -> Any | None:
    """Return accelerate's state of accumulated gradients; None if no Accelerator was made."""
    made = getattr(sys.modules.get(STATE_MODULE), "GradientState", None)
    return made() if made is not None and made._shared_state else None
