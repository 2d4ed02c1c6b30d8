"""Score a trained model on the named validation sets of `task=fit`, beside the held-out pairs of its corpus."""

from importlib.util import find_spec

import torch

from mtx.assumption_log import assume
from mtx.evaluation.translation_metrics import system_scores
from mtx.evaluation.translator_protocol import Translator
from mtx.experiment.bleu_tokenizers import bleu_assumption, bleu_tokenizer
from mtx.experiment.run_context import Run
from mtx.experiment.translations import (
    NUM_SCORES,
    rows_to_translate,
    translate_held_out,
)
from mtx.progress.tracking import CountedWork
from mtx.records.evaluation_report import SetEvaluation, evaluation_table
from mtx.training.datamodule import TranslationDataModule
from mtx.training.training_record import TrainingProgress


def score_named_sets(
    run: Run, model: torch.nn.Module, device: torch.device, progress: TrainingProgress, *, scored: int, beam: int
) -> dict[str, SetEvaluation]:
    """Translate and score an evenly spaced sample of each set of `datamodule.validation_sets`, and print a table.

    Args:
        run: The run, which provides the data module and the console.
        model: The trained model.
        device: The device to translate on.
        progress: The record of the training, whose last validation has the bits per byte of whole sets.
        scored: The largest number of sentences of a set to translate.
        beam: The number of hypotheses in beam search.

    Returns:
        The scores by set; empty without sets, without sacrebleu, or if the model cannot translate.
    """
    data = run.datamodule
    if not scored or not isinstance(model, Translator) or not isinstance(data, TranslationDataModule):
        return {}
    if not data.recipe.validation_sets or not find_spec("sacrebleu"):
        return {}
    assert data.ids is not None
    last = progress.validations[-1] if progress.validations else {}
    is_alone = len(data.val_names) == 1
    found = {}
    model.to(device)
    for name in data.recipe.validation_sets:
        languages = data.storage.repo.manifest(data.ids.beside_raw[name]).languages
        if (told := bleu_assumption(languages[1])) is not None:
            assume(told)
        num_sentences = len(rows_to_translate(data, scored, name)[0])
        with CountedWork(f"translating {name}", num_sentences, "translate", unit="sentences", as_count=True) as work:
            pairs = translate_held_out(data, model, num_sentences=num_sentences, beam=beam, reach=work.reach, name=name)
        if not pairs:
            continue
        own = system_scores(
            [pair.output for pair in pairs],
            [pair.reference for pair in pairs],
            tokenizer=bleu_tokenizer(languages[1]),
        )
        key = "val/bits_per_byte" if is_alone else f"val/{name}/bits_per_byte"
        found[name] = SetEvaluation(
            languages=languages,
            num_pairs=len(pairs),
            left_out=0,
            difference={},
            bits_per_byte=last.get(key, last.get("val/bits_per_byte") if data.val_names[0] == name else None),
            signatures=dict(own.signatures),
            **{metric: round(value, NUM_SCORES) for metric, value in own.scores.items()},
        )
    model.cpu()
    if found:
        run.console.print(evaluation_table(found))
    return found
