"""Callbacks for any Trainer and any LightningModule, used as `Trainer(callbacks=[DataCosts(), …])`.

Trainers of `pytorch_lightning` and of `lightning.pytorch` both accept these callbacks.
"""

from mtx.training.callbacks.data_costs import DataCosts
from mtx.training.callbacks.exact_resume import ExactResume
from mtx.training.callbacks.token_mean import TokenMeanGradients
from mtx.training.callbacks.training_budget import TrainingBudget

__all__ = ["DataCosts", "ExactResume", "TokenMeanGradients", "TrainingBudget"]
