"""`task=prepare`: all stages, no batches."""

from typing import Any

from mtx.experiment.measure import data_report, funnel
from mtx.experiment.profile import data_profile, write_profile
from mtx.experiment.run import Run


def prepare_only(run: Run) -> None:
    """Build every stage that the store lacks, print the way of the pairs, and write both reports."""
    run.datamodule.prepare_data()
    report: dict[str, Any] = data_report(run)
    write_profile(run.output_dir, data_profile(run))
    run.console.print(funnel(report))
    run.console.print(f"report: {run.write_report(report)}")
