"""The part of `task=export` that writes the model of a checkpoint as a folder of transformers, or for ONNX."""

from typing import Any, Literal

from mtx import __version__
from mtx.components.identity import identity
from mtx.errors import ConfigError
from mtx.experiment.run_context import Run
from mtx.infra.dal.tilde_expansion import expanded_path

ModelFormat = Literal["transformers", "onnx"]
MODEL_FORMATS = ("transformers", "onnx")


def export_model(
    run: Run,
    *,
    ckpt: str | None,
    to: str | None,
    overwrite: bool = False,
    format: ModelFormat = "transformers",
    direction: str | None = None,
) -> None:
    """Write the reference model of a checkpoint with its tokenizer, for `AutoModelForSeq2SeqLM` or as `model.onnx`.

    Args:
        run: The run, which provides the console.
        ckpt: The checkpoint.
        to: The folder.
        overwrite: Whether to replace an earlier export.
        format: `transformers` or `onnx`.
        direction: The direction of a checkpoint of several, such as `en-de`.

    Raises:
        ConfigError: `ckpt` or `to` is missing, or the checkpoint is of another model or has two vocabularies.
    """
    from mtx.data.exchange.atomic_export_target import atomic_target
    from mtx.data.exchange.export_formats import write_description
    from mtx.training.checkpoint_content import existing_checkpoint
    from mtx.training.checkpoint_translator import ReferenceGenerator, load_translator
    from mtx.training.reference.onnx_file import write_onnx
    from mtx.training.reference.transformers_folder import write_folder

    if not ckpt or not to:
        raise ConfigError(
            f"format={format} needs a checkpoint and a folder. Type: mtx task=export ckpt=best.ckpt to=FOLDER "
            f"format={format}"
        )
    path, target = existing_checkpoint(ckpt, task="export"), expanded_path(to).absolute()
    translator = load_translator(path, device="cpu", direction=direction)
    assert isinstance(translator.generator, ReferenceGenerator)  # no other model is built without a typed class
    with atomic_target(target, overwrite=overwrite) as folder:
        write = write_onnx if format == "onnx" else write_folder
        write(translator.generator.network, translator.state, folder)
        normalise: Any = identity(translator.state.normalise)
        described = {"format": f"mtx-{format}", "mtx": __version__, "normalise": normalise}
        layout = translator.state.batch_format
        if format == "onnx":
            described |= {
                "source_ids": layout.source._asdict(),
                "target_ids": layout.target._asdict(),
                "source_eos": layout.source_eos,
                "language_token_ids": None if (leading := translator.state.leading_ids) is None else leading._asdict(),
                "language_token_position": layout.language_token_position,
            }
        write_description({**described, "languages": list(translator.languages)}, folder)
    run.console.print(f"exported the model of {path} to {target}", highlight=False, soft_wrap=True)
    run.console.print(
        f"Before its tokenizer, texts must be normalised as in the training: {normalise['kind']}. {target.name}/"
        "mtx-export.json has all options",
        highlight=False,
        soft_wrap=True,
    )
