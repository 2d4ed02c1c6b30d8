"""The tasks of the `mtx` command: one module for each option of the config group `task`."""
