"""A mixture from the command line: its report and table, worked by hand."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtx.app.command import compose
from mtx.components.check_and_build import check_config
from mtx.experiment.measure import measure
from mtx.experiment.run_context import Run
from mtx.records.noise_report import NoiseReport
from mtx.records.report_record import Report, TrainingReport, TranslationReport


def write(path: Path, tag: str, num_pairs: int, *more: str) -> None:
    lines = [f"{tag} {i}\t{tag.upper()} {i}" for i in range(num_pairs)]
    path.write_text("\n".join(["src\ttgt", *lines, *more]) + "\n")


def report(folder: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    news, web = folder / "news.tsv", folder / "web.tsv"
    write(news, "news", 20, "same\tSAME")
    write(web, "web", 100, "same\tSAME", "too\ttoo")
    sources = f"downloader.sources={{news: '{news}', web: '{web}'}}"
    config = compose(
        [
            "downloader=mixture",
            sources,
            f"storage.root={folder / 'store'}",
            "tokenizer=byte",
            *overrides,
            "datamodule.validation=null",
            "datamodule.test=null",
            "datamodule.num_workers=0",
        ]
    )
    check_config(config)
    told = StringIO()
    run = Run(config, output_dir=folder / "out", console=Console(file=told, width=200))
    measure(run)
    return dict[str, Any](json.loads((folder / "out" / "report.json").read_text())), told.getvalue()


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    return report(
        tmp_path_factory.mktemp("weighted"),
        "downloader.weights={news: 1, web: 3}",
        "downloader.caps={web: 101}",
        "downloader.epoch_pairs=120",
    )


def test_the_way_of_the_pairs_is_told_by_source(weighted: tuple[dict[str, Any], str]) -> None:
    found, table = weighted
    assert found["sources"] == {
        "news": {
            "skipped": {}, "num_pairs_raw": 21, "dropped": {}, "num_pairs_train": 21,
            "num_pairs_validation": 0, "num_pairs_test": 0,
        },
        "web": {  # 102 pairs, of which the cap takes the last one, which has equal sides
            "skipped": {}, "num_pairs_raw": 102, "dropped": {"capped": 1, "duplicate": 1}, "num_pairs_train": 100,
            "num_pairs_validation": 0, "num_pairs_test": 0,
        },
    }  # fmt: skip
    assert found["num_pairs_raw"] == found["num_pairs_kept"] + sum(found["dropped"].values()) == 123
    assert found["name"] == "news+web"
    assert "of web: read; train, validation, test │ 102; 100, 0, 0" in " ".join(table.split())


def test_the_ledger_is_told_by_source(weighted: tuple[dict[str, Any], str]) -> None:
    found, table = weighted
    by_source = found["ledger_by_source"]  # 30 of 21, and 90 of 100
    assert [by_source[name]["drawn"] for name in ("news", "web")] == [30, 90]
    assert by_source["news"] | {"drawn": 30} == {
        "num_pairs": 21, "batched": 21, "dropped_length": 0, "dropped_remainder": 0, "not_drawn": 0, "repeated": 9,
        "drawn": 30,
    }  # fmt: skip
    assert by_source["web"]["not_drawn"] == 10
    ledger = found["ledger"]
    for kind in ("num_pairs", "batched", "dropped_length", "dropped_remainder", "not_drawn", "repeated"):
        assert ledger[kind] == sum(of[kind] for of in by_source.values())
    assert found["num_pairs_drawn"] == 120
    told = " ".join(table.split())
    assert "not drawn in this epoch │ 10" in told
    assert "of news: drawn; batched, repeated │ 30; 21, 9" in told


def test_every_key_of_a_mixture_is_declared(weighted: tuple[dict[str, Any], str]) -> None:
    assert set(weighted[0]) == {"report_version", *Report.model_fields} - set(TrainingReport.model_fields) - set(
        TranslationReport.model_fields
    ) - set(NoiseReport.model_fields) - {"own", "ledger_by_group", "assumptions", "scorers", "selection"}
    assert Report.of(weighted[0]).own == {}


def test_a_temperature_of_one_tells_every_pair_once(tmp_path: Path) -> None:
    found, _ = report(tmp_path, "downloader.temperature=1", "filter=none")
    assert {name: of["drawn"] for name, of in found["ledger_by_source"].items()} == {"news": 21, "web": 102}
    assert found["ledger"]["repeated"] == found["ledger"]["not_drawn"] == 0


def test_without_shares_no_pair_is_left_to_other_epochs(tmp_path: Path) -> None:
    found, table = report(tmp_path)
    assert "not_drawn" not in found["ledger"]
    assert "not drawn in this epoch" not in table
    assert found["ledger_by_source"]["web"]["drawn"] == found["sources"]["web"]["num_pairs_train"]
