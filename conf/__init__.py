"""Hydra's configs; packaged as `mtx.conf`."""
