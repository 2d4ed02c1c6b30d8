"""OmegaConf resolvers of mtx's configs, such as `${cores_for_each:4}`. Importing this module registers them."""

import atexit
import re
import shutil
import tempfile
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

from mtx.components.identity import digest
from mtx.cpu_count import cores_for_each
from mtx.errors import ConfigError

# Tasks that only read the store, unless repair=true or yes=true, and that write no report.
READ_ONLY_TASKS = frozenset(
    f"mtx.experiment.{name}"
    for name in (
        *("show.show", "options.options", "check.check_only", "verify.verify", "gc.gc"),
        "translate.translate",
    )
)
UNLIMITED = -1  # Lightning's value of max_steps and max_epochs for no limit
PLAIN_VALUE = re.compile(r"[\w.:-]+")
NON_STUDY_KEYS = ("launcher", "sweep.resume")  # keys that may change between the commands of one study


def without_budget(value: Any, *, _root_: DictConfig) -> Any:
    """Return `value` if no key of `budget` limits training, else Lightning's -1 for no limit."""
    budget = _root_.get("budget") or {}
    limits = [limit for unit, limit in budget.items() if unit != "_target_"]
    return value if all(limit is None for limit in limits) else UNLIMITED


def if_scored(scorer: Any, value: Any, *, _parent_: Any) -> Any:
    """Return `value` if the scorer is among the chosen options of the group `score`, else None.

    A scorer such as `language.identifier` counts as chosen if this option of it is set. The group is beside the group
    of the option. In mtx's config, that place is the root. In the config of another application, it is a key.
    """
    name, _, option = str(scorer).partition(".")
    while isinstance(_parent_, BaseContainer):
        if isinstance(_parent_, DictConfig) and "score" in _parent_:
            chosen = _parent_.score or {}
            is_chosen = name in chosen and (not option or (chosen[name] or {}).get(option) is not None)
            return value if is_chosen else None
        _parent_ = _parent_._get_parent()
    return None


def run_seed(*, _parent_: Any) -> Any:
    """Return the nearest option `seed` above: that of mtx's config, or of its key in another application; else 0."""
    while isinstance(_parent_, BaseContainer):
        if isinstance(_parent_, DictConfig) and "seed" in _parent_:
            return _parent_.seed
        _parent_ = _parent_._get_parent()
    return 0


def ablation_arms(*, _root_: DictConfig) -> str:
    """Return the values of `filter.ablation` for a sweep: one for each arm, which follow from the rules that are on.

    Raises ConfigError if the filter has no rules, or if no rule is on.
    """
    from mtx.data.filter.rule_ablation import ablation_arms, active_rules

    options = _root_.get("filter") or {}
    if not OmegaConf.is_dict(options) or "rules" not in options:
        raise ConfigError("the sweep over filter.ablation needs rules to leave out. Choose filter=selection")
    rules = OmegaConf.to_container(options["rules"], resolve=True)
    assert isinstance(rules, dict)
    active = active_rules({str(name): rule for name, rule in rules.items()})
    if not active:
        raise ConfigError(
            "no rule of filter=selection is on, so there is none to leave out. Choose a scorer, such as "
            "'score=[rules]', or set filter.rules.NAME.min=NUMBER"
        )
    return ",".join(arm if PLAIN_VALUE.fullmatch(arm) else quoted_value(arm) for arm in ablation_arms(active))


def quoted_value(text: str) -> str:
    """Return a text as a quoted value of an override."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def study_name(*, _root_: DictConfig) -> str:
    """Return the name of an Optuna study, computed from the overrides: the same command continues its study."""
    said = [text for text in _root_.hydra.overrides.task if text.partition("=")[0] not in NON_STUDY_KEYS]
    params = OmegaConf.to_container(_root_.hydra.sweeper.params or OmegaConf.create())
    return f"mtx-{digest({'overrides': sorted(said), 'params': params})[:8]}"


def search_directions(*, _root_: DictConfig) -> Any:
    """Return the directions of a search, from `sweep.objective` and `sweep.direction`."""
    from mtx.sweep.search_directions import search_directions

    sweep = OmegaConf.to_container(_root_.sweep)
    assert isinstance(sweep, dict)
    return search_directions(sweep.get("objective"), sweep.get("direction"))


def has_no_folder(task: Any, repair: Any, yes: Any) -> bool:
    """Return whether a run leaves no run folder: its task only reads, and neither repair=true nor yes=true is set."""
    return str(task) in READ_ONLY_TASKS and repair is not True and yes is not True


def run_folder(task: Any, repair: Any, yes: Any, folder: Any) -> str:
    """Return the run folder: `folder`, or, for a task that only reads, a temporary folder that is removed at exit."""
    if not has_no_folder(task, repair, yes):
        return str(folder)
    temporary = tempfile.mkdtemp(prefix="mtx-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


OmegaConf.register_new_resolver("run_folder", run_folder, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cores_for_each", cores_for_each, replace=True)
OmegaConf.register_new_resolver("ablation_arms", ablation_arms, replace=True)
OmegaConf.register_new_resolver("if_scored", if_scored, replace=True)
OmegaConf.register_new_resolver("run_seed", run_seed, replace=True)
OmegaConf.register_new_resolver("without_budget", without_budget, replace=True)
OmegaConf.register_new_resolver("search_directions", search_directions, replace=True)
OmegaConf.register_new_resolver("study_name", study_name, replace=True)
