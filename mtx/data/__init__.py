"""Datasets, and the stages of data preparation that build them."""
