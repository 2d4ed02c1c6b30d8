"""Text as it comes: what is stored equals what came in, and the ids decode to it. docs/text.md has the rules."""

import json
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nasties
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mtx
from mtx.errors import MalformedPairError, MtxError, SourceError
from mtx.infra.dataset.sources.local import LocalDownloader

STORAGES = ("sqlite_arrow", "shelve_jsonl")
EVERYTHING = [
    "filter=none",
    "normalise=none",
    "datamodule.validation=null",
    "datamodule.test=null",
    "sampler=sequential",
]


def write(folder: Path, form: str) -> tuple[list[str], list[nasties.Pair]]:
    """Write the nasties that a format can carry. Return the overrides that read them, and the pairs."""
    if form == "lines":
        pairs = nasties.pairs({**nasties.TEXTS, **nasties.TAB})
        for side, name in enumerate(("x.en", "x.de")):
            (folder / name).write_bytes(b"".join(pair[side].encode() + b"\n" for pair in pairs))
        return [f"downloader.source_path={folder}/x.en", f"downloader.target_path={folder}/x.de"], pairs
    path = folder / f"x.{form.partition(' ')[0]}"
    pairs = nasties.pairs(nasties.TEXTS if form == "tsv" else nasties.EVERY)
    if form.startswith("jsonl"):
        path.write_bytes(nasties.jsonl(pairs, escaped=form.endswith("escaped")))
    elif form == "parquet":
        sides = list(zip(*pairs, strict=True))
        pq.write_table(pa.table({"src": sides[0], "tgt": sides[1]}), path)
    else:
        path.write_bytes({"tsv": nasties.tsv, "csv": nasties.csv}[form](pairs))
    return [f"downloader.path={path}"], pairs


def stored(ids: Mapping[str, str], datamodule: Any) -> list[nasties.Pair]:
    return [(row["src"], row["tgt"]) for row in datamodule.storage.repo.get(ids["train"]).data]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("form", ["jsonl", "jsonl escaped", "tsv", "csv", "parquet", "lines"])
def test_what_is_stored_is_what_came_in_and_the_ids_decode_to_it(tmp_path: Path, form: str, storage: str) -> None:
    source, pairs = write(tmp_path, form)
    made = mtx.compose_datamodule(
        ["downloader=local", *source, *EVERYTHING, f"storage={storage}", f"storage.root={tmp_path}/s", "tokenizer=byte"]
    )
    made.prepare_data()
    made.setup("fit")
    assert made.ids is not None
    assert stored(made.ids.raw, made) == pairs
    assert stored(made.ids.filtered, made) == pairs
    assert decoded(made) == pairs


def decoded(datamodule: Any) -> list[nasties.Pair]:
    rows = datamodule.storage.repo.get(datamodule.ids.encoded["train"]).data
    tokenizers = datamodule.tokenizers
    return [
        (
            tokenizers.source.decode(row["source_ids"], skip_special_tokens=False),
            tokenizers.target.decode(row["target_ids"], skip_special_tokens=False),
        )
        for row in rows
    ]


@pytest.mark.parametrize("form", [None, "NFC", "NFKC"])
@pytest.mark.parametrize("tokenizer", ["bpe", "unigram"])
def test_ids_decode_to_the_text_or_to_its_normal_form(tmp_path: Path, tokenizer: str, form: Any) -> None:
    texts = {name: text for name, text in nasties.EVERY.items() if len(text) < 1000 or tokenizer == "bpe"}
    pairs = nasties.pairs(texts)
    (tmp_path / "x.jsonl").write_bytes(nasties.jsonl(pairs))
    normal = [f"tokenizer.normalization={form}"] if form else []
    made = mtx.compose_datamodule(
        [
            *("downloader=local", f"downloader.path={tmp_path}/x.jsonl", *EVERYTHING, f"tokenizer={tokenizer}"),
            *(f"storage.root={tmp_path}/s", "tokenizer.vocab_size=600", *normal),
        ]
    )
    made.prepare_data()
    made.setup("fit")
    expected = [tuple(unicodedata.normalize(form, side) if form else side for side in pair) for pair in pairs]
    assert decoded(made) == expected


# The text, and the reason that the default filter counts it under; None: kept.
FILTERED = {
    "NUL": "control_characters",
    "controls": "control_characters",
    "line separators of Unicode": "control_characters",  # it has some of C0 and C1 in it
    "long": "too_long",
    "long without a space": "too_long",
    "long and combining": "too_long",
}


