"""The simulation of verdicts agrees with mtx's own rule and keeps its level; docs/statistics.md has its tables."""

from pathlib import Path

import warm_process

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/bench_verdicts.py"


def test_a_quick_simulation_prints_all_tables() -> None:
    done = warm_process.run(SCRIPT, "quick")
    assert done.returncode == 0, done.stderr
    tables = tables_of(done.stdout)
    documented = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    assert len(tables) == 15
    assert all(title in documented for title in tables)
    normal = tables["False winners, % of sweeps: normal"]
    assert set(normal) == {
        "2, all equal",
        *(f"{k}, {how}" for k in (3, 6, 12) for how in ("all equal", "two tied best")),
    }
    kept = [*normal.values(), *tables["False winners, % of sweeps: seed effect, paired"].values()]
    assert max(rate for row in kept for rate in row) <= 5 + 3.5 * 1.1  # 3.5 standard errors of 400 sweeps
    assert (
        tables["False winners of the former rule (sum of standard deviations), % of sweeps, all equal: normal"]["2"][0]
        > 15
    )
    found = tables["True best named, % of sweeps, 2 SD ahead of equal others: normal"]
    assert found["6"][2] > 50 > 30 > found["6, former rule"][2]


def tables_of(printed: str) -> dict[str, dict[str, list[float]]]:
    """Return the numbers of each table by its title and the first cell of the row."""
    found: dict[str, dict[str, list[float]]] = {}
    title = ""
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line and not line.startswith("|"):
            title = line
        elif cells[0][:1].isdigit():
            found.setdefault(title, {})[cells[0]] = [float(cell) for cell in cells[1:]]
    return found


def test_documents_that_are_left_out_of_account_cost_coverage() -> None:
    documented = tables_of((ROOT / "docs/statistics.md").read_text(encoding="utf-8"))
    found = documented["Intervals over held-out sentences that hold the true difference, %"]
    assert all(91 <= by_document <= 97 for _, by_document in found.values())
    assert all(by_sentence < 90 for name, (by_sentence, _) in found.items() if "documents" in name)
