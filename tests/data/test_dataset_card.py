"""Dataset cards: where pairs come from, in Markdown that the Hub reads and that no text of a corpus can change."""

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from command_line import Mtx
from huggingface_hub import DatasetCard
from jobs_on_disk import measured, write_job

from mtx.data.dataset import TranslationDataset
from mtx.data.exchange.dataset_card import _front_matter, code, dataset_card
from mtx.data.store import Store
from mtx.errors import ConfigError
from mtx.experiment.dataset_of_run import building_command
from mtx.experiment.export import _write_card, export
from mtx.experiment.run_context import Run
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

HOSTILE = (
    "---\nlicense: mit\n---\n# owned `x` ``` <script>alert(1)</script> | a | \x1b[31m \u2028 \ud800 password=abc123"
)
FILTER = {"kind": "filter/default", "note": f"```\n# owned\n{HOSTILE}"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)


def add(
    store: Store, name: str, stage: Any, provenance: Any, metrics: Any, *, title: str = "small", n: int = 1
) -> None:
    rows = [{"src": "a", "tgt": "b"}] * n
    store.repo.add(
        TranslationDataset(
            id=name,
            name=title,
            stage=stage,
            split="train",
            languages=("en", "DE!"),
            data=rows,
            provenance=provenance,
            metrics=metrics,
        )
    )


def filled(store: Store, title: str, licences: list[str]) -> None:
    source = {"revision": "v1", "source": {"kind": "downloader/local"}, "licences": licences}
    add(store, "raw-a", "raw", source, {"skipped": {"bad_row": 2}}, title=title, n=9)
    add(store, "text-a", "text", {"inputs": ["raw-a"], "normalise": {"form": "NFC"}}, {"changed": 3}, title=title, n=9)
    add(store, "scores-a", "scores", {"inputs": ["text-a"], "scorer": {"kind": "score/rules"}}, {}, title=title, n=9)
    made_from = {"inputs": ["text-a", "scores-a"], "filter": FILTER, "share": 0.25}
    add(store, "filtered-a", "filtered", made_from, {"dropped": {"duplicate": 1, "too_long": 4}}, title=title, n=4)


def test_a_card_tells_sources_licences_counts_rules_and_scores(store: Store) -> None:
    filled(store, "small", ["cc-by-4.0"])
    text = dataset_card(store, "filtered-a", "mtx task=prepare filter=none")
    card = DatasetCard(text)
    assert (card.data.license, card.data.language, card.data.size_categories) == ("cc-by-4.0", ["en"], ["n<1K"])
    for line in (
        "| `small` | `v1` | `cc-by-4.0` | 9 |",
        "| `raw-a` | 9 | `bad_row` 2 |",
        "| `text-a` | 9 | none; 3 changed |",
        "| `filtered-a` | 4 | `too_long` 4, `duplicate` 1 |",
        "  form: NFC",
        "  kind: score/rules",
        "## Which share of the pairs was taken?",
        "filtered-a: 0.25",
        "mtx task=prepare filter=none",
    ):
        assert line in text.splitlines()
    assert all(heading.endswith("?") for heading in re.findall("^## (.*)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("licences", "shown"), [([], "unknown"), (["mit", "gpl"], "other"), (["My own terms: ask"], "other")]
)
def test_a_licence_is_as_the_source_gives_it(store: Store, licences: list[str], shown: str) -> None:
    filled(store, "small", licences)
    assert DatasetCard(dataset_card(store, "raw-a", None)).data.license == shown


def test_hostile_texts_stay_texts(store: Store) -> None:
    filled(store, HOSTILE, [HOSTILE])
    text = dataset_card(store, "filtered-a", f"mtx {HOSTILE}")
    text.encode("utf-8")
    card = DatasetCard(text)
    assert card.data.license == "other"
    assert "license: mit" in str(card.data.pretty_name)
    assert "abc123" not in text
    assert "\x1b" not in text
    outside, fence = [], None
    for line in card.content.splitlines():
        opened = re.match("`{3,}", line)
        if fence is None and opened:
            fence = opened[0]
        elif fence is not None and line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", "\n".join(outside[outside.index("---", 1) + 1 :]))
    assert "owned" not in prose
    assert "<script>" not in prose
    rows = [line for line in outside if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 5) for row in rows)


@pytest.mark.parametrize("text", ["", " ", "`", "``a`", "a|b", "x" * 1000])
def test_a_code_span_holds_any_text(text: str) -> None:
    assert re.fullmatch(r"(`+)(?!`)[^\n]*(?<!`)\1", code(text))


def test_export_writes_the_card_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtx: Mtx) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    data = ["downloader.n=60", "tokenizer=byte", "datamodule.validation=5", "datamodule.test=0"]
    done = mtx("task=prepare", *data, "hydra.run.dir=outputs/a")
    assert done.code == 0, done.err
    told = mtx("task=export", "card=true", "dataset=outputs/a", "to=README.md")
    assert told.code == 0, told.err
    text = Path("README.md").read_text(encoding="utf-8")
    assert f"mtx task=prepare {' '.join(data)}\n" in text
    values = yaml.safe_load(text.split("---\n")[1])
    assert (values["license"], values["language"]) == ("other", ["en", "ja"])
    assert "`MIT License (the package)`" in text
    assert (
        "README.md exists. Set overwrite=true"
        in mtx("task=export", "card=true", "dataset=outputs/a", "to=README.md").err
    )
    (name,) = set(re.findall("filtered-train-[0-9a-f]{16}", text))
    assert mtx("task=export", "card=true", f"dataset={name}", "to=out.zip").code == 0
    assert mtx("task=import", "from=out.zip", "storage.root=other").code == 0
    Path("outputs/b").mkdir()
    assert (
        "outputs/b has no report.json that names training pairs" in mtx("task=export", "dataset=outputs/b", "to=x").err
    )


def test_a_card_is_written_to_a_file_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder, .* Choose another name: to=FILE\.md"):
        _write_card("text", tmp_path, overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"/file cannot be created\. Choose another one: to=FILE\.md"):
        _write_card("text", tmp_path / "file" / "card.md", overwrite=False)
    with pytest.raises(ConfigError, match="writes the model of a checkpoint, so card would do nothing"):
        export(cast(Run, None), format="transformers", card=True)


def test_the_command_is_that_of_the_newest_run_with_a_status(tmp_path: Path) -> None:
    write_job(tmp_path / "a", {"seed": 1}, measured())
    write_job(tmp_path / "b", {"seed": 1}, measured())
    (tmp_path / "b" / "status.json").unlink()
    assert building_command("filtered-1", [tmp_path / "b"]) is None
    assert building_command("filtered-1", [tmp_path / "b", tmp_path / "a"]) == "mtx task=prepare"
    assert building_command("filtered-1", [tmp_path]) == "mtx task=prepare"


@pytest.mark.parametrize(("number", "name"), [(10**9, "1B<n<10B"), (10**11, "100B<n<1T"), (10**12, "n>1T")])
def test_large_corpora_have_the_sizes_of_the_hub(number: int, name: str) -> None:
    made = TranslationDataset(id="a", name="a", stage="raw", split="train", languages=("en", "de"), data=[])
    object.__setattr__(made, "n", number)
    assert name in _front_matter(made, [])
