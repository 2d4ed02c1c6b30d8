r"""Decode an XML file, and put stand-ins in the places of what XML 1.0 does not allow in a text.

The XML parser stops at the first character, reference or entity that XML does not allow. A stand-in is U+FDD0 and a
code, which the parser takes as text. So one such unit can be left out, and all others are read. The codes are:
`=` for U+FDD0 itself, `1f;` for U+001F, and `@` for an `&` that begins no reference which XML allows.
"""

import codecs
import re
from collections.abc import Iterator
from typing import IO

from mtx.assumption_log import assume
from mtx.errors import SourceError
from mtx.infra.dataset.sources.local_files import SourceFile

CHUNK_BYTES = 256 << 10  # bytes that are decoded at once
SNIFFED_BYTES = 1_000  # the XML declaration is in the first bytes
BYTE_ORDER_MARKS = (  # UTF-32 first, because its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
STARTS = (
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding[ \t\r\n]*=[ \t\r\n]*[\"']([^\"'>]{1,60})[\"']")
NO_CHARSETS = ("idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7")  # codecs of Python
WIDE = re.compile("utf-(16|32)")  # codecs in which `<?xml` is not the same bytes as in ASCII

STAND_IN = "\ufdd0"
MAX_REFERENCE_CHARS = 64  # longer references are left to the parser
# Two patterns, because a search for one set of characters or for one character is several times as fast.
CHARACTER = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufdd0\ufffe\uffff]")
REFERENCE = re.compile("&(?:#([0-9]{1,60});|#x([0-9a-fA-F]{1,60});|(?!(?:amp|lt|gt|quot|apos);))")
MARKED = re.compile(f"{STAND_IN}(?:([0-9a-f]+);|@(#?\\w{{1,60}};)?)")


def suitable_chunks(stream: IO[bytes], file: SourceFile) -> Iterator[bytes]:
    """Yield a file in UTF-8 with stand-ins, whatever its encoding. Raises SourceError for an unknown encoding."""
    head = stream.read(CHUNK_BYTES)
    codec = _codec_of(head[:SNIFFED_BYTES], file)
    decoder = codecs.getincrementaldecoder(codec)(errors="surrogateescape")
    held, chunk, num_bytes = "", head, 0
    while True:
        try:
            text = held + decoder.decode(chunk, final=not chunk)
        except UnicodeError as error:
            raise SourceError(
                f"{file.name} is not valid in its encoding {codec}, near byte {num_bytes + 1:,}. The file is truncated "
                "or damaged: copy or download the file again"
            ) from error
        held = ""
        if chunk and (start := text.rfind("&", -MAX_REFERENCE_CHARS)) >= 0 and ";" not in text[start:]:
            text, held = text[:start], text[start:]  # the chunk may end inside a reference
        yield REFERENCE.sub(_reference_stand_in, CHARACTER.sub(_character_stand_in, text)).encode()
        if not chunk:
            return
        num_bytes += len(chunk)
        chunk = stream.read(CHUNK_BYTES)


def without_stand_ins(text: str) -> tuple[str, str | None]:
    """Return a text without the escapes of U+FDD0, and what XML does not allow in it; None: nothing."""
    marked = MARKED.search(text)
    if marked is None:
        return text.replace(f"{STAND_IN}=", STAND_IN), None
    code, reference = marked.groups()
    if code is not None:
        number = int(code, 16)
        if 0xDC80 <= number <= 0xDCFF:
            return text, f"the byte {number - 0xDC00:#04x}, which is not valid in the file's encoding"
        return text, f"the character U+{number:04X}, which XML does not allow"
    if reference is None:
        return text, "an '&' that begins no reference; XML writes it as '&amp;'"
    if reference.startswith("#"):
        return text, f"the reference '&{reference}' to a character that XML does not allow"
    return text, f"the entity '&{reference}', which XML does not define, and mtx never fetches a DOCTYPE"


def _codec_of(head: bytes, file: SourceFile) -> str:
    """Return the name of Python's codec for a file that begins with `head`. Raises SourceError if there is none."""
    for start, codec in (*BYTE_ORDER_MARKS, *STARTS):
        if head.startswith(start):
            return codec
    declared = DECLARED.match(head.lstrip())
    name = declared[1].decode("latin-1").strip() if declared else "utf-8"
    try:
        info = codecs.lookup(name)
        known = info._is_text_encoding and info.name not in NO_CHARSETS
    except (LookupError, ValueError, UnicodeError):
        known = False
    if not known:
        raise SourceError(
            f"{file.name} names the encoding {name!r}, which Python does not know. Convert the file with "
            f"`iconv -f {name} -t UTF-8 OLD > NEW`, and change the name in its first line to UTF-8"
        )
    if WIDE.match(info.name):
        assume(f"{file.name} is in UTF-8, because its first line is no {name}, though it names that encoding")
        return "utf-8"
    return info.name


def _character_stand_in(match: re.Match[str]) -> str:
    return f"{STAND_IN}=" if match[0] == STAND_IN else f"{STAND_IN}{ord(match[0]):x};"


def _reference_stand_in(match: re.Match[str]) -> str:
    """Return a reference to a character that XML allows as it is, and a stand-in for any other `&`."""
    decimal, hexadecimal = match.groups()
    if decimal or hexadecimal:
        number = int(decimal) if decimal else int(hexadecimal, 16)
        if number < 0x110000 and (number == ord(STAND_IN) or not CHARACTER.fullmatch(chr(number))):
            return match[0]
    return f"{STAND_IN}@{match[0][1:]}"
