"""The normaliser that a checkpoint describes: only those of mtx are built by a checkpoint's own word."""

from collections.abc import Callable, Mapping
from typing import Any

from mtx.data.normalise import DefaultNormaliser, NoNormaliser, Normaliser
from mtx.data.normalise_steps import StepsNormaliser
from mtx.errors import ConfigError, MtxError, OwnCodeError
from mtx.library_errors import library_reason
from mtx.training.checkpoint_content import invalid_values

NORMALISERS: Mapping[str, Callable[..., Normaliser]] = {
    "normalise/default": DefaultNormaliser,
    "normalise/none": NoNormaliser,
    "normalise/steps": StepsNormaliser,
}


def check_prefix(typed: Normaliser | None, stored: Mapping[str, Any], path: object) -> None:
    """Raise ConfigError if the user types a prefix of sources that is none of those of the training's parts."""
    prefix, trained = getattr(typed, "source_prefix", None), stored.get("source_prefix")
    if isinstance(prefix, str) and isinstance(trained, Mapping) and prefix not in ("", *trained.values()):
        known = ", ".join(dict.fromkeys(repr(value) for value in trained.values()))
        raise ConfigError(
            f"normalise.source_prefix={prefix!r} is unknown to ckpt={path}, which was trained with {known[:300]}. Set "
            "one of these"
        )


def stored_normaliser(described: Mapping[str, Any], path: object) -> Normaliser:
    """Return the normaliser of mtx that a checkpoint describes. Raises ConfigError for a user's own."""
    kind = described.get("kind")
    of_mtx = NORMALISERS.get(kind) if isinstance(kind, str) else None
    options = {key: value for key, value in described.items() if key not in ("kind", "version")}
    steps = options.get("steps", [])
    if of_mtx is None or (isinstance(steps, list) and not all(isinstance(step, str) for step in steps)):
        raise OwnCodeError(
            f"ckpt={path} was trained on texts that your own code {str(kind)[:80]!r} normalised, which mtx does not "
            "run by a checkpoint's own word. Type the normalise=… options of the training, too"
        )
    if described.get("version") != vars(of_mtx)["version"]:
        raise ConfigError(
            f"ckpt={path} was trained on texts that another version of mtx normalised ({kind}, version "
            f"{described.get('version')!r}). Choose a normaliser, such as normalise=default"
        )
    try:
        return of_mtx(**options)
    except (MtxError, TypeError) as error:
        raise ConfigError(invalid_values(path, f"normalise: {library_reason(error)}")) from error