def test_the_default_filter_drops_by_named_rules_and_changes_nothing_but_white_space_around(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(nasties.jsonl([(text, name) for name, text in nasties.EVERY.items()]))
    source = ["downloader=local", f"downloader.path={tmp_path}/x.jsonl", f"storage.root={tmp_path}/s"]
    made = mtx.compose_datamodule([*source, "tokenizer=byte", "filter.max_ratio=null", *EVERYTHING[2:]])
    made.prepare_data()
    assert made.ids is not None
    kept = [(text.strip(), name) for name, text in nasties.EVERY.items() if name not in FILTERED]
    assert stored(made.ids.filtered, made) == kept
    assert made.storage.repo.manifest(made.ids.filtered["train"]).metrics["dropped"] == {
        reason: list(FILTERED.values()).count(reason) for reason in set(FILTERED.values())
    }


GOOD = '{"src": "a", "tgt": "b"}'
REFUSED = {
    "lone surrogate": (r'{"src": "a\ud800", "tgt": "b"}', "lone_surrogate", "half of a surrogate pair"),
    "surrogates in the wrong order": (r'{"src": "\udc00\ud800", "tgt": "b"}', "lone_surrogate", "half of a surrogate"),
    "number": ('{"src": 3, "tgt": "b"}', "not_text", "'src' must be a text, but is a number"),
    "true": ('{"src": "a", "tgt": true}', "not_text", "'tgt' must be a text, but is true or false"),
    "list": ('{"src": ["a"], "tgt": "b"}', "not_text", "'src' must be a text, but is a list"),
    "object": ('{"src": {"a": 1}, "tgt": "b"}', "not_text", "'src' must be a text, but is an object"),
    "null": ('{"src": null, "tgt": "b"}', "missing_text", "'src' is null"),
    "missing": ('{"tgt": "b"}', "missing_text", "there is no key 'src'"),
    "repeated": ('{"src": "a", "src": "c", "tgt": "b"}', "repeated_key", "occurs more than once"),
    "deep": ('{"src": ' + "[" * 100_000 + "]" * 100_000 + ', "tgt": "b"}', "malformed_json", "nested too deeply"),
    "cut": ('{"src": "a", "tgt": "b', "malformed_json", "the line is not valid JSON"),
    "raw control": ('{"src": "a\x01", "tgt": "b"}', "malformed_json", "the line is not valid JSON"),
    "no object": ('["a", "b"]', "not_an_object", "the line is not an object like"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_pair_of_texts_is_refused_with_its_line_or_left_out_and_counted(tmp_path: Path, name: str) -> None:
    line, reason, told = REFUSED[name]
    path = tmp_path / "x.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(MalformedPairError) as caught:
        list(LocalDownloader(path=path).batches("train", {}))
    assert f"{path}, line 3: " in str(caught.value)
    assert told in str(caught.value)
    counts: dict[str, int] = {}
    (batch,) = LocalDownloader(path=path, on_error="skip").batches("train", counts)
    assert batch.num_rows == 2
    assert counts == {reason: 1}


@pytest.mark.parametrize(
    ("ending", "content", "reason", "told"),
    [
        (
            "tsv",
            b"src\ttgt\na\tb\nc\td\te\nf\tg\n",
            "wrong_column_count",
            "must have 2 columns, like the first line, but this line has 3",
        ),
        ("tsv", b"src\ttgt\na\tb\n\xff\xfec\td\nf\tg\n", "invalid_utf8", "byte 1 of the line"),
        ("tsv", b"src\ttgt\na\tb\n\xed\xa0\x80\td\nf\tg\n", "invalid_utf8", "byte 1 of the line"),
        (
            "csv",
            b"src,tgt\na,b\nc\nf,g\n",
            "wrong_column_count",
            "must have 2 columns, like the first line, but this line has 1",
        ),
    ],
)
def test_rows_of_tables_that_are_no_pair_are_refused_with_their_line(
    tmp_path: Path, ending: str, content: bytes, reason: str, told: str
) -> None:
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(MalformedPairError) as caught:
        list(LocalDownloader(path=path).batches("train", {}))
    assert f"{path}, line 3: " in str(caught.value)
    assert told in str(caught.value)
    counts: dict[str, int] = {}
    (batch,) = LocalDownloader(path=path, on_error="skip").batches("train", counts)
    assert [batch["src"].to_pylist(), batch["tgt"].to_pylist()] == [["a", "f"], ["b", "g"]]
    assert counts == {reason: 1}


def test_quotes_in_a_csv_that_does_not_close_them_stop_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'src,tgt\na,b\n"c,d\nf,g\n')
    with pytest.raises(MalformedPairError, match=r"x\.csv, line 3: the line is not valid CSV"):
        list(LocalDownloader(path=path, on_error="skip").batches("train", {}))


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "csv"])
def test_a_byte_order_mark_opens_a_file_and_is_none_of_its_text(tmp_path: Path, ending: str) -> None:
    pairs = [("\ufeffa", "b"), ("c", "\ufeffd")]
    content = {"jsonl": nasties.jsonl, "tsv": nasties.tsv, "csv": nasties.csv}[ending](pairs)
    for start in (b"", b"\xef\xbb\xbf"):
        path = tmp_path / f"x{len(start)}.{ending}"
        path.write_bytes(start + content)
        (batch,) = LocalDownloader(path=path).batches("train", {})
        assert list(zip(*(column.to_pylist() for column in batch.columns), strict=True)) == pairs


