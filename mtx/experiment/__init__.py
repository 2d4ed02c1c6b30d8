"""Tasks: what a run does with the data."""
