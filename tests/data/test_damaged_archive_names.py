"""A zip file whose names are not the UTF-8 that it states is refused or kept, and never a trace."""

import io
import zipfile
from pathlib import Path

import pytest

from mtx.data.exchange.atomic_export_target import atomic_target
from mtx.data.exchange.safe_unpacking import unpack
from mtx.errors import ConfigError, SourceError
from mtx.training.checkpoint_content import damage_of


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("lamp-é.json", "{}")
    path = tmp_path / "damaged.zip"
    path.write_bytes(content.getvalue().replace("é".encode(), b"\xc3\x28"))
    return path


def test_an_import_of_it_is_refused(damaged: Path, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(SourceError, match=r"cannot be read as an archive: .* Nothing was imported"):
        unpack(damaged, tmp_path / "into", max_ratio=100)


def test_an_export_does_not_replace_it(damaged: Path) -> None:
    before = damaged.read_bytes()
    with pytest.raises(ConfigError, match="is not an earlier export"), atomic_target(damaged, overwrite=True):
        pass
    assert damaged.read_bytes() == before


def test_as_a_checkpoint_it_is_damaged(damaged: Path) -> None:
    assert damage_of(damaged).startswith("it is not a complete zip file")
