"""`task=show` beside damage: what can be read is listed, and what cannot is named."""

import io
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Mtx
from jobs_on_disk import measured, write_job
from rich.cells import cell_len

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.data.store_tree import StoredItem, trees
from mtx.experiment.show import print_listing
from mtx.experiment.show_listing import age_text, run_lines, tree_lines
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.progress.literal_console import PlainConsole
from mtx.records.run_list import ListedEntry, ListedRun, listed_entries


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    return Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def damage(store: Store, name: str) -> None:
    manifest: Any = store.repo.oal.read(name)
    store.repo.oal.delete(name)
    store.repo.oal.create(name, {**manifest, "n": 77})


def add(store: Store, name: str, **options: Any) -> None:
    given = {"name": "small", "stage": "raw", "split": "train", "languages": ("en", "de"), **options}
    store.repo.add(TranslationDataset(id=name, data=[{"src": "a", "tgt": "b"}], **given))


def test_damaged_manifests_are_named_and_all_others_listed(store: Store, mtx: Mtx) -> None:
    for name in ("raw-a", "raw-b"):
        add(store, name)
    for name in ("words-a", "words-b"):
        store.words.get_or_build(name, lambda path: path.joinpath("x").touch(), {"filtered": "raw-b"})
    damage(store, "raw-a")
    (store.words.open("words-a") / "manifest.json").write_text("{")
    told = mtx("task=show")
    assert told.code == 0, told.err
    assert "1 dataset and 1 artifact, " in told.out
    for listed in ("raw-b", "words-b", "raw-a cannot be read: ", "words-a cannot be read: "):
        assert listed in told.out
    assert "2 cannot be read, as listed above. Check the whole store with mtx task=verify" in told.out


def test_where_nothing_can_be_read_it_is_not_said_to_be_empty(store: Store, mtx: Mtx) -> None:
    store.repo.add(
        TranslationDataset(id="raw-a", name="x", stage="raw", split="train", languages=("en", "de"), data=[])
    )
    damage(store, "raw-a")
    told = mtx("task=show")
    assert "No dataset" not in told.out
    assert "raw-a cannot be read: " in told.out


def test_a_corpus_is_a_tree_in_80_columns(store: Store, mtx: Mtx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, stage, inputs in (
        ("encoded-a", "encoded", ["text-a", "tokenizer-a"]),
        ("filtered-a", "filtered", ["text-a"]),
        ("text-a", "text", ["raw-a"]),
        ("raw-a", "raw", None),
    ):
        provenance: Any = {"revision": "f" * 64} if inputs is None else {"inputs": inputs}
        add(store, name, stage=stage, provenance=provenance)
    store.tokenizers.get_or_build("tokenizer-a", lambda path: path.joinpath("x").touch(), {"trained_on": "filtered-a"})
    used = {"ids": {"raw": {"train": "raw-a"}, "tokenizer": "tokenizer-a"}}
    for number, state in ((0, "completed"), (1, "failed")):
        folder = Path(f"multirun/day/time/{number}")
        folder.mkdir(parents=True)
        status = {"state": state, "started": "2026-01-31T12:00:00+00:00", "choices": {"task": "fit"}}
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "report.json").write_text(json.dumps(used, indent=2))
    Path("multirun/day/time/sweep.json").write_text(json.dumps({"num_jobs": 3, "varied": ["seed"]}))
    out = mtx("task=show").out
    ids = [
        line.split("  ")[0] if line[0] != " " else line[: len(line) - len(line.lstrip())] + line.split()[0]
        for line in out.splitlines()
        if "-a" in line
    ]
    assert ids == ["raw-a", "  text-a", "    filtered-a", "      tokenizer-a", "        encoded-a"]
    assert re.search(r"raw-a +1 +\d+ B +\d+ s +2\n", out)
    assert re.search(r"text-a +1 +\d+ B +\d+ s +0\n", out)
    assert "from ffffffff" in out
    assert "1 sweep in outputs, multirun, the newest first" in out
    assert re.search(r"fit +1/3 done +1 failed +multirun/day/time\n", out)
    assert max(map(cell_len, out.splitlines())) <= 80

    told = mtx("task=show", "dataset=tokenizer-a").out
    assert re.search(r"built from +filtered-a\nneeded by +encoded-a\nused by +2 runs\n", told)
    assert "multirun/day/time" in told
    assert re.search(r"used by +0 runs\n", mtx("task=show", "dataset=text-a", "runs=[]").out)


