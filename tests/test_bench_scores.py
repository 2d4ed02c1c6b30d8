"""The benchmark of scorers prints rates, and what each score catches; it says so if the large corpus is missing."""

import re
from pathlib import Path

import pytest
import warm_process

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_scores.py"


@pytest.mark.slow
def test_bench_scores_prints_rates_and_what_each_score_catches(tmp_path: Path) -> None:
    done = warm_process.run(SCRIPT, "--data", tmp_path, "--per-kind", "60", "--scorers", "rules", timeout=240)
    assert done.returncode == 0, done.stderr
    assert "SKIPPED: there is no corpus.en-de.jsonl.gz; name its folder with --data FOLDER" in done.stderr
    assert re.search(r"en–ja, the sample, whose targets have no spaces: [\d,]+ pairs", done.stdout)
    assert re.search(r"rules: trained in [\d.]+ s, [\d,]+ pairs/s", done.stdout)
    heading = next(line for line in done.stdout.splitlines() if line.strip().startswith("column"))
    copies = next(line for line in done.stdout.splitlines() if line.strip().startswith("rules.copy"))
    of_copied = copies.split()[heading.split().index("copied")]
    assert float(of_copied.split("/")[0]) >= 0.98
