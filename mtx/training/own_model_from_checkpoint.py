"""Build a user's own model from a checkpoint of `task=fit`, which holds `***` in place of secrets."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtx.assumption_log import assume
from mtx.errors import ConfigError
from mtx.redaction_and_escaping import HIDDEN_TEXT
from mtx.training.weight_misfit import misfit_reason


def own_model(model: Callable[..., Any], content: Mapping[str, Any], path: Path) -> Any:
    """Return a model of the class that the user has typed, with the weights of a checkpoint.

    Args:
        model: the class, or a `functools.partial` of it, whose keywords replace values that hold secrets.
        content: the content of the checkpoint.
        path: the file of the checkpoint, for messages.

    Raises:
        ConfigError: a hyperparameter holds a secret beside other settings, or the class refuses the hyperparameters or
            the weights, or it cannot translate.
    """
    saved = dict(content.get("hyper_parameters") or {})
    without = [name for name, value in saved.items() if HIDDEN_TEXT in str(value)]
    unknown = [name for name in without if name not in getattr(model, "keywords", {})]
    for name in unknown:
        if saved[name] != HIDDEN_TEXT:  # other settings are beside the secret, so a default would differ in them
            raise ConfigError(
                f"ckpt={path} has the hyperparameter {name} without its secrets: {str(saved[name])[:200]}. Type all of "
                f"it with the key +model.{name}, or in Python by a functools.partial of the class"
            )
    typed = ", ".join(f"+model.{name}" for name in unknown)  # without a value, which a message would hide
    built: Any = None
    try:
        built = model(**{name: value for name, value in saved.items() if name not in without})
        built.load_state_dict(content["state_dict"])
    except Exception as error:  # the user's class may raise anything
        secrets = f". Type the secrets that no checkpoint holds, if it needs them: {typed}" if typed else ""
        raise ConfigError(
            f"ckpt={path} does not fit the typed model: {misfit_reason(error, content['state_dict'], built)}{secrets}. "
            "Set model._target_ to the class that was trained, which calls save_hyperparameters()"
        ) from error
    if unknown:
        assume(
            f"{', '.join(unknown)} of the model: what the config or the class says, because ckpt={path} has "
            f"{HIDDEN_TEXT}, as for a secret. For another value, type {typed}"
        )
    if not callable(getattr(built, "translate", None)):
        raise ConfigError(
            f"{type(built).__name__} has no method translate(batch, max_tokens, *, beam), so it cannot translate. "
            "See docs/howto/own_model.md"
        )
    return built.eval()
