"""The benchmark of scorers prints rates, and what each score catches; it says so if the large corpus is missing."""

import importlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import warm_process

from mtx.data.score.planted_noise import PlantedPairs

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_scores.py"


def test_the_exact_search_finds_all_near_duplicates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    bench = importlib.import_module("bench_near_duplicates")
    texts = [f"this sentence stands at place {n % 40} of the text {'and more ' * (n % 3)}" for n in range(120)]
    pairs = pa.table({name: pa.array(texts, pa.large_string()) for name in ("src", "tgt")})
    bench.measure_near_duplicates(pairs)
    later, earlier, values = bench.exact_near_duplicates(pairs.to_batches())
    expected = {
        (one, other)
        for one in range(len(texts))
        for other in range(one)
        if texts[one] != texts[other] and jaccard(texts[one], texts[other]) >= 0.8
    }
    assert set(zip(later.tolist(), earlier.tolist(), strict=True)) == expected
    assert values[0] == pytest.approx(jaccard(texts[later[0]], texts[earlier[0]]))
    assert "% of the near-duplicates are in one cluster" in capsys.readouterr().out


def jaccard(*texts: str) -> float:
    one, other = ({f"{text}|{text}"[at : at + 5] for at in range(2 * len(text) - 3)} for text in map(str.strip, texts))
    return len(one & other) / len(one | other)


def test_the_lines_about_gaps_name_missed_goals_and_blind_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    bench = importlib.import_module("bench_noise_gaps")
    texts = pa.table({name: pa.array(["あ" * 9] * 4 + ["い" * 3] * 6, pa.large_string()) for name in ("src", "tgt")})
    planted = PlantedPairs(np.arange(10), texts, np.full(10, -1))
    values = {"alignment": np.linspace(1, 2, 101), "rules.copy": np.zeros(101)}
    shifted = np.array([0.0] * 4 + [1.5] * 6)
    noise = {"alignment": {"shifted": shifted}, "rules.copy": {"shifted": np.zeros(10)}}
    told = "\n".join(bench.gap_lines(values, noise, {"shifted": planted}, ["あいう"]))
    assert "alignment on shifted MISSED: 0.700 / 40%, goal 0.99 / 95%" in told
    assert "rules.copy on copied: not measured, because no pair can be changed to this kind" in told
    assert "shifted: alignment is the best with 40% (AUC 0.70); 60% of the pairs are below the threshold of no" in told
    assert "the median target that alignment misses has 3 characters, and one that it catches 9" in told
    assert "without reaction (AUC below 0.55): rules.copy" in told
    assert "100% of the targets have no space" in told
    assert "rules.copy has one value for 100% of all pairs" in told
    assert "kinds of which no column catches 88% at 5% loss: none" in "\n".join(
        bench.gap_lines(values, {"alignment": {"shifted": np.zeros(10)}}, {"shifted": planted}, ["a b"])
    )


@pytest.mark.slow
def test_bench_scores_prints_rates_and_what_each_score_catches(tmp_path: Path) -> None:
    arguments = ("--data", tmp_path, "--per-kind", "60", "--scorers", "rules", "--thresholds", "2")
    done = warm_process.run(SCRIPT, *arguments, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "SKIPPED: there is no corpus.en-de.jsonl.gz; name its folder with --data FOLDER" in done.stderr
    assert re.search(r"en–ja, the sample, whose targets have no spaces: [\d,]+ pairs", done.stdout)
    assert re.search(r"rules: trained in [\d.]+ s, [\d,]+ pairs/s", done.stdout)
    assert re.search(r"2 thresholds, each a job: [\d.]+ s .* 0 datasets built besides the selections", done.stdout)
    assert "where it falls, and why: the goal of the default rules" in done.stdout
    assert "rules.mojibake on mojibake reached" in done.stdout
    heading = next(line for line in done.stdout.splitlines() if line.strip().startswith("column"))
    copies = next(line for line in done.stdout.splitlines() if line.strip().startswith("rules.copy"))
    of_copied = copies.split()[heading.split().index("copied")]
    assert float(of_copied.split("/")[0]) >= 0.98
