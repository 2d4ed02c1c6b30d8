"""Encodings of XML, and single units with something that XML does not allow."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.assumption_log import collected_assumptions
from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.sources import xml_decoding
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.local_files import SourceFile

UTF8 = '<?xml version="1.0" encoding="UTF-8"?>'
FILE = SourceFile(Path("a.tmx"), "tmx", None, "a", (0, 0))


def tmx(text: str, encoding: str = "UTF-8") -> str:
    variants = "".join(f'<tuv xml:lang="{name}"><seg>{word}</seg></tuv>' for name, word in (("en", "x"), ("ja", text)))
    good = '<tu><tuv xml:lang="en"><seg>one</seg></tuv><tuv xml:lang="ja"><seg>1</seg></tuv></tu>'
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
    return f"{head}{good}\n<tu>{variants}</tu>\n{good}\n</body></tmx>\n"


def xliff(text: str) -> str:
    good = '<trans-unit id="1"><source>one</source><target>1</target></trans-unit>'
    return (
        f'{UTF8}\n<xliff version="1.2"><file source-language="en" target-language="ja"><body>\n{good}\n'
        f"<trans-unit><source>x</source><target>{text}</target></trans-unit>\n{good}\n</body></file></xliff>"
    )


def read(path: Path, data: str | bytes, **options: str) -> tuple[list[str], dict[str, int]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    counts: dict[str, int] = {}
    batches = LocalDownloader(path=path, **options).batches("train", counts)  # type: ignore[arg-type]
    return [row["tgt"] for batch in batches for row in batch.to_pylist()], counts


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a&#x1F;b", "the reference '&#x1F;' to a character that XML does not allow"),
        ("a&#0;b", "the reference '&#0;'"),
        ("a&#xD800;b", "the reference '&#xD800;'"),
        ("a&#1114112;b", "the reference '&#1114112;'"),
        ("a\x0bb", "the character U+000B, which XML does not allow"),
        ("a\0b", "the character U+0000"),
        ("a\ufffeb", "the character U+FFFE"),
        ("<![CDATA[a\x0bb]]>", "the character U+000B"),
        ("a&nbsp;b", "the entity '&nbsp;', which XML does not define"),
        ("R&D", "an '&' that begins no reference; XML writes it as '&amp;'"),
    ],
)
@pytest.mark.parametrize("ending", [".tmx", ".xlf"])
def test_a_unit_with_what_xml_does_not_allow_is_left_out(tmp_path: Path, text: str, what: str, ending: str) -> None:
    data = tmx(text) if ending == ".tmx" else xliff(text)
    path = tmp_path / f"a{ending}"
    assert read(path, data, on_error="skip") == (["1", "1"], {"illegal_xml": 1})
    with pytest.raises(MalformedPairError) as raised:
        read(path, data)
    assert f"{path}, line 4: a text has {what}" in str(raised.value)
    assert "downloader.on_error=skip" in str(raised.value)


def test_a_byte_of_another_encoding_is_left_out_with_its_unit(tmp_path: Path) -> None:
    data = tmx("aQb").encode().replace(b"Q", b"\xfc")
    assert read(tmp_path / "a.tmx", data, on_error="skip") == (["1", "1"], {"illegal_xml": 1})
    with pytest.raises(MalformedPairError, match="the byte 0xfc, which is not valid in the file's encoding"):
        read(tmp_path / "a.tmx", data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<![CDATA[a & b &#x1F; &nbsp;]]>", "a & b &#x1F; &nbsp;"),
        ("a\ufdd0b", "a\ufdd0b"),
        ("\ufdd0=\ufdd0@\ufdd0", "\ufdd0=\ufdd0@\ufdd0"),
        ("&#xFDD0;", "\ufdd0"),
        ("&#233;&amp;&lt;&#x65e5;", "é&<日"),
        ("<ph>\x0b</ph>a", "a"),  # outside the text
        ("<!-- & \x0b -->a", "a"),
    ],
)
def test_what_xml_allows_and_what_is_no_text_stays(tmp_path: Path, text: str, expected: str) -> None:
    assert read(tmp_path / "a.tmx", tmx(text)) == (["1", expected, "1"], {})


@pytest.mark.parametrize(
    "encoding",
    ["utf8", "UTF8", "Shift_JIS", "EUC-JP", "ISO-2022-JP", "cp932", "GB18030", "utf-8-sig", "UTF-16", "utf-32", "U8"],
)
def test_encodings_that_python_knows_are_read(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path / "a.tmx", tmx("日本語", encoding).encode(encoding))[0] == ["1", "日本語", "1"]


@pytest.mark.parametrize(
    ("encoding", "text"), [("latin1", "é"), ("windows-1252", "€"), ("koi8-r", "лампа"), ("macintosh", "é")]
)
def test_encodings_of_one_byte_are_read(tmp_path: Path, encoding: str, text: str) -> None:
    assert read(tmp_path / "a.tmx", tmx(text, encoding).encode(encoding))[0] == ["1", text, "1"]


def test_utf_16_without_a_mark_is_read_and_a_name_that_is_not_true_is_an_assumption(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        assert read(tmp_path / "a.tmx", tmx("日本語", "utf-16").encode(encoding))[0] == ["1", "日本語", "1"]
    with collected_assumptions() as assumed:
        assert read(tmp_path / "a.tmx", tmx("é", "UTF-16"))[0] == ["1", "é", "1"]
    assert "a.tmx is in UTF-8, because its first line is no UTF-16" in assumed[0]


@pytest.mark.parametrize("name", ["x-unknown", "rot13", "base64", "unicode_escape", "idna", "undefined"])
def test_other_encodings_are_told_with_iconv(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SourceError, match=f"names the encoding '{name}', which .* `iconv -f {name} -t UTF-8 OLD > NEW`"
    ):
        read(tmp_path / "a.tmx", tmx("x", name), on_error="skip")
    with pytest.raises(SourceError, match="is not valid in its encoding utf-16"):
        read(tmp_path / "a.tmx", tmx("x", "utf-16").encode("utf-16")[:-1])


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="a&#x1F;\x0b\ufdd0é<", max_size=40), st.integers(1, 9))
def test_chunks_make_no_difference(text: str, size: int) -> None:
    whole = b"".join(xml_decoding.suitable_chunks(io.BytesIO(text.encode()), FILE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_decoding, "CHUNK_BYTES", size)
        # A chunk of the first bytes may be too short to hold the declaration, of which there is none here.
        assert b"".join(xml_decoding.suitable_chunks(io.BytesIO(text.encode()), FILE)) == whole
