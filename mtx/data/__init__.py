"""Datasets and the stages that make one from another."""
