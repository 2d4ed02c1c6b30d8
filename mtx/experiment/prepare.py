"""`task=prepare`: all stages, no batches."""

from typing import Any

from mtx.experiment.measure import data_report, funnel
from mtx.experiment.run import Run


def prepare_only(run: Run) -> None:
    """Build every stage that the store lacks, print the way of the pairs, and write `report.json`."""
    run.datamodule.prepare_data()
    report: dict[str, Any] = data_report(run)
    run.console.print(funnel(report))
    run.console.print(f"report: {run.write_report(report)}")
