"""Check, before training, that a model computes the loss of each pair of a packed batch from that pair alone.

The check needs a few forward passes in evaluation mode: of short sequences of random ids, and of one batch of the data.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mtx.batches.schema import HUGGINGFACE_PACKED, BatchField
from mtx.errors import ConfigError, MtxError
from mtx.library_errors import library_reason

Nats = Callable[[dict[str, Tensor]], Tensor]

FORMAT = f"datamodule.batch_format={HUGGINGFACE_PACKED.name}"
PAIR_TOKENS = ((5, 4), (3, 6), (4, 3))  # source and target tokens of the pairs that the check makes up
CHANGED = 1  # the pair between the others, so that both directions are seen
MAX_CHANGE = 1e-7  # of a loss, relative: equal inputs of equal shapes give equal sums, even in half precision
EXACT = 1e-5  # largest difference of losses per token that counts as rounding in float32, relative above 1 nat
TF32_EPSILON = 2**-10  # torch has no dtype for TF32
HELP = "Set datamodule.batch_format=huggingface"
ANY_SEED = 0

# The states, as `_state` returns them, in which a model has passed a check in this process.
_passed: WeakKeyDictionary[nn.Module, set[tuple[object, ...]]] = WeakKeyDictionary()


def check_pairs_are_apart(
    nats_of: Nats, model: nn.Module, *, num_source_ids: int, num_target_ids: int, special_ids: int = 4
) -> None:
    """Check that a change of one pair leaves the losses of the others as they are, and that each equals its loss alone.

    A model that has passed is checked again with another dtype or implementation of attention only. In half precision,
    only a difference from the loss alone that exceeds rounding is seen.

    Args:
        nats_of: returns the negative log-likelihood of each target of a packed batch in nats, float [B].
        model: the model, named in the message; its mode is restored.
        num_source_ids: source ids below this number are valid.
        num_target_ids: target ids below this number are valid.
        special_ids: ids below this number are not drawn, since they can be those of padding.

    Raises:
        ConfigError: a loss depends on other pairs, it is not finite, or the model does not take the batch.
    """
    if _has_passed(model, "made-up pairs"):
        return
    pairs = probe_pairs(num_source_ids, num_target_ids, special_ids, ANY_SEED)
    others = probe_pairs(num_source_ids, num_target_ids, special_ids, ANY_SEED + 1)
    changed = [*pairs[:CHANGED], others[CHANGED], *pairs[CHANGED + 1 :]]
    packed = [packed_batch(some, model_device(model)) for some in (pairs, changed)]
    alone = [single_pair(packed[0], number) for number in range(len(pairs))]
    (before, after, *losses), rounding = _nats_per_token(nats_of, model, [*packed, *alone])
    _check_finite(model, losses)
    for number, (was, now) in enumerate(zip(before, after, strict=True)):
        if number != CHANGED and abs(was - now) > MAX_CHANGE * max(1, abs(was)):
            raise ConfigError(
                f"{type(model).__name__} mixes the pairs of a batch with {FORMAT}: after one "
                f"pair was changed, the loss of another went from {was:.7g} to {now:.7g} nats per token. {HELP}"
            )
    _check_equal(model, losses, before, rounding)
    _pass(model, "made-up pairs")


def check_batch_is_apart(nats_of: Nats, model: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """Check that the first and the last pair of a packed batch have the losses that they have alone.

    Only the first batch of a model is checked, see `check_pairs_are_apart`. It shows what depends on the number of
    tokens, which short made-up pairs do not.

    Raises:
        ConfigError: a loss differs, it is not finite, or the model does not take the batch.
    """
    num_pairs = len(batch["decoder_offsets"]) - 1
    if not num_pairs or _has_passed(model, "batch"):
        return
    numbers = 0, num_pairs - 1  # always two, so that all ranks of a sharded model compute equally often
    alone = [single_pair(batch, number) for number in numbers]
    (packed, *losses), rounding = _nats_per_token(nats_of, model, [dict(batch), *alone])
    _check_finite(model, losses)
    _check_equal(model, losses, [packed[number] for number in numbers], rounding)
    _pass(model, "batch")


def _nats_per_token(
    nats_of: Nats, model: nn.Module, batches: list[dict[str, Tensor]]
) -> tuple[list[list[float]], float]:
    """Return the loss of each pair of each batch, in nats per target token, and the largest rounding of a loss.

    Autocast hides small differences, so it is off unless the model needs it, as flash attention does.
    """
    failure: Exception | None = None
    is_cast = autocast_dtype(model_device(model)) is not None
    for uses_autocast in (False, True) if is_cast else (False,):
        try:
            with evaluation_mode(model, model_device(model), uses_autocast=uses_autocast):
                losses = [nats_of(batch).cpu().double() / batch["decoder_offsets"].cpu().diff() for batch in batches]
                return [each.tolist() for each in losses], largest_rounding(model)
        except (MtxError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:
            failure = error
    assert failure is not None
    raise ConfigError(
        f"{type(model).__name__} fails on a batch with {FORMAT}: {library_reason(failure)}. "
        "If it does not take such batches, set datamodule.batch_format=huggingface"
    ) from failure


def _check_finite(model: nn.Module, losses: list[list[float]]) -> None:
    for (loss,) in losses:
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss of {type(model).__name__} for a single pair is {loss} before training. Check its weights, "
                "or compute in bfloat16 or float32 with trainer.precision=bf16-mixed or 32-true"
            )


def _check_equal(model: nn.Module, alone: list[list[float]], packed: list[float], rounding: float) -> None:
    for (was,), now in zip(alone, packed, strict=True):
        if not abs(was - now) <= rounding * max(1, abs(was)):
            raise ConfigError(
                f"with {FORMAT}, {type(model).__name__} gives a pair another loss than "
                f"the pair has alone: {now:.7g} instead of {was:.7g} nats per token. {HELP}"
            )


def _has_passed(model: nn.Module, check: str) -> bool:
    return (check, *_state(model)) in _passed.get(model, ())


def _pass(model: nn.Module, check: str) -> None:
    _passed.setdefault(model, set()).add((check, *_state(model)))


def _state(model: nn.Module) -> tuple[object, ...]:
    """Return what decides, besides the model, how it computes: attention, the dtype of weights, and autocast."""
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return attention, next((each.dtype for each in model.parameters()), None), autocast_dtype(model_device(model))


def model_device(model: nn.Module) -> torch.device:
    """Return the device of the first weight of a model."""
    return next((each.device for each in model.parameters()), torch.device("cpu"))


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype in which autocast computes now on a device; None without autocast."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def largest_rounding(model: nn.Module) -> float:
    """Return the largest difference of losses, in nats per token, that the dtype of weights or of autocast explains."""
    device = model_device(model)
    dtypes = {each.dtype for each in model.parameters() if each.is_floating_point()}
    if (computed := autocast_dtype(device)) is not None:
        dtypes.add(computed)
    epsilon = max((torch.finfo(each).eps for each in dtypes), default=0.0)
    if device.type == "cuda" and _can_use_tf32():
        epsilon = max(epsilon, TF32_EPSILON)
    return EXACT * max(1.0, epsilon / torch.finfo(torch.float32).eps / 8)


def _can_use_tf32() -> bool:
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # of a precision that is set for one backend
        return True


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


def single_pair(batch: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return a packed batch of one pair of a packed batch."""
    offsets = {"ΣS": batch["encoder_offsets"], "ΣT": batch["decoder_offsets"]}
    found: dict[str, Tensor] = {}
    for field in HUGGINGFACE_PACKED.fields:
        if (bounds := offsets.get(field.shape[-1])) is not None:
            found[field.name] = batch[field.name][:, slice(*bounds[number : number + 2].tolist())]
        elif field.name in batch:
            values = batch[field.name][number : number + (2 if field.shape == ("B+1",) else 1)]
            found[field.name] = values - values[0] if field.shape == ("B+1",) else values
    return found


def _shaped(field: BatchField, found: Mapping[str, Tensor]) -> Tensor:
    tensor = found[field.role].to(getattr(torch, field.dtype))
    return tensor[None] if field.shape[0] == "1" else tensor


@contextmanager
def evaluation_mode(model: nn.Module, device: torch.device, *, uses_autocast: bool) -> Iterator[None]:
    """Let a model compute without dropout and gradients; modes and random states are restored.

    Autocast has no cache here: older versions of torch would then cache weights without gradients.
    """
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    dtype = autocast_dtype(device) if uses_autocast else None
    try:
        model.eval()
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices),
            torch.autocast(device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False),
        ):
            yield
    finally:
        for module, is_training in modes.items():
            module.training = is_training
