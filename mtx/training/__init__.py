"""LightningDataModule, data loader, checkpoints, callbacks and reference model for training on prepared data."""

from mtx.training.deferred_transformers import install_finder

install_finder()
