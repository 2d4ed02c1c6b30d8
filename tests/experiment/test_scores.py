"""Scores from the command: stored once, read by selections, written as files, and measured with planted noise."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from command_line import Mtx

WORDS = (
    *("house", "tree", "green", "red", "walks", "sings", "under"),
    *("bridge", "river", "night", "morning", "letter", "window", "garden"),
)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The overrides for a corpus of 240 pairs with some bad ones, in an empty store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    rng = random.Random(0)
    rows = []
    for number in range(240):
        words = rng.choices(WORDS, k=rng.randint(4, 12))
        target = " ".join(word[::-1] for word in words[number % 2 :])
        rows.append({"src": f"{' '.join(words)} {number}", "tgt": f"{target} {number}"})
    rows[7]["tgt"] += " 99"
    rows[8]["tgt"] = "Ã©" + rows[8]["tgt"]
    rows[9]["tgt"] = "kurz 9"
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["downloader=local", "downloader.path=c.jsonl", "tokenizer=byte", "datamodule.test=null"]


def test_scores_are_stored_once_and_reported(corpus: list[str], mtx: Mtx) -> None:
    first = mtx("task=prepare", "score=[rules]", *corpus)
    assert first.code == 0, first.err
    report = first_report = mtx_report()
    assert report["scorers"]["rules"]["num_pairs"] == 240
    assert report["scorers"]["rules"]["pairs_per_s"] > 0
    assert report["scorers"]["rules"]["columns"]["rules.digits"]["min"] == -2.0
    assert "rules.length_z" in first.out
    again = mtx("task=prepare", "score=[rules]", *corpus)
    assert again.code == 0, again.err
    report = mtx_report()
    assert report["built"] == []
    assert report["scorers"]["rules"].get("pairs_per_s") is None
    assert report["ids"]["scores"] == first_report["ids"]["scores"]
    assert "reused" in again.out


def mtx_report() -> Any:
    """Return the report of the only run, and remove its folder."""
    (path,) = Path.cwd().glob("outputs/*/*/report.json")
    loaded = json.loads(path.read_text())
    path.unlink()
    return loaded


def test_another_threshold_reads_the_scores_and_encodes_nothing(corpus: list[str], mtx: Mtx) -> None:
    overrides = ["score=[rules]", "filter=selection", "filter.rules.repetition=null", *corpus]
    first = mtx("task=prepare", *overrides, "filter.rules.length_z.min=-4")
    assert first.code == 0, first.err
    report = mtx_report()
    rules = report["selection"]["rules"]
    assert rules["digits"] == {
        **{"criteria": {"column": "rules.digits", "min": 0.0}},
        **{"dropped_in_order": 1, "dropped_alone": 1, "dropped_only_here": 1, "reasons": {}},
    }
    assert rules["mojibake"]["dropped_in_order"] == 1
    at_minus_4 = rules["length_z"]["dropped_alone"]
    assert 0 < at_minus_4 < 20
    assert report["dropped"]["length_z"] == rules["length_z"]["dropped_in_order"]
    assert "script" not in rules, "a rule without criteria is off"
    assert "only here" in first.out
    second = mtx("task=prepare", *overrides, "filter.rules.length_z.min=-1.0")
    assert second.code == 0, second.err
    report = mtx_report()
    assert [name.partition("-")[0] for name in report["built"]] == ["filtered"]
    assert report["selection"]["rules"]["length_z"]["dropped_alone"] > at_minus_4 + 10
    profiles = sorted(Path.cwd().glob("outputs/*/*/profile.json"))
    samples = json.loads(profiles[-1].read_text())["rules"]["length_z"]
    assert len(samples["samples"]) == 10
    assert {near["is_dropped"] for near in samples["samples_near"]} == {True, False}
    page = (profiles[-1].parent / "report.html").read_text()
    assert "Rules of the selection" in page


def test_without_scores_the_packaged_rules_are_off_and_a_threshold_says_what_to_choose(
    corpus: list[str], mtx: Mtx
) -> None:
    assert mtx("task=prepare", "filter=selection", *corpus).code == 0
    assert "selection" not in mtx_report()
    failed = mtx("task=prepare", "filter=selection", "filter.rules.length_z.min=-3", *corpus)
    assert failed.code == 1
    assert "the rule length_z needs the column rules.length_z, which does not exist" in failed.err
    assert "score=[rules]" in failed.err
    typo = mtx(
        "task=prepare",
        "score=[rules]",
        "filter=selection",
        "+filter.rules.x.column=rules.lenght_z",
        "+filter.rules.x.min=1",
        *corpus,
    )
    assert typo.code == 1
    assert "There are: rules.length_z, rules.letters" in typo.err
    assert not list(Path("store/models").glob("*")), "before any pair is scored"


def test_a_rule_over_lengths_or_a_column_of_the_corpus_needs_no_scorer(corpus: list[str], mtx: Mtx) -> None:
    done = mtx(
        *("task=prepare", "filter=selection", "+filter.rules.long.column=source_chars"),
        *("+filter.rules.long.best_share=0.5", *corpus),
    )
    assert done.code == 0, done.err
    report = mtx_report()
    assert report["selection"]["num_kept"] == (report["selection"]["num_pairs"] + 1) // 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score=[rulez]"], r"score has no option 'rulez'. Its options: "),
        (["score=null"], r"score has no option 'null'. Its options: "),
        (["score.rules.seed=1"], r"no option of score is chosen, so score.rules.seed does not exist. Add score=[NAME]"),
        (["score=[rules]", "score.rules.sample_pairs=0"], r"score.rules.sample_pairs is an integer of at least 1"),
        (["+score.mine.x=1"], r"score.mine must be a Scorer, but has no _target_"),
        (["+score.mine._target_=os.system"], r"score.mine._target_ must name a Scorer, but os.system is not one"),
        (["+filter.rules.mine._target_=os.system", "filter=selection"], "which is not a class"),
    ],
)
def test_wrong_options_are_named_before_any_work(
    corpus: list[str], mtx: Mtx, arguments: list[str], message: str
) -> None:
    failed = mtx("task=prepare", *arguments, *corpus)
    assert failed.code == 1
    assert message in failed.err, failed.err
    assert not Path("store").exists()


def test_task_scores_writes_a_line_for_each_raw_pair_and_measures_noise(corpus: list[str], mtx: Mtx) -> None:
    corpus_file = Path("c.jsonl")
    corpus_file.write_text(corpus_file.read_text().replace("kurz 9", "kurz <b>9</b>"))
    done = mtx("task=scores", "score=[rules]", "filter=selection", "task.csv=true", "task.noise_pairs=30", *corpus)
    assert done.code == 0, done.err
    (folder,) = (path.parent for path in Path.cwd().glob("outputs/*/*/scores.parquet"))
    table = pq.read_table(folder / "scores.parquet")
    assert table["row"].to_pylist() == list(range(240))
    assert table.column_names[:2] == ["row", "rules.letters"]
    assert {str(field.type) for field in table.schema if field.name != "row"} == {"double"}
    assert table["rules.digits"].to_pylist()[5:9] == [0.0, 0.0, -2.0, 0.0]
    assert pa_csv.read_csv(folder / "scores.csv").num_rows == 240
    report = mtx_report()
    assert [name.partition("-")[0] for name in report["built"]] == ["raw", "text", "model", "scores"]
    assert report["num_rows"] == 240
    assert (
        sum(report["histograms"]["rules.length_z"]["counts"]) + report["histograms"]["rules.length_z"]["below"] == 240
    )
    kinds = report["noise"]["rules.digits"]["kinds"]
    assert kinds["changed_number"]["auc"] > 0.98
    assert report["noise"]["rules.copy"]["kinds"]["copied"]["caught_5"] == 1.0
    assert report["noise"]["rules.length_z"]["loss_5"]["lost"] <= 0.05
    assert len(report["noise"]["rules.digits"]["kinds"]["copied"]["caught"]) == len(
        report["noise"]["rules.digits"]["losses"]
    )
    costs = report["rule_costs"]
    assert costs["rules"]["digits"]["kinds"]["changed_number"] > 0.9
    assert costs["together"]["caught"] > max(rule["caught"] for rule in costs["rules"].values())
    assert report["examples"]["rules.markup"]["worst"][0]["row"] == 9
    assert len(report["examples"]["rules.markup"]["median"]) == 5
    assert "changed_number" in done.out
    assert "rules of filter=selection" in done.out
    page = (folder / "report.html").read_text()
    assert "kurz &lt;b&gt;9&lt;/b&gt;" in page, "texts are escaped"
    assert "All rules together lose" in page
    assert page.count("<figure") == 2 * 8 - page.count("All pairs have the value")
    without = mtx("task=scores", "score=[rules]", "task.noise_pairs=0", "task.example_pairs=0", *corpus)
    assert without.code == 0, without.err
    (page_path,) = (path for path in Path.cwd().glob("outputs/*/*/report.html") if path.parent != folder)
    assert "kurz" not in page_path.read_text() + (page_path.parent / "report.json").read_text()
    (page_path.parent / "report.json").unlink()
    default = mtx("task=scores", "task.noise_pairs=0", "task.example_pairs=0", *corpus)
    assert default.code == 0, default.err
    assert "assumed: the scorer rules judges the pairs, because none is chosen" in default.out
    found = mtx_report()
    assert list(found["scorers"]) == ["rules"]
    assert not [name for name in found["built"] if name.startswith("scores")], "those of score=[rules] are reused"
    assert found["assumptions"]


def test_a_mixture_is_scored_by_source_and_names_it(corpus: list[str], mtx: Mtx) -> None:
    Path("d.jsonl").write_text(Path("c.jsonl").read_text()[:2000].rpartition("\n")[0] + "\n")
    sources = "downloader.sources={a: {path: c.jsonl}, b: {path: d.jsonl}}"
    done = mtx("task=scores", "score=[rules]", "downloader=mixture", sources, "task.noise_pairs=0")
    assert done.code == 0, done.err
    (path,) = Path.cwd().glob("outputs/*/*/scores.parquet")
    table = pq.read_table(path)
    assert table["source"].to_pylist()[:240] == ["a"] * 240
    assert set(table["source"].to_pylist()[240:]) == {"b"}
    assert table["row"].to_pylist() == list(range(table.num_rows))


def test_a_model_is_trained_on_a_selection(corpus: list[str], mtx: Mtx) -> None:
    done = mtx(
        *("task=fit", "score=[rules]", "filter=selection", "trainer=cpu", "trainer.max_steps=1", "logger=none"),
        *("task.translations=0", "task.scored_sentences=0", "model.d_model=16", "model.num_heads=2", *corpus),
    )
    assert done.code == 0, done.err
    report = mtx_report()
    assert report["num_steps"] == 1
    assert report["selection"]["rules"]["digits"]["dropped_alone"] == 1
    assert list(report["ids"]["scores"]) == ["rules"]
    (page,) = Path.cwd().glob("outputs/*/*/report.html")
    assert "Rules of the selection" in page.read_text()


def test_misaligned_pairs_are_dropped_below_the_natural_threshold(corpus: list[str], mtx: Mtx) -> None:
    lines = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    lines[20]["tgt"], lines[21]["tgt"] = lines[121]["tgt"], lines[120]["tgt"]
    Path("c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    chosen = "score=[rules,alignment,order]"
    done = mtx("task=scores", chosen, "task.noise_pairs=30", *corpus)
    assert done.code == 0, done.err
    (path,) = Path.cwd().glob("outputs/*/*/scores.parquet")
    table = pq.read_table(path)
    assert {"alignment", "alignment.weaker", "alignment.explained", "order"} < set(table.column_names)
    lowest = sorted(range(240), key=table["alignment"].to_pylist().__getitem__)[:3]
    assert {20, 21} < set(lowest)
    report = mtx_report()
    assert report["noise"]["alignment"]["kinds"]["misaligned"]["auc"] > 0.95
    assert report["noise"]["order"]["kinds"]["shuffled"]["num_pairs"] == 30
    path.unlink()
    done = mtx("task=prepare", chosen, "filter=selection", *corpus)
    assert done.code == 0, done.err
    report = mtx_report()
    assert report["selection"]["rules"]["alignment"]["criteria"] == {"column": "alignment", "min": 0.0}
    assert report["selection"]["rules"]["alignment"]["dropped_alone"] >= 1
    assert report["ids"]["models"].keys() == {"rules", "alignment", "order"}
