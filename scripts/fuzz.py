"""Fuzzing: run every parser of mtx on broken and hostile input, and count the failures.

    scripts/fuzz                             run 2,000 inputs per parser, and print a table
    scripts/fuzz --inputs 200 --only jsonl tsv
    scripts/fuzz --seconds 600               run as many inputs as possible in ten minutes

An input is a valid file with random changes: flipped bits, and deleted, repeated or swapped parts. Other changes
insert byte strings that often break parsers. The same seed gives the same inputs. An input passes if the parser
returns, or raises an error of mtx, within 10 seconds. Every other input is written to a file, and the exit code is
then 1. The exit code is also 1 if the memory of the process grows by more than 1 GB.
"""

import argparse
import gzip
import io
import json
import logging
import random
import resource
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pyarrow as pa
import pyarrow.parquet as pq

SECONDS_AT_MOST = 10.0  # time limit of one input
SLOWER = {"overrides": 10}  # divisor of the number of inputs for slow parsers: Hydra takes 0.1 s per input
MB_AT_MOST = 1000  # limit of the growth of the process, over all inputs

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

Parser = Callable[[Path], object]


@dataclass
class Outcome:
    """Results of the inputs of one parser: counts, times, kinds of errors, and the inputs that failed."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """Number of inputs that were run."""
        return self.read + self.refused + len(self.failures)


class TooSlowError(BaseException):
    """An input exceeded the time limit; no subclass of Exception, so that no parser catches it as a file error."""


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


def local(on_error: str) -> Parser:
    """Return a parser that reads a file as `downloader=local` does; a `.src` file gets a line-aligned `.tgt` file."""

    def read(path: Path) -> object:
        from mtx.infra.dataset.sources.local import LocalDownloader

        if path.suffix == ".src":
            other = path.with_suffix(".tgt")
            other.write_bytes(b"eins\nzwei\ndrei\n")
            source = LocalDownloader(source_path=path, target_path=other, on_error=on_error)  # type: ignore[arg-type]
        else:
            source = LocalDownloader(path=path, on_error=on_error)  # type: ignore[arg-type]
        source.info()
        for batch in source.batches("train", {}):
            batch.validate(full=True)
        return None

    return read


def manifest(path: Path) -> object:
    """Parse a manifest."""
    from mtx.data.dataset import TranslationDataset
    from mtx.errors import DamagedError

    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedError("no JSON") from error  # the storage layers raise the same error for invalid JSON
    return TranslationDataset.from_manifest(said).to_manifest()


def shelf(path: Path) -> object:
    """Parse a JSON file of manifests (`manifests.json`), and read all entries."""
    from mtx.infra.dal.oal import ObjectAccessLayer

    path.rename(path.with_name("manifests.json"))
    layer = ObjectAccessLayer(location=path.parent)
    return [layer.read(name) for name in layer.get_all_names() if layer.exists(name)]


def database(path: Path) -> object:
    """Open a SQLite database of manifests, and read all entries."""
    from mtx.infra.dal.sqlite import SQLiteObjectLayer

    path.rename(path.with_name("manifests.sqlite"))
    layer = SQLiteObjectLayer(location=path.parent)
    return [layer.read(name) for name in layer.get_all_names() if layer.exists(name)]


def arrow(path: Path) -> object:
    """Read the rows of an Arrow payload."""
    from mtx.infra.dal.arrow import ArrowFileLayer

    return list(ArrowFileLayer(location=path.parent).read(path.stem))


def json_rows(path: Path) -> object:
    """Read the rows of a JSON Lines payload."""
    from mtx.infra.dal.fal import FileAccessLayer

    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    path.with_suffix(".schema").write_bytes(schema.serialize().to_pybytes())
    return list(FileAccessLayer(location=path.parent).read(path.stem))


def tokenizer(path: Path) -> object:
    """Load a tokenizer file, and encode texts with it."""
    from mtx.data.tokenize.pretrained import PretrainedTokenization
    from mtx.data.tokenize.tokenization import encode_texts

    made = PretrainedTokenization(filepath=path).load().tokenizer
    return encode_texts(made, ["a text", "<EOS>"])


def checkpoint(path: Path) -> None:
    """Check that a checkpoint fits a model."""
    import torch

    from mtx.training.checkpoint_selection import check_compatible

    check_compatible(path, torch.nn.Linear(2, 2))  # type: ignore[arg-type]  # any module works


def overrides(path: Path) -> object:
    """Compose a config with an override."""
    from mtx.app.command import compose

    return compose([path.read_bytes().decode(errors="replace")])


def held_out(path: Path) -> object:
    """Read the statistics of held-out pairs."""
    from mtx.evaluation.corpus_metrics import METRICS
    from mtx.records.held_out_sentences import HELD_OUT_FILE, read_held_out

    path.rename(path.with_name(HELD_OUT_FILE))
    return [read_held_out(path.parent, metric) for metric in METRICS]


def sentences() -> bytes:
    """Return the content of a file with the statistics of held-out pairs."""
    import tempfile

    import numpy as np

    from mtx.evaluation.corpus_metrics import score_statistics
    from mtx.records.held_out_sentences import complete_held_out, write_likelihoods

    with tempfile.TemporaryDirectory() as folder:
        write_likelihoods(Path(folder), np.array([[0.0, 1.0, 2.0], [1.5, 2.5, 3.5], [3.0, 4.0, 5.0]]))
        scores = score_statistics([0, 2], ["a b", "c"], ["a c", "d"], tokenizer="13a")
        made = complete_held_out(Path(folder), digest="d", documents=np.array([0, 0, -1]), scores=scores)
        assert made is not None
        return made.read_bytes()


def parsers() -> dict[str, tuple[str, Parser, list[bytes]]]:
    """Return each parser by name, with the suffix of its files and with valid files to start from."""
    from tokenizers import Tokenizer

    from mtx.data.dataset import TranslationDataset
    from mtx.data.tokenize.byte import ByteTokenization

    rows = [("one", "eins"), ("two \u00e4\U0001f600", "zwei"), ('three, "quoted"', "drei")]
    objects = [{"src": a, "tgt": b} for a, b in rows]
    nested = [{"id": 3, "translation": {"en": a, "de": b}} for a, b in rows]
    lines = [
        "\n".join(json.dumps(o, ensure_ascii=e) for o in some).encode()
        for some in (objects, nested)
        for e in (False, True)
    ]
    table = pa.Table.from_pylist(objects)
    repeated = pa.Table.from_arrays([pa.array(["a"])] * 4, ["src", "tgt", "src", "x"])
    byte_tokenizer: Tokenizer = ByteTokenization().tokenizer
    dataset = TranslationDataset(name="x", stage="raw", split="train", languages=("en", "de"), data=objects)
    as_manifest = json.dumps(dataset.to_manifest()).encode()
    found: dict[str, tuple[str, Parser, list[bytes]]] = {
        "jsonl": (".jsonl", local("raise"), lines),
        "jsonl, skip": (".jsonl", local("skip"), [*lines, b'{"corpus": 1}\n{"src": "x"}\nnull\n' + lines[0]]),
        "tsv": (".tsv", local("skip"), [b"src\ttgt\n" + b"".join(f"{a}\t{b}\n".encode() for a, b in rows)]),
        "csv": (
            ".csv",
            local("skip"),
            [b'src,tgt\none,eins\n"two, ""x""","zwei\nzwei"\n', b"en,German,id\r\na\rb,c,1\n\xef\xbb\xbf,,2"],
        ),
        "lines": (".src", local("skip"), [b"one\ntwo\nthree\n", "\ufeffone\r\ntwo\nthree".encode()]),
        "parquet": (".parquet", local("skip"), [parquet(table), parquet(repeated)]),
        "gzip": (".jsonl.gz", local("skip"), [gzip.compress(lines[0], mtime=0)]),
        "zstd": (".tsv.zst", local("skip"), [zstd(b"src\ttgt\na\tb\n"), long_window(b"src\ttgt\na\tb\n")]),
        "manifest": (".json", manifest, [as_manifest]),
        "shelf": (".json", shelf, [b'{"raw-1": ' + as_manifest + b', "b": {"a": [1, null, "x"]}}']),
        "sqlite": (".sqlite", database, [sqlite(as_manifest.decode())]),
        "arrow": (".arrow", arrow, [ipc(table)]),
        "jsonl rows": (".jsonl", json_rows, [lines[0] + b"\n"]),
        "held-out statistics": (".parquet", held_out, [sentences()]),
        "tokenizer": (".json", tokenizer, [byte_tokenizer.to_str().encode(), bpe(byte_tokenizer)]),
        "checkpoint": (".ckpt", checkpoint, [weights()]),
        "overrides": (
            ".txt",
            overrides,
            [b"sampler.max_tokens=4096", b"+a.b=[1,{x:y}]", b"~trainer.max_steps", b"x='${y}'"],
        ),
    }
    found.update(markup())
    import mtx.training.checkpoint_selection  # noqa: F401  # imported before the time of an input is measured

    return found


