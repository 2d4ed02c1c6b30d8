"""Every text format gives the same pairs for each line end, with a mark of byte order, and without a last line end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtx.infra.dataset.sources.local import LocalDownloader

PAIRS = [("one lamp", "eine Lampe"), ("日本\u2028x", "é"), ("three", "drei")]
HEAD = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Language: de\\n"\n'
TMX = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/>\n<body>\n{}</body>\n</tmx>\n'
UNIT = '<tu><tuv xml:lang="en"><seg>{}</seg></tuv>\n<tuv xml:lang="de"><seg>{}</seg></tuv></tu>\n'
XLIFF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">\n'
    '<file original="a" source-language="en" target-language="de" datatype="plaintext"><body>\n{}</body></file>\n'
    "</xliff>\n"
)
TRANS_UNIT = '<trans-unit id="{}">\n<source>{}</source>\n<target>{}</target></trans-unit>\n'
FORMATS = {
    "jsonl": "".join(f'{{"src": "{src}", "tgt": "{tgt}"}}\n' for src, tgt in PAIRS),
    "tsv": "src\ttgt\n" + "".join(f"{src}\t{tgt}\n" for src, tgt in PAIRS),
    "csv": "src,tgt\n" + "".join(f'"{src}",{tgt}\n' for src, tgt in PAIRS),
    "po": HEAD + "".join(f'\nmsgid "{src}"\nmsgstr "{tgt}"\n' for src, tgt in PAIRS),
    "tmx": TMX.format("".join(UNIT.format(src, tgt) for src, tgt in PAIRS)),
    "xlf": XLIFF.format("".join(TRANS_UNIT.format(number, *pair) for number, pair in enumerate(PAIRS))),
    "txt": "",  # two files, one for each language
}


def mixed(text: str) -> str:
    """Return a text whose lines end in turn with CR LF and LF."""
    lines = text.split("\n")
    ends = ("\r\n", "\n")
    return "".join(line + ends[number % 2] for number, line in enumerate(lines[:-1])) + lines[-1]


VARIANTS: dict[str, Callable[[str], bytes]] = {
    "no last end": lambda text: text.rstrip("\n").encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CRLF, no last end": lambda text: text.rstrip("\n").replace("\n", "\r\n").encode(),
    "mark": lambda text: text.encode("utf-8-sig"),
    "mark, CRLF": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "mark, no last end": lambda text: text.rstrip("\n").encode("utf-8-sig"),
    "mixed": lambda text: mixed(text).encode(),
    "mark, mixed, no last end": lambda text: mixed(text.rstrip("\n")).encode("utf-8-sig"),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_the_pairs_are_the_same(suffix: str, variant: str, tmp_path: Path) -> None:
    change = VARIANTS[variant]
    options: dict[str, Any] = {}
    if suffix == "txt":
        for side, name in enumerate(("source_path", "target_path")):
            options[name] = str(tmp_path / f"{name}.txt")
            Path(options[name]).write_bytes(change("".join(f"{pair[side]}\n" for pair in PAIRS)))
    else:
        options["path"] = str(tmp_path / f"lamps.{suffix}")
        Path(options["path"]).write_bytes(change(FORMATS[suffix]))
    batches = LocalDownloader(**options).batches("train", {})
    assert [(row["src"], row["tgt"]) for batch in batches for row in batch.to_pylist()] == PAIRS
