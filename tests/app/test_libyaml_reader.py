"""Reading YAML by libyaml gives the values and the errors that OmegaConf's own reader gives."""

import io
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import pytest
from omegaconf import OmegaConf, _utils
from yaml import YAMLError

from mtx.app.libyaml_reader import read_by_libyaml

TEXTS = [
    "a: 1e3\nb: 1_000\nc: 0x1f\nd: 2020-01-01\ne: 1:30\nf: .inf\ng: ~\nh: yes\n",
    "a: 'it''s'\nb: \"\\u00e9 \\U0001F600\"\nc: |\n  two\n  lines\n",
    "a: &x {b: 1}\nc: *x\n",
    "- 1.\n- -.5\n- ''\n",
    "[]",
    "a: ${b}\nb: 日本語 עברית e\u0301\n",
]
INVALID = ["a: 1\na: 2\n", "a: [1", "a: b: c", "a: !!python/object/apply:os.system [ls]", "a: \0", "\t- a"]


def values(text: str) -> Any:
    try:
        return repr(OmegaConf.to_container(OmegaConf.load(io.StringIO(text))))
    except (YAMLError, OSError, ValueError) as error:
        return type(error)


def packaged(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from packaged(entry)
        elif entry.name.endswith(".yaml"):
            yield entry.read_text(encoding="utf-8")


def test_libyaml_reads_what_omegaconf_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*TEXTS, *INVALID, *packaged(resources.files("mtx.conf"))]
    expected = [values(text) for text in texts]
    monkeypatch.setattr(_utils, "get_yaml_loader", _utils.get_yaml_loader)  # restored afterwards
    read_by_libyaml()
    assert "libyaml" in _utils.get_yaml_loader().__module__
    assert [values(text) for text in texts] == expected
    assert all(isinstance(found, type) for found in expected[len(TEXTS) : len(TEXTS) + len(INVALID)])
