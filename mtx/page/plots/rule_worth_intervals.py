"""Plot of what each rule is worth: a dot with its interval for each comparison, one row for each rule."""

import math
from typing import TYPE_CHECKING

from mtx.page.plots.matplotlib_svg import FAINT, Figures, Plot, add_legend, series_style, short_name
from mtx.records.report_metrics import metric_heading
from mtx.records.rule_worth import RuleWorths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_HEIGHT = 30
REST_HEIGHT = 90  # height of the legend, the axis and its label
MAX_ROWS = 24
OFFSET = 0.16  # of the two comparisons of a rule, in rows


def worth_plot(figures: Figures, worths: RuleWorths) -> Plot:
    """Plot the gain over no rule and the gain over chance of each rule; the line at 0 is no effect."""
    rows = worths.rows[:MAX_ROWS]
    metric = metric_heading(worths.metric)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=FAINT, linewidth=1.2)
        for number, (name, field) in enumerate((("over no rule", "gain"), ("over chance", "over_chance"))):
            colour, marker = series_style(number)
            found = [(place, of) for place, row in enumerate(rows) if (of := getattr(row, field)) is not None]
            known = [(place, of) for place, of in found if math.isfinite(of.estimate)]
            places = [place + (2 * number - 1) * OFFSET for place, _ in known]
            axes.plot([of.estimate for _, of in known], places, marker, color=colour, label=name)
            for place, (_, of) in zip(places, known, strict=True):
                if math.isfinite(of.low) and math.isfinite(of.high):
                    axes.plot([of.low, of.high], [place, place], color=colour)
        axes.set_yticks(range(len(rows)), [short_name(row.rule) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"gain in {short_name(metric)}")
        axes.locator_params(axis="x", nbins=5)
        add_legend(figure, axes)

    return figures.draw(paint, label="gain of each rule with its interval", height=REST_HEIGHT + ROW_HEIGHT * len(rows))
