"""Texts that often break readers, stores and tokenizers, and functions that write them as JSON Lines, TSV and CSV."""

import json

# Each name describes what is unusual about its text. All texts are valid, and readers must return them unchanged.
TEXTS = {
    "plain": "one two",
    "NUL": "a\0b",
    "controls": "bell\x07 back\x08 escape\x1b[2J delete\x7f C1\x9b",
    "byte order mark in the middle": "a\ufeffb",
    "byte order mark at its start": "\ufeffab",
    "CR alone": "a\rb",
    "line separators of Unicode": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "right to left": "\u202bשלום\u202c \u200fעולם\u200f \u2067مرحبا\u2069",
    "overrides of direction": "exe.\u202egpj",
    "zero width": "a\u200bb\u200cc\u200dd\u2060e\u00adf",
    "combining marks": "e\u0301\u0323 Z\u0351\u036b\u0343a\u030a" + "\u0300" * 50,
    "normal forms mixed": "\u00e9 e\u0301 \u212b \uff21 \ufb01 \u1e9b\u0323 \uac00 \u1100\u1161",
    "emoji sequences": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea "
    "\u263a\ufe0f \U0001f44d\U0001f3fd \U0001f3f4\U000e0067\U000e0062\U000e007f",
    "ends of planes": "\uffff \ufffe \ufffd \ue000 \U0001fffe \U0010ffff",
    "HTML": "<p class=\"x\">a &amp; b &lt;c&gt; &#0; &nbsp;</p><script>alert('1')</script><!-- -->",
    "spaces around": "  a\u00a0\u3000\u2003b  ",
    "quotes": '"a" \'b\' ""c"" `d` \\"e\\" “f” «g»',
    "backslashes": "\\ \\n \\u0041 \\\\ C:\\new",
    "signs of formats": "a,b;c|d{e}[f]:g=h#i%j$k!l",
    "looks like a number": "1e309",
    "looks like nothing": "NULL",
    "special tokens": "<PAD><BOS><EOS><UNK> </s> [SEP] Ġ Ċ ##x ▁y",
    "unassigned and surrogates' neighbours": "\u0378\ud7ff\ue000",
    "long": "wort " * 20_000,
    "long without a space": "x" * 100_000,
    "long and combining": "a" + "\u0301" * 20_000,
}
TAB = {"tab": "a\tb"}
LINE_ENDS = {"line feed": "a\nb", "CR and line feed": "a\r\nb", "line end behind": "a\n"}
EVERY = {**TEXTS, **TAB, **LINE_ENDS}

Pair = tuple[str, str]


def pairs(texts: dict[str, str]) -> list[Pair]:
    """Return each text as a source with its name as the target, and then the same pairs with sides swapped."""
    return [(text, f"{name} is odd") for name, text in texts.items()] + [
        (f"{name} is odd", text) for name, text in texts.items()
    ]


def jsonl(some: list[Pair], *, escaped: bool = False) -> bytes:
    """Return pairs as JSON Lines."""
    return b"".join(json.dumps({"src": a, "tgt": b}, ensure_ascii=escaped).encode() + b"\n" for a, b in some)


def tsv(some: list[Pair]) -> bytes:
    """Return pairs as TSV with a header line."""
    return b"src\ttgt\n" + b"".join(f"{a}\t{b}\n".encode() for a, b in some)


def csv(some: list[Pair]) -> bytes:
    """Return pairs as CSV with a header line and every field in quotes."""
    quoted = ((f'"{a.replace(chr(34), chr(34) * 2)}"', f'"{b.replace(chr(34), chr(34) * 2)}"') for a, b in some)
    return b"src,tgt\r\n" + b"".join(f"{a},{b}\r\n".encode() for a, b in quoted)
