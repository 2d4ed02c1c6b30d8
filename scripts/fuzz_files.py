"""Fuzzing of files: every parser of mtx reads valid files with random changes."""

import gzip
import io
import json
import random
import resource
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from fuzz_mutations import mutated
from fuzz_outcomes import Outcome, run_input
from fuzz_valid_files import bpe, ipc, long_window, mo, parquet, sentences, sqlite, weights, zstd

SLOWER = {"overrides": 10}  # divisor of the number of inputs for slow parsers: Hydra takes 0.1 s per input
MB_AT_MOST = 1000  # limit of the growth of the process, over all inputs

Parser = Callable[[Path], object]


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
    """Read the shapes of the weights in a checkpoint."""
    from mtx.training.checkpoint_selection import weight_shapes

    weight_shapes(path)


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


def fuzz(
    ending: str, parser: Parser, seeds: list[bytes], *, inputs: Iterator[int], draw: random.Random, folder: Path
) -> Outcome[bytes]:
    """Run a parser on its valid files, and then on randomly changed files, as many as `inputs` counts."""
    outcome: Outcome[bytes] = Outcome()
    for number in inputs:
        data = seeds[number] if number < len(seeds) else mutated(seeds, draw)
        inside = folder / f"input{number}"
        inside.mkdir()
        path = inside / f"raw-1{ending}"
        path.write_bytes(data)
        run_input(outcome, data, lambda path=path: parser(path))  # type: ignore[misc]  # the default binds the path
        for left in inside.rglob("*"):
            if not left.is_dir():
                left.unlink()
    return outcome


def fuzz_files(options: Any, numbers: Callable[[int], Iterator[int]]) -> int:
    """Fuzz the parsers that `options.only` names, print a table, and return 1 if an input failed.

    Args:
        options: command-line options of `scripts/fuzz`.
        numbers: returns the numbers of the inputs of a parser, for the divisor of their number.
    """
    known = parsers()
    chosen = {name: parser for name, parser in known.items() if not options.only or name in options.only}
    print(f"{'parser':<12} {'inputs':>8} {'read':>8} {'refused':>8} {'failed':>7} {'slowest':>9}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = failed = 0
    for name, (ending, parser, seeds) in chosen.items():
        with tempfile.TemporaryDirectory(prefix="mtx-fuzz-") as folder:
            outcome = fuzz(
                ending,
                parser,
                seeds,
                inputs=numbers(SLOWER.get(name, 1)),
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
