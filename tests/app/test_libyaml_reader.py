"""The packaged config is read by libyaml, with the values that OmegaConf's own reader gives."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf, _utils

from mtx.app.libyaml_reader import _libyaml_loader, _own_loader, _packaged_folders, read_by_libyaml


def values(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path))


def test_libyaml_reads_the_packaged_config_as_omegaconf_does(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [path for folder in _packaged_folders() for path in Path(folder).rglob("*.yaml")]
    assert len(paths) > 50
    expected = [values(path) for path in paths]
    monkeypatch.setattr(_utils, "get_yaml_loader", _utils.get_yaml_loader)  # restored afterwards
    read_by_libyaml()
    with paths[0].open() as file:
        assert isinstance(_utils.get_yaml_loader()(file), _libyaml_loader())
    assert [values(path) for path in paths] == expected


@pytest.mark.parametrize("text", ["{a:}", "a: " + "[" * 3000 + "]" * 3000, "a: 1\na: 2", "a: 1e3\nb: 日本語"])
def test_other_files_keep_the_reader_of_omegaconf(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(text)

    def read() -> Any:
        try:
            return values(tmp_path / "a.yaml")
        except Exception as error:
            return type(error)

    expected = read()
    monkeypatch.setattr(_utils, "get_yaml_loader", _utils.get_yaml_loader)  # restored afterwards
    read_by_libyaml()
    assert read() == expected
    with (tmp_path / "a.yaml").open() as file:
        assert type(_utils.get_yaml_loader()(file)) is _own_loader()
