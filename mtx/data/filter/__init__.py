"""Filters: which pairs of a raw dataset are kept, one file a filter."""
