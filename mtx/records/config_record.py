"""`config.json`: the resolved config of a job, as plain values, with secrets replaced by `***`.

The file has the config's own keys, so it has no version key; `status.json` in the same folder has one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtx.components.allowed_targets import TARGET_KEY
from mtx.components.former_paths import current_path
from mtx.records.record_file import read_object, write_object
from mtx.records.report_metrics import Value, flat_mapping

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class JobConfig:
    """The resolved config of a job.

    Attributes:
        values: The config as nested plain values.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "JobConfig | None":
        """Return the config in a job's folder; None if there is no file.

        Raises:
            DamagedError: The file cannot be read.
        """
        values = read_object(folder / CONFIG_FILE, "config of a job")
        return None if values is None else cls(values)

    def write(self, folder: Path) -> Path:
        """Write the config into a folder atomically, and return the path of the file.

        Raises:
            StoreError: The file cannot be written.
        """
        write_object(folder / CONFIG_FILE, self.values)
        return folder / CONFIG_FILE

    def settings(self) -> dict[str, Value]:
        """Return all values by dotted key, without the group `hydra`; lists as JSON, former class paths as today's."""
        return {
            key: _value(key, value)
            for key, value in flat_mapping(self.values).items()
            if key.partition(".")[0] != "hydra"
        }


def _value(key: str, value: Any) -> Value:
    if isinstance(value, str) and key.rpartition(".")[2] == TARGET_KEY:
        module, dot, name = value.rpartition(".")
        return f"{current_path(module) or module}{dot}{name}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
