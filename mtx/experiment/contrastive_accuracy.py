"""Measure the contrastive accuracy of a trained model on the held-out pairs of a run."""

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mtx.batches.collate import Batch, collate_rows
from mtx.batches.pair_lengths import batch_lengths
from mtx.batches.prompted_pairs import crossed_pairs
from mtx.batches.schema import supported_schema
from mtx.evaluation.contrastive import (
    NUM_CANDIDATES,
    SEED,
    TargetScorer,
    candidate_nats,
    contrastive_candidates,
    is_right_first,
    wilson_interval,
)
from mtx.experiment.held_out_slicings import part_targets
from mtx.experiment.run_context import Run
from mtx.experiment.translations import evenly_spaced_rows, rows_to_translate
from mtx.library_errors import library_reason
from mtx.progress.progress_log import log_trace
from mtx.progress.tracking import CountedWork
from mtx.records.slice_report import Contrastive
from mtx.training.datamodule import TranslationDataModule
from mtx.training.loader import PlanLoader

Int = NDArray[np.int64]


def contrastive_accuracy(
    run: Run, model: torch.nn.Module, device: torch.device, num_pairs: int
) -> tuple[Contrastive | None, Int | None]:
    """Ask a model for the right target among ten, for an evenly spaced sample of the first validation set.

    Returns:
        The accuracy, and for each row of the validation set 1 (right), 0 (wrong) or -1 (not asked), int64 [n]. None for
        both if the model is no `TargetScorer`, if batches have Hugging Face's names, or without enough held-out pairs.
        Also None, with a line that says why, if the model fails: all other results of the training stay.
    """
    data = run.datamodule
    if not isinstance(model, TargetScorer) or not isinstance(data, TranslationDataModule) or not num_pairs:
        return None, None
    rows, loader = rows_to_translate(data, np.iinfo(np.int64).max)
    if loader is None or data.batch_format.names == "huggingface":
        return None, None
    name = data.val_names[0]
    candidates = _candidates(data, name, rows, num_pairs)
    if not len(candidates):
        return None, None
    try:
        nats = _nats(data, model, device, candidates, loader)
    except Exception as error:  # of the model, such as too little memory, after a training that may have taken days
        told = f"contrastive accuracy was not measured: {library_reason(error)}{log_trace()}"
        run.console.print(told, highlight=False, markup=False, soft_wrap=True)
        return None, None
    byte_counts = data.num_target_bytes(torch.from_numpy(candidates.ravel()), name).numpy().reshape(candidates.shape)
    right = is_right_first(nats, byte_counts)
    of_row = np.full(int(rows.max()) + 1, -1, dtype=np.int64)
    of_row[candidates[:, 0]] = right
    low, high = wilson_interval(int(right.sum()), len(right))
    accuracy = Contrastive(
        num_pairs=len(right), num_candidates=NUM_CANDIDATES, accuracy=float(right.mean()), low=low, high=high
    )
    return accuracy, of_row


def _candidates(data: TranslationDataModule, name: str, rows: Int, num_pairs: int) -> Int:
    """Return the rows of the candidates of each asked pair, all in the language of its target, int64 [Q, 10]."""
    num_bytes = data.num_target_bytes(torch.from_numpy(rows), name).numpy()
    sources, texts = (_text_numbers(data, name, side)[rows] for side in ("src", "tgt"))
    asked, rng = evenly_spaced_rows(rows, num_pairs), np.random.default_rng(SEED)
    languages = _target_languages(data, name)[rows]
    found = []
    for language in np.unique(languages):
        of_it = languages == language
        own = rows[of_it]
        of_own = asked[np.isin(asked, own)]
        found.append(contrastive_candidates(own, num_bytes[of_it], sources[of_it], texts[of_it], of_own, rng))
    return np.concatenate(found)


def _target_languages(data: TranslationDataModule, name: str) -> Int:
    """Return a number for the language of each target of a validation set: int64 [n]."""
    if name != "validation" or not data.source_names:
        return np.zeros(len(data.lengths(name)), dtype=np.int64)
    targets = part_targets(data)
    numbers = np.array([targets.index(each) for each in targets], dtype=np.int64)
    return numbers[data.sources(name)]


def _nats(
    data: TranslationDataModule, model: TargetScorer, device: torch.device, candidates: Int, loader: PlanLoader
) -> NDArray[np.float64]:
    """Return the nats of all candidates, float64 [Q, 10], in batches of at most `datamodule.eval_max_tokens`."""
    assert isinstance(model, torch.nn.Module)
    layout = loader.dataset.batch_format
    lengths = batch_lengths(loader.dataset.pairs, layout)
    max_tokens = data.eval_sampler.max_tokens // (1 + layout.is_causal)  # a causal row holds both sides
    scored = 0
    with CountedWork("ranking targets", candidates.size, "rank", unit="pairs", as_count=True) as progress:

        def nats_of(sources: Int, targets: Int) -> NDArray[np.float64]:
            nonlocal scored
            found = model.target_nats(_crossed_batch(loader, sources, targets)).detach().double().cpu()
            if found.shape != (len(targets),):
                raise ValueError(f"target_nats must return one number for each target, but returned {found.shape}")
            scored += len(targets)
            progress.reach(scored)
            nats: NDArray[np.float64] = found.numpy()
            return nats

        try:
            model.to(device)  # Lightning's Trainer has moved the model to the CPU after training
            return candidate_nats(
                candidates,
                (np.asarray(lengths.source, dtype=np.int64), np.asarray(lengths.target, dtype=np.int64)),
                nats_of,
                max_tokens=max_tokens,
            )
        finally:
            model.cpu()


def _crossed_batch(loader: PlanLoader, sources: Int, targets: Int) -> Batch:
    """Return a batch of the sources of some pairs, and the targets of others."""
    served = loader.dataset
    if served.batch_format.is_causal:  # one sequence holds both
        crossed = crossed_pairs(served.pairs, sources, targets)
        batch = collate_rows(crossed, np.arange(len(targets)), served.batch_format)
        return {**batch, "row_ids": torch.from_numpy(targets)}
    batch, of_sources = served[targets], served[sources]
    batch.update({name: of_sources[name] for name in supported_schema(served.batch_format.names).source_names})
    return batch


def _text_numbers(data: TranslationDataModule, name: str, column_name: str) -> Int:
    """Return a number for each text of a column of a validation set; equal texts have equal numbers, int64 [n]."""
    assert data.ids is not None
    column = data.storage.repo.get({**data.ids.filtered, **data.ids.beside_text}[name]).rows.column(column_name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: Int = array.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers
