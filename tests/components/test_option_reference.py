"""The types of options are those of the components' signatures."""

import json
import os
import re
from importlib import resources

from mtx.components.option_reference import all_options, field_types


def alternatives(types: dict[str, dict[str, str]]) -> dict[str, dict[str, list[str]]]:
    """Return types without the order of their alternatives: `typing` keeps that of whoever named a union first."""
    return {
        name: {key: sorted(re.split(", or | or |, ", kind.removeprefix("one of "))) for key, kind in found.items()}
        for name, found in types.items()
    }


def test_the_file_of_types_is_what_signatures_say() -> None:
    """`MTX_WRITE_GOLDEN=1 scripts/test tests/components/test_option_reference.py` writes it anew."""
    found = field_types(all_options(resolve_types=True))
    path = resources.files("mtx.components") / "option_types.json"
    if os.environ.get("MTX_WRITE_GOLDEN"):
        with resources.as_file(path) as file:
            file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    kept = json.loads(path.read_text())
    assert alternatives(kept) == alternatives(found)
    assert field_types(all_options()) == kept
    assert found["sampler/token_budget"]["sampler.max_tokens"] == "an integer of at least 1"
