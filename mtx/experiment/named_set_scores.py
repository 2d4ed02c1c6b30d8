"""Score a trained model of `task=fit` on its named validation sets, and on the held-out pairs of each direction."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from mtx.assumption_log import assume
from mtx.data.language_groups import dataset_languages
from mtx.evaluation.translation_metrics import system_scores
from mtx.evaluation.translator_protocol import Translator
from mtx.experiment.bleu_tokenizers import bleu_assumption, bleu_tokenizer
from mtx.experiment.held_out_slicings import GROUP_SLICING, corpus_groups
from mtx.experiment.run_context import Run
from mtx.experiment.translations import (
    NUM_SCORES,
    rows_to_translate,
    translate_held_out,
)
from mtx.progress.tracking import CountedWork
from mtx.records.evaluation_report import SetEvaluation, evaluation_table
from mtx.records.report_record import Report
from mtx.training.datamodule import TranslationDataModule
from mtx.training.training_record import TrainingProgress


@dataclass(frozen=True, eq=False)
class _ScoredSet:
    """Held-out pairs that get figures of their own.

    Attributes:
        name: The name in the report.
        of: The validation set with the pairs.
        languages: The codes of source and target language.
        bits_per_byte: The figure of all pairs of the set; None if it is not known.
        among: Whether a pair of the validation set belongs to the set, bool [n]; None: all.
    """

    name: str
    of: str
    languages: tuple[str, str]
    bits_per_byte: float | None
    among: NDArray[np.bool_] | None = None


def score_named_sets(
    run: Run,
    model: torch.nn.Module,
    device: torch.device,
    progress: TrainingProgress,
    report: Report,
    *,
    scored: int,
    beam: int,
) -> dict[str, SetEvaluation]:
    """Translate and score an evenly spaced sample of each set, and print a table.

    The sets are those of `datamodule.validation_sets`, and, for a corpus of several languages or tags, the held-out
    pairs of each direction, such as `en-de`.

    Args:
        run: The run, which provides the data module and the console.
        model: The trained model.
        device: The device to translate on.
        progress: The record of the training, whose last validation has the bits per byte of whole sets.
        report: The report of the run, whose slices have the bits per byte of each direction.
        scored: The largest number of sentences of a set to translate.
        beam: The number of hypotheses in beam search.

    Returns:
        The scores by set; empty without sets, without sacrebleu, or if the model cannot translate.
    """
    data = run.datamodule
    if not scored or not isinstance(model, Translator) or not isinstance(data, TranslationDataModule):
        return {}
    if not find_spec("sacrebleu"):
        return {}
    sets = [*_direction_sets(data, report), *_named_sets(data, progress)]
    if not sets:
        return {}
    model.to(device)
    found = {each.name: of for each in sets if (of := _scores(data, model, each, scored, beam)) is not None}
    model.cpu()
    if found:
        run.console.print(evaluation_table(found))
    return found


def _named_sets(data: TranslationDataModule, progress: TrainingProgress) -> Iterator[_ScoredSet]:
    assert data.ids is not None
    last = progress.validations[-1] if progress.validations else {}
    for name in data.recipe.validation_sets:
        languages = dataset_languages(data.storage.repo, data.ids.beside_raw[name])
        key = "val/bits_per_byte" if len(data.val_names) == 1 else f"val/{name}/bits_per_byte"
        figure = last.get(key, last.get("val/bits_per_byte") if data.val_names[0] == name else None)
        yield _ScoredSet(name, name, languages, figure)


def _direction_sets(data: TranslationDataModule, report: Report) -> Iterator[_ScoredSet]:
    """Yield the held-out pairs of each group of languages and tags; nothing for a corpus of one direction."""
    name = "validation"
    if name not in data.val_names:
        return
    figures = {of.name: of.bits_per_byte for of in report.slices.get(GROUP_SLICING, ())}
    for group in corpus_groups(data):
        found, sources = figures.get(group.name), data.sources(name)
        shown = f"{name}-{group.name}" if group.name in data.val_names else group.name
        yield _ScoredSet(shown, name, group.languages, found, group.has(sources))


def _scores(
    data: TranslationDataModule, model: Translator, of: _ScoredSet, scored: int, beam: int
) -> SetEvaluation | None:
    """Return the scores of a set; None if it has no pair to translate."""
    num_sentences = len(rows_to_translate(data, scored, of.of, of.among)[0])
    if not num_sentences:
        return None
    if (told := bleu_assumption(of.languages[1])) is not None:
        assume(told)
    with CountedWork(f"translating {of.name}", num_sentences, "translate", unit="sentences", as_count=True) as work:
        pairs = translate_held_out(
            data, model, num_sentences=num_sentences, beam=beam, reach=work.reach, name=of.of, among=of.among
        )
    own = system_scores(
        [pair.output for pair in pairs],
        [pair.reference for pair in pairs],
        tokenizer=bleu_tokenizer(of.languages[1]),
    )
    return SetEvaluation(
        languages=of.languages,
        num_pairs=len(pairs),
        left_out=0,
        difference={},
        bits_per_byte=of.bits_per_byte,
        signatures=dict(own.signatures),
        **{metric: round(value, NUM_SCORES) for metric, value in own.scores.items()},
    )
