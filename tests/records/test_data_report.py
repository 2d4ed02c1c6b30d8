"""Pairs kept and dropped, from manifests, and their table."""

from io import StringIO

from rich.console import Console

from mtx.components.identity import JSON
from mtx.data.dataset import Split, Stage, TranslationDataset
from mtx.records.data_report import funnel_table, sources
from mtx.records.report_record import DataReport, Report, SourceReport


def manifest(stage: Stage, split: Split, num_pairs: int, **metrics: JSON) -> TranslationDataset:
    return TranslationDataset(
        name="corpus",
        stage=stage,
        split=split,
        languages=("en", "de"),
        id=f"{stage}-{split}",
        n=num_pairs,
        metrics=metrics,
    )


def told(report: DataReport) -> list[str]:
    """Return the lines of the table as `what: value`."""
    out = StringIO()
    Console(file=out, width=100).print(funnel_table(report))
    cells = [line.strip("│┃ \n").split("│") for line in out.getvalue().splitlines() if "│" in line]
    return [f"{what.rstrip()}: {value.strip()}" for what, value in cells]


def test_a_source_has_the_pairs_of_its_own_files_and_of_all_splits() -> None:
    raw = {
        "news/train": manifest("raw", "train", 5, skipped={"too_many_fields": 1}),
        "web/train": manifest("raw", "train", 7, skipped={"too_many_fields": 0}),
        "web/test": manifest("raw", "test", 2, skipped={"too_many_fields": 3}),
    }
    of_train: dict[str, JSON] = {
        "news": {"dropped": {"empty_source": 1}, "kept": 4},
        "web": {"dropped": {"empty_source": 2, "duplicate": 1}, "kept": 3},
    }
    of_test: dict[str, JSON] = {"news": {"dropped": {}, "kept": 0}, "web": {"dropped": {"duplicate": 1}, "kept": 2}}
    filtered = {
        "train": manifest("filtered", "train", 7, sources=of_train),
        "test": manifest("filtered", "test", 2, sources=of_test),
    }
    assert sources(["news", "web"], raw, filtered) == {
        "news": SourceReport(
            skipped={"too_many_fields": 1},
            num_pairs_raw=5,
            dropped={"empty_source": 1},
            num_pairs_train=4,
            num_pairs_validation=0,
            num_pairs_test=0,
        ),
        "web": SourceReport(
            skipped={"too_many_fields": 3},
            num_pairs_raw=9,
            dropped={"empty_source": 2, "duplicate": 2},
            num_pairs_train=3,
            num_pairs_validation=0,
            num_pairs_test=2,
        ),
    }


def test_the_table_leads_from_what_was_read_to_what_is_kept_the_most_dropped_first() -> None:
    report = Report(
        name="corpus",
        languages=("en", "de"),
        skipped={"too_many_fields": 3},
        num_pairs_raw=2000,
        num_pairs_kept=1900,
        dropped={"empty_source": 10, "duplicate": 90},
        contaminated={"pairs": 14, "source": 8, "target": 9},
        num_pairs_train=1800,
        num_pairs_validation=60,
        num_pairs_test=40,
        sources={"web": SourceReport(num_pairs_raw=2000, num_pairs_train=1800, num_pairs_test=40)},
        source_vocab_size=500,
        target_vocab_size=700,
        joint_vocabulary=False,
        built=("raw-train-1", "filtered-train-1", "raw-test-1"),
    )
    assert told(report) == [
        "skipped while reading: too_many_fields: 3",
        "pairs read: 2,000",
        "dropped: duplicate: 90",
        "dropped: empty_source: 10",
        "pairs kept: 1,900",
        "train: 1,800",
        "validation: 60",
        "test: 40",
        "contaminated training pairs: 14 (source 8, target 9)",
        "of web: read; train, validation, test: 2,000; 1,800, 0, 40",
        "vocabulary: 500 + 700",
        "stages built: filtered, raw",
    ]
    shared = report.model_copy(update={"joint_vocabulary": True, "built": ()})
    assert told(shared)[-2:] == ["vocabulary: 500", "stages built: nothing"]
