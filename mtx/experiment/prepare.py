"""`task=prepare`: build all stages of the data, but no batches."""

from mtx.experiment.run_context import DATA_GROUPS, Run, needs
from mtx.records.data_report import data_report, data_tables
from mtx.records.plot_data_computation import data_profile
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_record import Report


@needs(*DATA_GROUPS)
def prepare_only(run: Run) -> None:
    """Build each stage that the store lacks, print the pairs kept and dropped, write `report.json`, `profile.json`."""
    run.datamodule.prepare_data()
    report = Report.of(data_report(run.datamodule, seed=run.seed))
    RunProfile.of(data_profile(run.datamodule)).write(run.output_dir)
    for table in data_tables(report):
        run.console.print(table)
    run.console.print(f"report: {run.write_report(report)}")
