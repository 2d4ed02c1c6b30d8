"""Planners: they form the batches of an epoch from the lengths of all rows, with numpy only; one file per planner."""
