"""Check of the model's settings before any data is prepared: mtx's own models are built for a stand-in vocabulary."""

from mtx.components.allowed_targets import TARGET_KEY, allowed_target
from mtx.errors import ConfigError
from mtx.experiment.run_context import Run

# Facts of the data that mtx fills in; any size will do, because no check of a setting depends on it.
STAND_IN = {
    "source_vocab_size": 8,
    "target_vocab_size": 8,
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "joint_vocabulary": False,
    "forced_target_tokens": 0,
}
ONE_BLOCK = {"num_encoder_layers": 1, "num_decoder_layers": 1}  # the blocks of a stack are alike


def check_model(run: Run) -> None:
    """Build the reference model for a stand-in vocabulary and without memory for its weights, to check its settings.

    A user-defined model is not built. Its constructor may need the true vocabulary, such as to read vectors of its
    words, or may take long. Its arguments are checked by `check_config`, and it is built when the data is known. A
    model whose facts are set by hand is not built either.

    Raises:
        ConfigError: the model cannot be built with these settings, or does not take the longest training sequence.
    """
    from mtx.training.reference.network import check_lengths
    from mtx.training.reference.transformer import TransformerTranslator

    options = run.config["model"]
    if allowed_target(options[TARGET_KEY], "model") is not TransformerTranslator:
        return
    if any(options.get(name) is not None for name in STAND_IN):
        return
    import torch

    from mtx.components.check_and_build import build

    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model: TransformerTranslator = build({"model": {**options, **ONE_BLOCK}}, "model", **STAND_IN)
    except RuntimeError as error:  # torch: the size of a weight in bytes overflows an integer of 64 bits
        width, inner = (options.get(name) for name in ("d_model", "dim_feedforward"))
        raise ConfigError(
            f"a weight of the model must have less than 2**63 bytes, which model.d_model={width} with "
            f"model.dim_feedforward={inner} exceeds. Set model.d_model=256 and model.dim_feedforward=1024, or other "
            "smaller values"
        ) from error
    check_lengths(model.network.max_positions, run.config.get("datamodule", {}))
