"""Lines of `task=fit` about figures that a user's own model does not give, and how the model can give them."""

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from mtx.evaluation.contrastive import TargetScorer
from mtx.evaluation.translator_protocol import Translator
from mtx.records.report_record import Report
from mtx.training.checkpoint_callback import OTHER_METRICS

GUIDE = "docs/howto/own_model.md"


def missing_figures(model: torch.nn.Module, report: Report) -> list[str]:
    """Return a line for each figure that is missing because of the model; none for the reference model.

    Args:
        model: The trained model.
        report: The report of its training, with its validations.
    """
    name = type(model).__name__
    lines = []
    has_pairs = bool(report.num_pairs_of("validation"))
    if report.bits_per_byte is None and has_pairs:
        has_step = isinstance(model, LightningModule) and is_overridden("validation_step", model)
        where = "its validation_step" if has_step else "a validation_step, which it lacks"
        lines.append(
            f"bits per byte: {name} does not log val/bits_per_byte. Call mtx.evaluation.log_held_out in {where}"
        )
        if report.best_checkpoint is None and report.checkpoint is not None:
            others = " or ".join(OTHER_METRICS)
            lines.append(
                f"best checkpoint: {name} logs neither val/bits_per_byte nor {others}, so only the last is kept"
            )
    if not isinstance(model, Translator):
        lines.append(f"BLEU, chrF and translations: {name} lacks the method translate(batch, max_tokens, *, beam=1)")
    if not isinstance(model, TargetScorer):
        lines.append(f"contrastive accuracy: {name} lacks the method target_nats(batch)")
    return [*lines, f"each is described in {GUIDE}"] if lines else []
