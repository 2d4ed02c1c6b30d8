"""Windows of zstd files: long ones are read, and those that cannot be are told."""

import struct
import sys
from pathlib import Path

import pytest
import zstandard

from mtx.errors import SourceError
from mtx.infra.dataset.sources import zstd_window
from mtx.infra.dataset.sources.local import LocalDownloader

LINE = b'{"src": "lamp", "tgt": "Lampe"}\n'


def frame(window_log: int, text: bytes) -> bytes:
    """Return a frame with one raw block, as `zstd --long=WINDOW_LOG` writes it for input of unknown size."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, window_log - 10 << 3]) + struct.pack("<I", len(text) << 3 | 1)[:3] + text


def single(num_bytes: int, text: bytes) -> bytes:
    """Return a frame whose window is its whole content, which has `num_bytes` bytes by its header."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", num_bytes) + struct.pack("<I", len(text) << 3 | 1)[:3] + text


def compressed(text: bytes, window_log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return bytes(compressor.compress(text) + compressor.flush())


def num_pairs(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return sum(batch.num_rows for batch in LocalDownloader(path=path).batches("train", {}))


@pytest.mark.parametrize("window_log", [10, 27, 28, 30, 31])
@pytest.mark.parametrize("times", [1, 2])
def test_windows_of_up_to_2_gb_are_read(tmp_path: Path, window_log: int, times: int) -> None:
    path = tmp_path / "a.jsonl.zst"
    assert num_pairs(path, frame(window_log, LINE * 9) * times) == 9 * times
    assert num_pairs(path, compressed(LINE * 5_000, window_log) * times) == 5_000 * times


@pytest.mark.parametrize("window_log", [32, 41])
def test_longer_windows_are_told(tmp_path: Path, window_log: int) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pytest.raises(SourceError) as raised:
        num_pairs(path, frame(window_log, LINE))
    said = f"{path} was compressed with a window of {1 << window_log - 20:,} MB (zstd --long), but mtx takes at most"
    assert said in str(raised.value)
    assert "zstd -d --long=31" in str(raised.value)


def test_a_package_that_is_not_there_and_a_long_window_in_a_later_frame_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pytest.raises(SourceError, match=r"a window of more than 128 MB .* `zstd -d --long=31 FILE`"):
        num_pairs(path, frame(20, LINE) + frame(28, LINE))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(SourceError, match=r"a window of 256 MB .* not installed \(`pip install zstandard`\)"):
        num_pairs(path, frame(28, LINE))


@pytest.mark.parametrize("kept", [7, 30, -1, -9])
def test_a_truncated_file_is_told(tmp_path: Path, kept: int) -> None:
    data = compressed(LINE * 5_000, 28)
    for whole in (b"", data):
        with pytest.raises(
            SourceError, match=r"is not a complete zstd file: (it ends inside a frame|it ends too early)"
        ):
            num_pairs(tmp_path / "a.jsonl.zst", whole + data[:kept])


def test_the_window_is_that_of_the_header() -> None:
    assert zstd_window.window_bytes(frame(28, LINE)) == 1 << 28
    assert zstd_window.window_bytes(single(200 << 20, LINE)) == 200 << 20
    assert zstd_window.window_bytes(b"\x28\xb5\x2f\xfd\0" + bytes([18 << 3 | 1]) + LINE) == (1 << 28) + (1 << 25)
    assert zstd_window.window_bytes(b"\x28\xb5\x2f\xfd") == 0
    assert zstd_window.window_bytes(b"text") == 0
