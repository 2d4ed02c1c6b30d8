"""The ranking as a Markdown table and as a LaTeX table, for papers and notes."""

from collections.abc import Sequence

from mtx.page.ranking import Ranking
from mtx.redaction_and_escaping import visible_text

LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "★": r"$\star$",
    "≈": r"$\approx$",
    "±": r"$\pm$",
    "–": "--",
}
MAX_ROWS = 200


def markdown_table(ranking: Ranking) -> str:
    """Return the ranking as a table in Markdown; a pipe in a value is escaped."""
    header, *rows = [[_one_line(cell).replace("|", r"\|") for cell in row] for row in _cells(ranking)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def latex_table(ranking: Ranking) -> str:
    """Return the ranking as a `tabular` in LaTeX with the rules of the package booktabs; special characters escaped."""
    header, *rows = [[_latex(_one_line(cell)) for cell in row] for row in _cells(ranking)]
    body = [r"\toprule", f"{' & '.join(header)} \\\\", r"\midrule", *(f"{' & '.join(row)} \\\\" for row in rows)]
    return "\n".join(
        [f"\\begin{{tabular}}{{{'l' * 2}{'r' * (len(header) - 2)}}}", *body, r"\bottomrule", r"\end{tabular}"]
    )


def _cells(ranking: Ranking) -> list[list[str]]:
    """Return the heading and the rows: mark, arm, objective, differences, metrics, seeds."""
    over = [f"to best, {kind}" for kind in ranking.intervals]
    found = [["", "arm", *ranking.headings[:1], *over, *ranking.headings[1:], "seeds"]]
    for row in ranking.rows[:MAX_ROWS]:
        numbers = [_number(cell) for cell in row.cells]
        seeds = f"{row.completed}" if row.completed == len(row.jobs) else f"{row.completed} of {len(row.jobs)}"
        found.append([row.mark, row.label, *numbers[:1], *row.differences, *numbers[1:], seeds])
    return found


def _number(cell: object) -> str:
    mean, spread = getattr(cell, "mean", "–"), getattr(cell, "spread", None)
    return mean if spread is None else f"{mean} ± {spread}"


def _one_line(text: str) -> str:
    return " ".join(visible_text(text).split())


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def both_tables(ranking: Ranking) -> Sequence[tuple[str, str]]:
    """Return the names and the texts of both forms; empty for a ranking without rows."""
    if not ranking.rows:
        return ()
    return (("Copy as Markdown", markdown_table(ranking)), ("Copy as LaTeX", latex_table(ranking)))
