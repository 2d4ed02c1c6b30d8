"""Report of a trained model beyond its held-out likelihood: contrastive accuracy, translations, and slices.

`task=fit` calls `evaluated` at its end. The statistics of each held-out sentence are in `held_out.parquet`.
"""

from collections.abc import Sequence

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from mtx.evaluation.corpus_metrics import ScoreStatistics
from mtx.evaluation.slices import Slicing
from mtx.experiment.contrastive_accuracy import contrastive_accuracy
from mtx.experiment.fit_opening_and_summary import READABLE
from mtx.experiment.run_context import Run
from mtx.experiment.translations import score_samples
from mtx.records.held_out_sentences import complete_held_out
from mtx.records.report_record import Report
from mtx.records.slice_sums import slice_columns, slice_report
from mtx.training.translation_data import TranslationData


def evaluated(
    run: Run,
    trainer: pl.Trainer,
    model: pl.LightningModule,
    report: Report,
    slicings: Sequence[Slicing],
    contrastive_pairs: int,
    **sizes: int,
) -> Report:
    """Return the report with the contrastive accuracy and translations of the trained model, and complete its files.

    Translations are printed if the accuracy is surely above 50 % or not known. `sizes` go to `score_samples`.
    """
    device = trainer.strategy.root_device
    accuracy, is_first = contrastive_accuracy(run, model, device, contrastive_pairs)
    is_readable = accuracy is None or accuracy.low > READABLE
    outputs, statistics = score_samples(run, model, device, **sizes, printed=is_readable)
    complete_statistics(run, report, statistics, slicings, is_first)
    ranked = {} if accuracy is None else {"contrastive": accuracy.model_dump()}
    return Report.of(report, outputs, slice_report(run.output_dir, slicings), ranked)


def complete_statistics(
    run: Run,
    data: Report,
    scores: ScoreStatistics | None,
    slicings: Sequence[Slicing] = (),
    is_first: NDArray[np.int64] | None = None,
) -> None:
    """Add to `held_out.parquet` which pairs it is about, their documents and slices, and statistics of translations."""
    documents = None
    if isinstance(run.datamodule, TranslationData) and (names := run.datamodule.val_names):
        documents = run.datamodule.documents(names[0])
    digest = None if data.held_out is None else data.held_out.digest
    columns = slice_columns(slicings) | ({} if is_first is None else {"is_first": is_first})
    complete_held_out(run.output_dir, digest=digest, documents=documents, scores=scores, columns=columns)
