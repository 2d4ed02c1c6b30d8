"""Compute the grid of two varied settings: the mean of the objective for each combination of their values."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtx.page.ranking import Cell, Ranking, Row, ranked_groups
from mtx.records.report_metrics import Value
from mtx.records.result_types import SEED, Results
from mtx.records.setting_notation import BEST_MARK, brief_value

MAX_VALUES = 20  # of each setting
MIN_SHARE = 0.5  # of the combinations that jobs have; a sparser grid says little


@dataclass(frozen=True)
class Combination:
    """One arm in the grid.

    Attributes:
        cell: the mean of the objective, with its standard deviation over seeds.
        row: the number of the arm's row in the ranking.
        goodness: 1 for the best arm, 0 for the worst, linear in the objective between; None without a finite mean.
        is_best: whether the verdict names this arm as the winner.
    """

    cell: Cell
    row: int
    goodness: float | None
    is_best: bool


@dataclass(frozen=True)
class CombinationGrid:
    """The grid of two settings; the setting with fewer values has the columns.

    Attributes:
        row_key, column_key: the settings.
        columns: the values of `column_key`.
        rows: each value of `row_key` with a combination for each column; None for one without a job.
    """

    row_key: str
    column_key: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Combination | None, ...]], ...]


def combination_grid(results: Results, table: Ranking) -> CombinationGrid | None:
    """Return the grid of the two settings that vary beside the seed; None for one setting, for three, or a sparse grid.

    Args:
        results: the jobs of one cohort.
        table: their ranking.
    """
    keys = [key for key in results.varied if key != SEED]
    rows = [row for row in table.rows if row.cells and row.cells[0] is not None and not row.jobs[0].confirms]
    if len(keys) != 2 or len(rows) < 4:
        return None
    values = {key: _in_order(list(dict.fromkeys(row.jobs[0].value(key) for row in rows))) for key in keys}
    column_key, row_key = sorted(keys, key=lambda key: len(values[key]))
    sizes = [len(of) for of in values.values()]
    if not 2 <= min(sizes) <= max(sizes) <= MAX_VALUES or len(rows) < MIN_SHARE * sizes[0] * sizes[1]:
        return None
    cells = {(row.jobs[0].value(row_key), row.jobs[0].value(column_key)): row for row in rows}
    goodness = _goodness(rows, results)
    found = [
        (
            brief_value(of_row),
            tuple(
                _combination(cells[of_row, column], goodness) if (of_row, column) in cells else None
                for column in values[column_key]
            ),
        )
        for of_row in values[row_key]
    ]
    return CombinationGrid(row_key, column_key, tuple(map(brief_value, values[column_key])), tuple(found))


def _combination(row: Row, goodness: dict[int, float]) -> Combination:
    assert row.cells[0] is not None
    return Combination(row.cells[0], row.number, goodness.get(row.number), row.mark == BEST_MARK)


def _goodness(rows: Sequence[Row], results: Results) -> dict[int, float]:
    """Return how good each arm is, from 0 to 1, by the number of its row."""
    groups = ranked_groups(results)
    means = {row.number: groups[row.number - 1].mean(results.objective or "") for row in rows}
    known = {number: mean for number, mean in means.items() if mean is not None}
    least, most = min(known.values(), default=0.0), max(known.values(), default=0.0)
    width = (most - least) or 1.0
    if results.direction == "minimize":
        return {number: (most - mean) / width for number, mean in known.items()}
    return {number: (mean - least) / width for number, mean in known.items()}


def _in_order(values: list[Value]) -> list[Value]:
    """Return numbers by size; other values in the order in which they came, the best arm's first."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return sorted(numbers) + [value for value in values if isinstance(value, (bool, str)) or value is None]
