"""Callbacks that any Trainer can take, with any LightningModule: `Trainer(callbacks=[DataCosts(), …])`.

They are those of `pytorch_lightning`, and a Trainer of `lightning.pytorch` takes them too, in a list.
"""

from mtx.callbacks.data_costs import DataCosts
from mtx.callbacks.exact_resume import ExactResume
from mtx.callbacks.token_mean import TokenMeanGradients

__all__ = ["DataCosts", "ExactResume", "TokenMeanGradients"]
