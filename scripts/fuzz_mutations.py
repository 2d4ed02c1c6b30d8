"""Random changes of valid files: flipped bits, parts cut, doubled and swapped, and bytes that often break parsers."""

import random

NASTIES = [
    *(b"", b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80"),
    *(b"\r", b"\r\n", b"\n", b"\n\n", b"\t", b'"', b'""', b"'", b",", b"\\", b"\\u", b"\\ud800", b"\\u0000"),
    *(b"{", b"}", b"[", b"]", b":", b"null", b"true", b"NaN", b"-NaN", b"Infinity", b"1e999", b"-0", b"9" * 400),
    *(b"[" * 3000, b'{"a":' * 3000, b"<a>" * 500, b"<!DOCTYPE a>", b'<!ENTITY a "b">', b"&a;", b"&#0;", b"]]>"),
    *(
        b"../../x",
        b"/etc/passwd",
        b"\xe2\x80\xa8",
        b"\xe2\x80\xae",
        b"\x1b[2J",
        b"msgid",
        b"msgstr[99]",
        b"#~ ",
        b"x" * 70000,
    ),
    *(
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\x00\x80",
        b"PK\x03\x04",
        b"PAR1",
        b"ARROW1",
    ),
]


def mutated(seeds: list[bytes], draw: random.Random) -> bytes:
    """Return a random seed file with one to eight random changes."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 3, 5, 8))):
        begin = draw.randrange(len(data) + 1)
        end = min(len(data), begin + draw.choice((1, 2, 4, 16, 64, 512)))
        change = draw.randrange(8)
        if change == 0 and begin < len(data):
            data[begin] ^= 1 << draw.randrange(8)
        elif change == 1:
            del data[begin:end]
        elif change in (2, 3):
            data[begin:begin] = draw.choice(NASTIES)
        elif change == 4:
            data[begin:end] = draw.choice(NASTIES)
        elif change == 5:
            data[begin:begin] = data[begin:end] * draw.choice((1, 2, 50))
        elif change == 6:
            other = draw.choice(seeds)
            cut = draw.randrange(len(other) + 1)
            data[begin:end] = other[cut : cut + draw.choice((1, 8, 64, 512))]
        else:
            del data[begin:]
    return bytes(data)
