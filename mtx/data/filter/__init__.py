"""Filters, which drop pairs of the training split; one module per filter."""