def test_the_end_of_a_line_takes_one_cr_with_it_and_no_other(tmp_path: Path) -> None:
    for name, content in (("x.en", b"a\r\nb\r\r\nc\rd\n"), ("x.de", b"1\n2\n3\n")):
        (tmp_path / name).write_bytes(content)
    source = LocalDownloader(source_path=tmp_path / "x.en", target_path=tmp_path / "x.de")
    (batch,) = source.batches("train", {})
    assert batch["src"].to_pylist() == ["a", "b\r", "c\rd"]


def test_nested_json_that_is_no_text_of_the_pair_is_passed_over_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"src": "a", "x": ' + "[" * 500 + "]" * 500 + ', "tgt": "b"}\n')
    (batch,) = LocalDownloader(path=path).batches("train", {})
    assert batch.to_pylist() == [{"src": "a", "tgt": "b"}]


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "csv"])
def test_a_million_empty_lines_are_passed_over_and_the_pair_behind_them_is_found(tmp_path: Path, ending: str) -> None:
    pairs = [("a", "b"), ("c", "d")]
    content = {"jsonl": nasties.jsonl, "tsv": nasties.tsv, "csv": nasties.csv}[ending](pairs)
    end = b"\r\n" if ending == "csv" else b"\n"
    head, _, last = content.removesuffix(end).rpartition(end)
    path = tmp_path / f"x.{ending}"
    path.write_bytes(head + end * 1_000_000 + last + end)
    batches = list(LocalDownloader(path=path).batches("train", {}))
    assert pa.Table.from_batches(batches)["src"].to_pylist() == ["a", "c"]
    empty = tmp_path / f"empty.{ending}"
    empty.write_bytes(end * 1_000_000)
    with pytest.raises(SourceError, match="has no "):
        LocalDownloader(path=empty).info()


def test_empty_pairs_of_lines_are_pairs_that_the_filter_drops_by_name(tmp_path: Path) -> None:
    for name in ("x.en", "x.de"):
        (tmp_path / name).write_bytes(
            b"\n" * 100_000 + b"a word\n" if name == "x.en" else b"\n" * 100_000 + b"ein Wort\n"
        )
    made = mtx.compose_datamodule(
        [
            *("downloader=local", f"downloader.source_path={tmp_path}/x.en", f"downloader.target_path={tmp_path}/x.de"),
            *("tokenizer=byte", *EVERYTHING[1:], f"storage.root={tmp_path}/s"),
        ]
    )
    made.prepare_data()
    assert made.ids is not None
    assert len(made.storage.repo.get(made.ids.raw["train"])) == 100_001
    assert stored(made.ids.filtered, made) == [("a word", "ein Wort")]
    metrics = made.storage.repo.manifest(made.ids.filtered["train"]).metrics
    assert metrics["dropped"] == {"empty_source": 100_000}


def test_no_nasty_is_an_error_that_is_not_mtxs_own(tmp_path: Path) -> None:
    """Each text as a whole file of each ending: read, or refused."""
    endings = ("jsonl", "tsv", "csv", "parquet", "tmx", "po", "xlf", "zip", "jsonl.gz", "tsv.zst")
    started = time.perf_counter()
    for number, text in enumerate(nasties.EVERY.values()):
        for ending in endings:
            path = tmp_path / f"x{number}.{ending}"
            path.write_bytes(text.encode())
            try:
                source = LocalDownloader(path=path, on_error="skip")
                source.info()
                list(source.batches("train", {}))
            except MtxError:
                continue
    assert time.perf_counter() - started < 60
    assert json.dumps(nasties.EVERY)


def test_wordpiece_takes_every_nasty_and_gives_words_back_or_unknown(tmp_path: Path) -> None:
    words = [("one two", "eins zwei"), ("two  one", "zwei\tzwei")]
    pairs = [*nasties.pairs({name: text for name, text in nasties.EVERY.items() if len(text) < 1000}), *words]
    (tmp_path / "x.jsonl").write_bytes(nasties.jsonl(pairs))
    made = mtx.compose_datamodule(
        [
            *("downloader=local", f"downloader.path={tmp_path}/x.jsonl", *EVERYTHING, "tokenizer=wordpiece"),
            *(f"storage.root={tmp_path}/s", "tokenizer.vocab_size=600"),
        ]
    )
    made.prepare_data()
    made.setup("fit")
    back = decoded(made)
    assert len(back) == len(pairs)
    assert back[-2:] == [("one two", "eins zwei"), ("two one", "zwei zwei")]
