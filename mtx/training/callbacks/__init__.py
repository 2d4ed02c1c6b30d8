"""Callbacks for any Trainer and any LightningModule, used as `Trainer(callbacks=[DataCosts(), …])`.

Trainers of `pytorch_lightning` and of `lightning.pytorch` both accept these callbacks.
"""

from mtx.training.callbacks.data_costs import DataCosts
from mtx.training.callbacks.random_states_and_gradients import ExactResume
from mtx.training.callbacks.token_mean_gradients import TokenMeanGradients
from mtx.training.callbacks.training_budget import TrainingBudget
from mtx.training.callbacks.translation_writer import TranslationWriter

__all__ = ["DataCosts", "ExactResume", "TokenMeanGradients", "TrainingBudget", "TranslationWriter"]
