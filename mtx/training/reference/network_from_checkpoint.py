"""Build the network of the reference model from a checkpoint, without Lightning.

A checkpoint may come from anyone. So sizes are compared with the tensors of the file before any memory is allocated.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from mtx.errors import ConfigError, MtxError, OwnCodeError
from mtx.library_errors import library_reason
from mtx.training.checkpoint_content import unfit_values_advice
from mtx.training.reference.network import Transformer, position_encodings
from mtx.training.weight_misfit import misfit_reason

KIND = "model/transformer"  # the kind of the reference model in a checkpoint
KIND_KEY = "model_kind"  # the key of the kind in a checkpoint
PREFIX = "network."  # of the names of the network's tensors
BOUNDS = {"ge": "at least", "le": "at most", "expected": "one of"}  # pydantic's names of bounds
LONGEST_VALUE = 60  # characters of a value in a message
MAX_POSITIONS = 1 << 16  # positions of a checkpoint; each costs memory without a tensor in the file

Size = Annotated[int, Field(ge=1)]


class NetworkSizes(BaseModel):
    """The arguments of `Transformer`, as the hyperparameters of a checkpoint contain them."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    source_vocab_size: Size
    target_vocab_size: Size
    joint_vocabulary: bool
    d_model: Size
    num_heads: Size
    num_encoder_layers: Size
    num_decoder_layers: Size
    dim_feedforward: Size
    dropout: float
    activation: Literal["relu", "gelu"]
    max_positions: Annotated[int, Field(ge=1, le=MAX_POSITIONS)]


def network_of(checkpoint: Mapping[str, Any], path: Path, written_by: object = None) -> Transformer:
    """Return the network of a checkpoint of the reference model, in evaluation mode.

    Args:
        checkpoint: the content of the file.
        path: the file.
        written_by: the version of mtx that the checkpoint names, for messages.

    Raises OwnCodeError if the checkpoint is of another model, and ConfigError if its tensors do not fit its
    hyperparameters.
    """
    if checkpoint.get(KIND_KEY) != KIND:
        raise OwnCodeError(
            f"ckpt={path} is not of mtx's reference model, the only one that mtx builds by a checkpoint's own word. "
            "Type the class of the model, too: model._target_=MODULE.CLASS"
        )
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if isinstance(name, str) and name.startswith(PREFIX)
    }
    network: Transformer | None = None
    try:
        sizes = NetworkSizes.model_validate(dict(checkpoint.get("hyper_parameters") or {}))
        if sizes.num_encoder_layers + sizes.num_decoder_layers > len(weights):
            raise ValueError(f"{len(weights)} tensors are too few for its layers")
        with torch.device("meta"):  # allocates nothing
            network = Transformer(**sizes.model_dump())
        _check_shapes(network, weights)
        _check_bytes(weights, path, is_joint=sizes.joint_vocabulary)
        network.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    except ValidationError as error:
        raise ConfigError(_misfit(path, _size_problem(error), written_by)) from None
    except RuntimeError as error:
        raise ConfigError(_misfit(path, misfit_reason(error, weights, network), written_by)) from error
    except (ValueError, TypeError, MtxError) as error:
        raise ConfigError(_misfit(path, library_reason(error), written_by)) from error
    if broken := [name for name, weight in network.state_dict().items() if not weight.isfinite().all()]:
        raise ConfigError(
            f"ckpt={path} has weights that are not finite numbers, such as {broken[0]}, as after a training that "
            "diverged. Set ckpt= to an earlier checkpoint"
        )
    if sizes.joint_vocabulary:
        network.source_embedding = network.target_embedding
    network.positions = position_encodings(sizes.max_positions, sizes.d_model)
    return network.eval().requires_grad_(False)


def _check_shapes(network: Transformer, weights: Mapping[str, Any]) -> None:
    """Raise ValueError unless the tensors have the names, shapes and sizes in bytes of the network's tensors."""
    expected = network.state_dict()
    if expected.keys() != weights.keys():
        raise ValueError(f"the tensors differ: {sorted(expected.keys() ^ weights.keys())[:3]}")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise ValueError(f"{name} is no tensor of numbers")
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise ValueError(f"{name} repeats its values")  # a few bytes that would become a huge copy


def _check_bytes(weights: Mapping[str, Tensor], path: Path, *, is_joint: bool) -> None:
    """Raise ValueError if tensors share bytes of the file, which would become several copies in memory.

    The two names of a joint embedding may share them.
    """
    counted = [tensor for name, tensor in weights.items() if not (is_joint and name == "source_embedding.weight")]
    needed, size = sum(tensor.numel() * tensor.element_size() for tensor in counted), path.stat().st_size
    if needed > size:
        raise ValueError(f"its tensors have {needed:,} bytes, but the file {size:,}")


def _size_problem(error: ValidationError) -> str:
    """Return the first size that breaks its rule, with the value and the bound."""
    first = error.errors(include_url=False)[0]
    name, bounds = ".".join(map(str, first["loc"])), first.get("ctx", {})
    if first["type"] == "missing":
        return f"{name} is missing"
    rules = [f"must be {words} {bounds[key]}" for key, words in BOUNDS.items() if key in bounds]
    return f"{name} is {repr(first['input'])[:LONGEST_VALUE]}, but {next(iter(rules), 'must be of another type')}"


def _misfit(path: object, reason: str, written_by: object) -> str:
    return (
        f"ckpt={path} does not describe a reference model: {' '.join(reason.split())[:300]}. "
        f"{unfit_values_advice(written_by)}"
    )
