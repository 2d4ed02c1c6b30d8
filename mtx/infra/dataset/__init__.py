"""From a source to pairs, and from token ids to batches."""
