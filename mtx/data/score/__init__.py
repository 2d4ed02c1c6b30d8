"""Scorers, which give each pair of a text a number that is stored as a column."""
