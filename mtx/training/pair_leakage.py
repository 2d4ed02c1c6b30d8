"""Check, before training, that a model computes the loss of each pair of a packed batch from that pair alone.

The check needs a few forward passes of short sequences of random ids, in evaluation mode and without autocast.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import Tensor, nn

from mtx.batches.schema import HUGGINGFACE_PACKED, BatchField
from mtx.errors import ConfigError, MtxError
from mtx.library_errors import library_reason

Nats = Callable[[dict[str, Tensor]], Tensor]

PAIR_TOKENS = ((5, 4), (3, 6), (4, 3))  # source and target tokens of the pairs that the check makes up
CHANGED = 1  # the pair between the others, so that both directions are seen
MAX_CHANGE = 1e-7  # of a loss, relative: equal inputs of equal shapes give equal sums, even in half precision
EXACT = 1e-5  # largest difference of losses in nats per token that counts as rounding in float32
HELP = "Set datamodule.batch_format=huggingface"
ANY_SEED = 0

_apart: WeakSet[nn.Module] = WeakSet()  # the models that have passed the check in this process


def check_pairs_are_apart(
    nats_of: Nats, model: nn.Module, *, num_source_ids: int, num_target_ids: int, special_ids: int = 4
) -> None:
    """Check that a change of one pair leaves the losses of the others as they are, and that each equals its loss alone.

    A model that has passed is not checked again. In half precision, only a difference of losses that exceeds rounding
    is seen.

    Args:
        nats_of: returns the negative log-likelihood of each target of a packed batch in nats, float [B].
        model: the model, named in the message; its mode is restored.
        num_source_ids: source ids below this number are valid.
        num_target_ids: target ids below this number are valid.
        special_ids: ids below this number are not drawn, since they can be those of padding.

    Raises:
        ConfigError: a loss depends on other pairs, or the model does not take the batch.
    """
    if model in _apart:
        return
    name = type(model).__name__
    pairs = probe_pairs(num_source_ids, num_target_ids, special_ids, ANY_SEED)
    others = probe_pairs(num_source_ids, num_target_ids, special_ids, ANY_SEED + 1)
    changed = [*pairs[:CHANGED], others[CHANGED], *pairs[CHANGED + 1 :]]
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    lengths = torch.tensor([len(target) for _, target in pairs], dtype=torch.float64)
    try:
        with evaluation_mode(model, device):
            found = [nats_of(packed_batch(some, device)).cpu() / lengths for some in (pairs, changed)]
            alone = [float(nats_of(packed_batch([pair], device)).cpu()) / len(pair[1]) for pair in pairs]
    except MtxError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} does not take batches with datamodule.batch_format={HUGGINGFACE_PACKED.name}: "
            f"{library_reason(error)}. {HELP}"
        ) from error
    before, after = (losses.tolist() for losses in found)
    for number, (was, now) in enumerate(zip(before, after, strict=True)):
        if number != CHANGED and not abs(was - now) <= MAX_CHANGE * max(1, abs(was)):
            raise ConfigError(
                f"{name} mixes the pairs of a batch with datamodule.batch_format={HUGGINGFACE_PACKED.name}: after one "
                f"pair was changed, the loss of another went from {was:.7g} to {now:.7g} nats per token. {HELP}"
            )
    for was, now in zip(alone, before, strict=True):
        if not abs(was - now) <= largest_rounding(model):
            raise ConfigError(
                f"with datamodule.batch_format={HUGGINGFACE_PACKED.name}, {name} gives a pair another loss than "
                f"the pair has alone: {now:.7g} instead of {was:.7g} nats per token. {HELP}"
            )
    _apart.add(model)


def largest_rounding(model: nn.Module) -> float:
    """Return the largest difference of losses, in nats per token, that the dtype of the model's weights explains."""
    epsilon = max((torch.finfo(each.dtype).eps for each in model.parameters() if each.is_floating_point()), default=0)
    return EXACT * max(1.0, epsilon / torch.finfo(torch.float32).eps / 8)


def probe_pairs(num_source_ids: int, num_target_ids: int, special_ids: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the source and target ids, int64, of made-up pairs: the same lengths for every seed."""
    random = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randint(min(special_ids, num_source_ids - 1), num_source_ids, (source,), generator=random),
            torch.randint(min(special_ids, num_target_ids - 1), num_target_ids, (target,), generator=random),
        )
        for source, target in PAIR_TOKENS
    ]


def packed_batch(pairs: list[tuple[Tensor, Tensor]], device: torch.device) -> dict[str, Tensor]:
    """Return a packed batch of the source and target ids of pairs; a target's first id is also its decoder's first."""
    sources, targets = zip(*pairs, strict=True)
    inputs = [torch.cat([target[:1], target[:-1]]) for target in targets]
    found = {
        "source_ids": torch.cat(sources),
        "source_positions": torch.cat([torch.arange(len(each)) for each in sources]),
        "source_offsets": torch.tensor([0, *map(len, sources)]).cumsum(0),
        "decoder_input": torch.cat(inputs),
        "target_positions": torch.cat([torch.arange(len(each)) for each in targets]),
        "labels": torch.cat(targets),
        "target_offsets": torch.tensor([0, *map(len, targets)]).cumsum(0),
        "row_ids": torch.arange(len(pairs)),
    }
    return {field.name: _shaped(field, found).to(device) for field in HUGGINGFACE_PACKED.fields}


def _shaped(field: BatchField, found: Mapping[str, Tensor]) -> Tensor:
    tensor = found[field.role].to(getattr(torch, field.dtype))
    return tensor[None] if field.shape[0] == "1" else tensor


@contextmanager
def evaluation_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let a model compute without dropout, gradients and autocast; modes and random states are restored."""
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, is_training in modes.items():
            module.training = is_training
