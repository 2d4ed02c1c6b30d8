"""Callbacks that any Trainer can take, with any LightningModule: `Trainer(callbacks=[DataCosts(), …])`.

Trainers of `pytorch_lightning` and of `lightning.pytorch` both take them.
"""

from mtx.callbacks.data_costs import DataCosts
from mtx.callbacks.exact_resume import ExactResume
from mtx.callbacks.token_mean import TokenMeanGradients
from mtx.callbacks.training_budget import TrainingBudget

__all__ = ["DataCosts", "ExactResume", "TokenMeanGradients", "TrainingBudget"]
