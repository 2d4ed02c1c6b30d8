"""What configs may compute: `${cores_for_each:4}`, `${without_budget:300}`. Importing this module registers them."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mtx.cores import cores_for_each

NO_END = -1  # how Lightning says that nothing ends the training


def without_budget(value: Any, *, _root_: DictConfig) -> Any:
    """Return `value` where no budget ends the training, else Lightning's -1 for no end."""
    budget = _root_.get("budget") or {}
    limits = [limit for unit, limit in budget.items() if unit != "_target_"]
    return value if all(limit is None for limit in limits) else NO_END


OmegaConf.register_new_resolver("cores_for_each", cores_for_each, replace=True)
OmegaConf.register_new_resolver("without_budget", without_budget, replace=True)
