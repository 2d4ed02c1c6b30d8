"""The part of `report.json` about the store: the ids of all datasets and artifacts that a run used."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from mtx.records.record_file import Record


class StageNames(Record):
    """The ids of the datasets and artifacts in the store that a run used, by stage and split."""

    raw: dict[str, str] = Field(default_factory=dict)
    text: dict[str, str] = Field(default_factory=dict)
    split: dict[str, str] = Field(default_factory=dict)
    scores: dict[str, dict[str, str]] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    filtered: dict[str, str] = Field(default_factory=dict)
    tokenizer: str | None = None
    encoded: dict[str, str] = Field(default_factory=dict)

    def by_stage(self) -> dict[str, list[str]]:
        """Return the different ids of each stage."""
        return {stage: list(dict.fromkeys(_strings(value))) for stage, value in self.model_dump().items()}


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in nested mappings."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif value is not None:
        yield value
