"""Leave out what an experiment sets for its own task, if the command line chooses another task.

An experiment such as `worth_of_rules` chooses `task=fit`, and sets keys of it. With `task=check` or `task=prepare`,
Hydra keeps these keys, which the other task does not take.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtx.app.hydra_internals import StoredConfig, option_names, stored_config
from mtx.app.unknown_option import unknown_option_message
from mtx.components.allowed_targets import TARGET_KEY, allowed_target
from mtx.components.check_and_build import check_config, parameter_annotations
from mtx.errors import ConfigError

GROUP = "experiment"


def without_keys_of_another_task(
    config: dict[str, Any], runtime: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Return a config without the keys that an experiment sets for a task that is not the chosen one.

    Keys that the chosen task takes stay. The values of the others are checked against the task of the experiment. Keys
    in overrides stay, too, so that the check of the config refuses those that the chosen task does not take.

    Args:
        config: config of a job, as plain values.
        runtime: what Hydra has composed the config from: the key `hydra.runtime`.
        overrides: overrides of the job.

    Raises:
        ConfigError: the task of the experiment does not take such a key or value, or does not exist.
    """
    choices = runtime["choices"]
    chosen, task = choices.get(GROUP), config["task"]
    if not isinstance(chosen, str):
        return config
    own, keys = _own_task(chosen, runtime)
    if own is None or own == choices.get("task"):
        return config
    stored = stored_config(f"task/{own}", runtime["config_sources"])
    if stored is None:
        told = unknown_option_message("task", own, option_names("task", runtime["config_sources"]))
        raise ConfigError(f"{told}. The experiment {chosen!r} chooses it")
    names, takes_any = parameter_annotations(allowed_target(task[TARGET_KEY], "task"))
    typed = [text.lstrip("+").partition("=")[0].split(".") for text in overrides]
    keys -= {path[1] for path in typed if path[0] == "task" and len(path) > 1}
    foreign = {} if takes_any else {key: task[key] for key in task if key in keys and key not in names}
    target = stored.content.get(TARGET_KEY) or stored.content.get("task", {}).get(TARGET_KEY)
    if foreign and target:
        check_config({"task": {TARGET_KEY: target, **foreign}})
    return {**config, "task": {key: value for key, value in task.items() if key not in foreign}}


def _own_task(experiment: str, runtime: Mapping[str, Any]) -> tuple[str | None, set[str]]:
    """Return the task that an experiment chooses, or None, and the keys that it sets in `task`.

    An experiment may build on others of its group.
    """
    stored: StoredConfig | None = stored_config(f"{GROUP}/{experiment}", runtime["config_sources"])
    if stored is None or stored.package != "_global_":
        return None, set()
    own, keys = None, set(stored.content.get("task") or ())
    for other in stored.configs:
        inner, inner_keys = _own_task(other.removeprefix(f"/{GROUP}/"), runtime)
        own, keys = inner or own, keys | inner_keys
    return stored.options.get("/task", own), keys