WIDE_NAMES = {
    "long words": "lamps-" * 20,
    "CJK": "\u8a9e" * 50,
    "RTL": "\u05e9\u05dc\u05d5\u05dd" * 20,
    "combining": "e\u0301" * 60,
    "zero width": "\u200b" * 40,
    "emoji": "\U0001f469\u200d\U0001f52c" * 20,
    "line ends": "a\nb\rc\tx\x1b[31m\u2028",
    "lone surrogate": "\ud800x",
    "megabyte": "x" * 1_000_000,
    "none": "",
}


@pytest.mark.parametrize("kind", WIDE_NAMES)
def test_the_listing_fits_80_columns_whatever_the_names(kind: str) -> None:
    name, file = WIDE_NAMES[kind], io.StringIO()
    run: Any = SimpleNamespace(console=PlainConsole(file=file, width=80))
    ids = ("filtered-validation-0123456789abcdef", "an-id-of-ones-own-" * 4)
    found: Any = SimpleNamespace(name=name, languages=("zh-Hant-TW", name), n=1_234_567_890, stage="raw", split="test")
    items = [StoredItem(each, "raw", (name,), 999_949_999_999, 0.0, found) for each in ids]
    items += [StoredItem(f"deep-{number}", "words", (f"deep-{number - 1}", ids[0]), 1, None) for number in range(30)]
    jobs = (ListedRun(Path(name[:200]), name[:200], "completed", "", {name[:200]: 1e9}, frozenset()),)
    print_listing(run, "store", items, [])
    lines = file.getvalue().splitlines()
    lines += run_lines([ListedEntry(jobs[0].folder, jobs)], [Path("outputs")], 80, 0.0)
    assert max(cell_len(line) for line in lines) <= 80
    told = "\n".join(lines)
    for shown in ("filtered-validation-0123456789abcdef", "1,234,567,890", "999.9 GB", "zh-Hant-TW", "deep-29"):
        assert shown in told
    assert "\x1b" not in told


def test_a_thousand_datasets_and_a_circle_are_listed_once_each() -> None:
    items = [StoredItem(f"a-{number}", "encoded", (f"a-{number // 2}",), 1, 1.0) for number in range(1, 1001)]
    items += [StoredItem("x", "text", ("y",), 1, 1.0), StoredItem("y", "text", ("x",), 1, 1.0)]
    roots = trees(items)
    listed = [node.item.id for root in roots for node in root.walk()]
    assert sorted(listed) == sorted(item.id for item in items)
    lines = list(tree_lines(roots, set(listed), {}, 80, 2.0))
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "1 h"),
        (86_400, "1 d"),
        (60 * 86_400, "2 months"),
        (10**9, "31 years"),
    ],
)
def test_an_age_has_one_unit(seconds: int, shown: str) -> None:
    assert age_text(100.0, 100.0 + seconds) == shown


def test_damaged_files_of_runs_are_passed_over(tmp_path: Path) -> None:
    for number, status in enumerate(
        ["{", "[1]", '{"state": 3, "choices": [], "objectives": {"a": "b"}}', "[" * 100_000]
    ):
        folder = tmp_path / "outputs" / str(number)
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(status)
        (folder / "report.json").write_text('{"ids": {"raw": ' + status)
    (tmp_path / "outputs" / "loop").symlink_to(tmp_path)
    entries = listed_entries([tmp_path / "outputs", tmp_path / "none"])
    assert [(entry.runs[0].state, entry.runs[0].used) for entry in entries] == [(None, frozenset())] * 4


def test_an_empty_store_says_how_to_fill_it(store: Store, mtx: Mtx) -> None:
    out = mtx("task=show").out
    assert "No dataset in " in out
    assert "Build some: mtx task=prepare" in out
    assert "No run in outputs, multirun." in out
    assert not (store.root).exists()


@pytest.mark.parametrize("width", [1, 4, 25, 45])
def test_a_narrow_terminal_shortens_no_id(store: Store, mtx: Mtx, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = "text-0123456789abcdef0123456789abcdef0123456789abcdef"
    add(store, "raw-a")
    add(store, long, stage="text", provenance={"inputs": ["raw-a"]})
    write_job(Path("outputs/a"), {}, measured())
    assert mtx("task=show").code == 0
    told = mtx("task=show", "dataset=raw-a", f"storage.root={store.root}").out
    assert long in re.sub(r"\s+", "", told)
    where = shlex.quote(f"storage.root={store.root}")
    assert told.endswith(f"to look at a pair: mtx task=show {where} dataset=raw-a row=0\n")


def test_an_empty_dataset_has_no_pair_to_look_at(store: Store, mtx: Mtx) -> None:
    store.repo.add(
        TranslationDataset(id="raw-a", name="x", stage="raw", split="train", languages=("en", "de"), data=[])
    )
    assert "to look at" not in mtx("task=show", "dataset=raw-a").out
