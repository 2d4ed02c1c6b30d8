"""Explain overrides that Hydra refuses although their keys and options exist."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, Sweep
from omegaconf.errors import OmegaConfBaseException

from mtx.app.corrected_command import shell_word
from mtx.app.missing_plug_ins import missing_plug_in_message
from mtx.app.omegaconf_messages import omegaconf_message
from mtx.app.run_start_errors import hydra_setting_message
from mtx.errors import choices
from mtx.library_errors import library_reason

SEARCH_PATH = "hydra.searchpath"


def refused_override_message(
    error: BaseException, parsed: Sequence[Override], groups: Collection[str], loader: ConfigLoader
) -> str:
    """Return what is wrong with the overrides that Hydra refuses, from the overrides and from the error.

    Args:
        error: error of Hydra or OmegaConf.
        parsed: overrides of the command.
        groups: names of all config groups.
        loader: config loader, for the options of groups.
    """
    if isinstance(error, Exception) and (needed := missing_plug_in_message(error)) is not None:
        return needed
    if nested := [str(override.input_line) for override in parsed if _has_nested_sweep(override)]:
        return (
            f"{', '.join(nested)} has a sweep inside of a value, but only a whole value can vary. Write each value in "
            "full: -m 'KEY=choice(VALUE,VALUE)'"
        )
    if told := [problem for override in parsed if (problem := _form_problem(override, groups, loader))]:
        return "\n".join(told)
    cause = _omegaconf_error(error)
    if deletes := [override for override in parsed if override.is_delete()]:
        return "\n".join(_delete_problem(override, cause) for override in deletes)
    if cause is None:
        typed = [str(override.input_line) for override in parsed]
        settings = " ".join(map(shell_word, typed)) or "these options"
        return hydra_setting_message(error, typed, with_folders=False) or (
            f"the config cannot be composed with {settings} ({library_reason(error)}). Leave out the override that "
            "causes it"
        )
    message = omegaconf_message(cause)
    if any(override.key_or_group in message for override in parsed):
        return message
    suspects = [str(override.input_line) for override in parsed if "${" in str(override.input_line)]
    return f"{', '.join(suspects)}: {message}" if suspects else message


def hydra_group_problem(override: Override, groups: Collection[str], loader: ConfigLoader) -> str | None:
    """Return what is wrong with an override of Hydra's groups that Hydra accepts or refuses without a reason."""
    key, text = override.key_or_group, str(override.input_line)
    if key == "hydra":
        return f"{text} is refused: Hydra's own settings are set one by one, as in hydra.run.dir=FOLDER"
    if override.is_delete() and key.startswith("hydra/") and key in groups:
        options = ", ".join(loader.get_group_options(key, ObjectType.CONFIG))
        return f"Hydra needs an option of {key}. Leave out {text}, or choose another option: {options}"
    return None


def package_problem(override: Override) -> str:
    """Return what is wrong with an override GROUP@PLACE=OPTION whose place has no option."""
    return (
        f"{override.input_line} replaces an option at {override.package}, but the chosen options have none there. "
        f"Choose an option that has one, such as filter=selection for filter.before, or add one: +{override.input_line}"
    )


def _form_problem(override: Override, groups: Collection[str], loader: ConfigLoader) -> str | None:
    """Return what is wrong with the form of one override, whatever the config is."""
    key, text = override.key_or_group, str(override.input_line)
    if override.package is not None and key not in groups:
        return (
            f"{text}: @ names the place of a group's option, but {key} is no group. Its form is GROUP@PLACE=OPTION, as "
            f"in filter@filter.before=default. The groups: {choices(key, groups)}"
        )
    if override.is_delete() and override.package is not None:
        return f"{text} deletes an option that is not there. Leave out {text}"
    value = None if override.is_delete() or override.is_sweep_override() else override.value()
    is_list = isinstance(value, list) and all(isinstance(part, str) for part in value)
    if key == SEARCH_PATH and not override.is_delete() and not is_list:
        return f"{SEARCH_PATH} is a list of folders and packages, but is {value!r}. Set '{SEARCH_PATH}=[file://FOLDER]'"
    return None


def _delete_problem(override: Override, cause: OmegaConfBaseException | None) -> str:
    """Return why a key cannot be deleted: it is needed, or it is not there with this value."""
    key, text = override.key_or_group, str(override.input_line)
    if cause is not None and cause.full_key == key:
        return f"{key} cannot be deleted. Leave out {text}"
    value = override.value()
    missing = f"with the value {value!r}" if value not in (None, "") else "with a value"
    return f"{text} deletes a key, but the config has no {key} {missing}. Leave out {text}"


def _has_nested_sweep(override: Override) -> bool:
    """Return whether a list or mapping in an override contains a sweep, such as `choice(1,2)`."""

    def has_sweep(value: Any) -> bool:
        if isinstance(value, Mapping):
            return any(map(has_sweep, value.values()))
        return any(map(has_sweep, value)) if isinstance(value, list) else isinstance(value, Sweep)

    return not override.is_sweep_override() and not override.is_delete() and has_sweep(override.value())


def _omegaconf_error(error: BaseException) -> OmegaConfBaseException | None:
    """Return the error of OmegaConf, or the one that Hydra has wrapped; None if there is none."""
    return next((each for each in (error, error.__cause__) if isinstance(each, OmegaConfBaseException)), None)
