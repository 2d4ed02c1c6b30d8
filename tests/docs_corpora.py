"""Small files under the names that commands of the documentation use."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa

ROOT = Path(__file__).parents[1]
NUM_PAIRS = 120
TMX = (
    '<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body>'
    '<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="de"><seg>{}</seg></tuv></tu></body></tmx>'
)
# What docs say of a user's own model: any LightningModule with these parameters.
MY_MODULE = """\
from own_model import Bags


class MyModel(Bags):
    def __init__(self, source_vocab_size: int, target_vocab_size: int, pad_id: int, hidden_size: int = 16) -> None:
        super().__init__(source_vocab_size, target_vocab_size, pad_id, width=hidden_size)
"""


def pairs(start: int = 0) -> list[tuple[str, str]]:
    """Return pairs of different lengths, all distinct."""
    numbers = range(start, start + NUM_PAIRS)
    return [(f"line {n}{' and more' * (n % 7)}", f"Zeile {n}{' und mehr' * (n % 7)}") for n in numbers]


def write_corpora(folder: Path) -> None:
    """Write a file for each name of a corpus in the documentation, and the modules `my_package` and `my_module`."""
    rows = [
        {
            **{"src": source, "tgt": target, "domain": "web", "talk": f"talk {number // 8}"},
            **{"score": 0.5, "seen": "2026-01-31T00:00:00"},
        }
        for number, (source, target) in enumerate(pairs())
    ]
    lines = "\n".join(map(json.dumps, rows)).encode()
    (folder / "corpus.jsonl").write_bytes(lines)
    for name in ("corpus.jsonl.gz", "web.jsonl.gz"):
        (folder / name).write_bytes(gzip.compress(lines, compresslevel=1))
    header = "src\ttgt\tscore\tseen\n"
    (folder / "corpus.tsv").write_text(
        header + "".join(f"{source}\t{target}\t0.5\t2026-01-31T00:00:00\n" for source, target in pairs())
    )
    (folder / "dev.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs(1000)))
    for start, name in enumerate(("news.tsv", "newstest.tsv"), start=2):
        text = "".join(f"{source}\t{target}\n" for source, target in pairs(start * 1000))
        (folder / name).write_text("src\ttgt\n" + text)
    with pa.CompressedOutputStream(str(folder / "train.tsv.zst"), "zstd") as file:
        file.write("".join(f"{source}\t{target}\n" for source, target in pairs()).encode())
    for stem in ("corpus", "train"):
        for side, ending in enumerate(("en", "de")):
            (folder / f"{stem}.{ending}").write_text("".join(f"{pair[side]}\n" for pair in pairs()))
    memories = folder / "memories"
    memories.mkdir()
    for number, pair in enumerate(pairs()[:20]):
        (memories / f"{number}.tmx").write_text(TMX.format(*pair))
    shutil.copy(ROOT / "examples/own_downloader.py", folder / "my_package.py")
    shutil.copy(ROOT / "examples/own_model.py", folder)
    (folder / "my_module.py").write_text(MY_MODULE)
