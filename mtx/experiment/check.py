"""`task=check`: the config, and nothing else."""

from mtx.experiment.run import Run


def check_only(run: Run) -> None:
    """Say that the config is valid; every run checks it first, so getting here is the proof."""
    _ = run.datamodule  # what a component says about its own values
    run.console.print("The config is valid.")
