"""Datasets as files for others: export in three formats, and import of what was exported."""
