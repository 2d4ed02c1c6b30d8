"""The batches of an epoch, from lengths: pure arrays, one file a planner."""