def markup() -> dict[str, tuple[str, Parser, list[bytes]]]:
    """Return the parsers of translation file formats (TMX, XLIFF, gettext, OPUS archives)."""
    tmx = (
        b'<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body><tu><tuv xml:lang="en">'
        b'<seg>one <bpt i="1"/></seg></tuv><tuv xml:lang="de"><seg>eins &amp; 1</seg></tuv></tu></body></tmx>'
    )
    xliff = (
        b'<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">'
        b'<file source-language="en" target-language="de"><body><trans-unit id="1"><source>one</source>'
        b"<target>eins</target></trans-unit></body></file></xliff>"
    )
    po = (
        b'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nLanguage: de\\n"\n\n#, fuzzy\nmsgid "one"\n'
        b'msgstr "eins"\n\nmsgctxt "c"\nmsgid "two"\nmsgid_plural "twos"\nmsgstr[0] "zwei"\nmsgstr[1] "zweie"\n'
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in (("x.de-en.de", "eins\nzwei\n"), ("x.de-en.en", "one\ntwo\n"), ("README", "x")):
            file.writestr(name, text)
            file.writestr(f"__MACOSX/._{name}", "\0\5\x16\7")
    three = tmx.replace(b'"en"><seg>', b'"fr"><seg>un &#x1F; &nbsp; \x0b</seg></tuv><tuv xml:lang="en"><seg>')
    japanese = (
        tmx.decode().replace('"1.0"', '"1.0" encoding="Shift_JIS"').replace("eins", "\u65e5\u672c").encode("shift_jis")
    )
    files = xliff.replace(b"<file ", b'<file source-language="en" target-language="fr"></file><file ')
    slovenian = b'msgid "a"\nmsgid_plural "b"\n' + b"".join(b'msgstr[%d] "x"\n' % number for number in range(4))
    plural = (
        po.replace(b"Language: de", b"Plural-Forms: nplurals=4; plural=n%100==1 ? 0 : 3;\\nLanguage: sl") + slovenian
    )
    return {
        "tmx": (
            ".tmx",
            local("skip"),
            [tmx, three, japanese, tmx.decode().replace("?>", " encoding='utf8'?>").encode("utf-16")],
        ),
        "xliff": (".xlf", local("skip"), [xliff, files]),
        "po": (".po", local("skip"), [po, plural]),
        "mo": (
            ".mo",
            local("skip"),
            [mo([("", "Content-Type: text/plain; charset=UTF-8\nLanguage: de\n"), ("one", "eins")])],
        ),
        "opus zip": (".zip", local("skip"), [archive.getvalue()]),
    }


def long_window(data: bytes) -> bytes:
    """Return a zstd frame with one raw block and a window of 256 MB."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, 18 << 3]) + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def parquet(table: pa.Table) -> bytes:
    """Return the content of a Parquet file with the table."""
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def ipc(table: pa.Table) -> bytes:
    """Return the content of an Arrow file with the table."""
    made = io.BytesIO()
    with pa.ipc.new_file(made, table.schema) as writer:
        writer.write_table(table)
    return made.getvalue()


def zstd(data: bytes) -> bytes:
    """Return the data, compressed with zstd."""
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def sqlite(value: str) -> bytes:
    """Return the content of a SQLite database with one manifest."""
    from mtx.infra.dal.sqlite import SQLiteObjectLayer

    with tempfile.TemporaryDirectory() as folder:
        SQLiteObjectLayer(location=folder).create("raw-1", json.loads(value))
        path = Path(folder) / "manifests.sqlite"
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")
        return path.read_bytes()


def bpe(tokenizer: object) -> bytes:
    """Return the content of a tokenizer file with a merge and a normalizer."""
    said = json.loads(tokenizer.to_str())  # type: ignore[attr-defined]  # a Tokenizer
    said["normalizer"] = {"type": "NFC"}
    said["model"]["vocab"]["ab"] = max(said["model"]["vocab"].values()) + 1
    said["model"]["merges"] = [["a", "b"]]
    return json.dumps(said).encode()


def weights() -> bytes:
    """Return the content of a checkpoint file."""
    import torch

    made = io.BytesIO()
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 1}, made)
    return made.getvalue()


def mo(entries: list[tuple[str, str]]) -> bytes:
    """Return the content of a compiled gettext catalogue (.mo)."""
    keys = [key.encode() for key, _ in entries]
    values = [value.encode() for _, value in entries]
    head = 28
    at = head + 16 * len(entries)
    tables: list[bytes] = []
    for texts in (keys, values):
        for text in texts:
            tables.append(struct.pack("<II", len(text), at))
            at += len(text) + 1
    texts_block = b"".join(text + b"\0" for text in (*keys, *values))
    first = struct.pack("<IIIIIII", 0x950412DE, 0, len(entries), head, head + 8 * len(entries), 0, 0)
    return first + b"".join(tables) + texts_block


def fuzz(
    ending: str, parser: Parser, seeds: list[bytes], *, inputs: Iterator[int], draw: random.Random, folder: Path
) -> Outcome:
    """Run a parser on its valid files, and then on randomly changed files, as many as `inputs` counts."""
    from mtx.errors import MtxError

    outcome = Outcome()
    signal.signal(signal.SIGALRM, _too_slow)
    for number in inputs:
        data = seeds[number] if number < len(seeds) else mutated(seeds, draw)
        inside = folder / f"input{number}"
        inside.mkdir()
        path = inside / f"raw-1{ending}"
        path.write_bytes(data)
        started = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS_AT_MOST)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parser(path)
            outcome.read += 1
        except MtxError as error:
            outcome.refused += 1
            outcome.kinds[type(error).__name__] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a panic of a compiled parser does not derive from Exception
            outcome.failures.append((data, f"{type(error).__name__}: {str(error)[:200]}"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.perf_counter() - started
        outcome.seconds += took
        outcome.slowest = max(outcome.slowest, took)
        for left in inside.rglob("*"):
            if not left.is_dir():
                left.unlink()
    return outcome


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError(f"the input took more than {SECONDS_AT_MOST:.0f} seconds")


def _numbers(inputs: int | None, seconds: float | None) -> Iterator[int]:
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (end is None or time.monotonic() < end) and (inputs is None or number < inputs):
        yield number
        number += 1


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzzer, print a table, and return 1 if an input failed or the memory grew by more than 1 GB."""
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("--inputs", type=int, help="inputs per parser; default: 2000, or no limit with --seconds")
    said.add_argument("--seconds", type=float, help="time limit of all parsers together")
    said.add_argument("--seed", type=int, default=0, help="seed of the random changes")
    said.add_argument("--only", nargs="+", help="names of the parsers to run, as printed in the table")
    said.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for the inputs that failed")
    options = said.parse_args(arguments)
    known = parsers()
    if unknown := set(options.only or ()) - set(known):
        said.error(f"--only: there is no parser {', '.join(unknown)}. Use one or more of: {', '.join(known)}")
    chosen = {name: parser for name, parser in known.items() if not options.only or name in options.only}
    inputs = options.inputs if options.inputs or options.seconds else 2000
    seconds = None if options.seconds is None else options.seconds / len(chosen)
    print(f"seed {options.seed}")
    print(f"{'parser':<12} {'inputs':>8} {'read':>8} {'refused':>8} {'failed':>7} {'slowest':>9}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = failed = 0
    for name, (ending, parser, seeds) in chosen.items():
        with tempfile.TemporaryDirectory(prefix="mtx-fuzz-") as folder:
            outcome = fuzz(
                ending,
                parser,
                seeds,
                inputs=_numbers(None if inputs is None else inputs // SLOWER.get(name, 1), seconds),
                draw=random.Random(f"{options.seed} {name}"),
                folder=Path(folder),
            )
        total += outcome.inputs
        failed += len(outcome.failures)
        print(
            f"{name:<12} {outcome.inputs:>8,} {outcome.read:>8,} {outcome.refused:>8,} {len(outcome.failures):>7,} "
            f"{outcome.slowest * 1000:>6,.0f} ms",
            flush=True,
        )
        for number, (data, what) in enumerate(outcome.failures[:20]):
            options.failures.mkdir(exist_ok=True)
            path = options.failures / f"{name.replace(', ', '-').replace(' ', '-')}-{options.seed}-{number}{ending}"
            path.write_bytes(data)
            print(f"  {path}: {what}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    print(f"{total:,} inputs, {failed:,} of them failed; memory of the process grew by {grown:,.0f} MB")
    return int(failed > 0 or grown > MB_AT_MOST)


if __name__ == "__main__":
    logging.getLogger("mtx.assumptions").setLevel(logging.ERROR)  # one line for each input
    sys.exit(main())
