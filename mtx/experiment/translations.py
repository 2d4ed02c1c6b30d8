"""Translate held-out sentences with a trained model, score them with BLEU and chrF, and print some of them.

The sentences are an evenly spaced sample of the validation split, the same in each run with the same data.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from mtx.assumption_log import assume
from mtx.batches.schema import longest_source
from mtx.evaluation.corpus_metrics import INSTALL_COMMAND, METRICS, ScoreStatistics, score_statistics
from mtx.evaluation.translator_protocol import Translator
from mtx.experiment.bleu_tokenizers import bleu_assumption, bleu_tokenizer
from mtx.experiment.held_out_slicings import part_targets
from mtx.experiment.run_context import Run
from mtx.progress.tracking import CountedWork
from mtx.records.report_record import Scores, Translation, TranslationReport
from mtx.training.datamodule import TranslationDataModule
from mtx.training.loader import PlanLoader

SENTENCES_PER_BATCH = 50  # sentences; enough to keep two cores busy at any beam size
LABEL_WIDTH = 11
NUM_SCORES = 4  # decimal places of a score

DIRECTION_OVERRIDES = frozenset(
    map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)  # Unicode characters that override the direction of a line


def score_samples(
    run: Run, model: torch.nn.Module, device: torch.device, *, shown: int, scored: int, beam: int, printed: bool = True
) -> tuple[TranslationReport, ScoreStatistics | None]:
    """Translate held-out sentences, print some, and score the translations.

    Returns the translation part of the report, and the statistics of each scored translation. The report is empty if
    the model has no `translate` method, or if there are no held-out sentences. The statistics are None without scores.

    Args:
        run: The run, which provides the data module and the console.
        model: The trained model.
        device: The device to translate on.
        shown: The number of translations to print.
        scored: The number of translations to score.
        beam: The number of hypotheses in beam search; 1 is greedy search.
        printed: Print the translations to show; false only returns them.
    """
    data = run.datamodule
    if not isinstance(model, Translator) or not isinstance(data, TranslationDataModule) or not max(shown, scored):
        return TranslationReport(), None
    num_sentences = len(rows_to_translate(data, max(shown, scored))[0])
    if not num_sentences:
        return TranslationReport(), None
    assert data.ids is not None
    language = data.storage.repo.manifest(data.ids.filtered["train"]).languages[1]
    statistics = figures = None
    if scored and find_spec("sacrebleu") and (assumption := bleu_assumption(language)) is not None:
        assume(assumption)  # before the bar, whose line it would break
    if scored and len(targets := dict.fromkeys(part_targets(data))) > 1 and data.val_names[0] == "validation":
        assume(
            f"BLEU and chrF in scores mix the target languages {', '.join(targets)}, because they are of all held-out "
            "pairs together. The figures of each direction are in evaluation"
        )
    with CountedWork("translating", num_sentences, "translate", unit="sentences", as_count=True) as progress:
        model.to(device)  # Lightning's Trainer has moved the model to the CPU after training
        found = translate_held_out(data, model, num_sentences=num_sentences, beam=beam, reach=progress.reach)
        model.cpu()
        if scored and (statistics := translation_statistics(found[:scored], language)) is not None:
            figures = translation_scores(statistics)
            progress.found({"bleu": figures.bleu, "chrf": figures.chrf})
    to_show = [found[index] for index in evenly_spaced_rows(np.arange(len(found)), shown)]
    if to_show and printed:
        run.console.print(f"translations of held-out sentences, beam size {beam}:", highlight=False)
        print_translations(to_show, run.console)
    if scored and figures is None:
        run.console.print(
            f"BLEU and chrF need sacrebleu. Install it: {INSTALL_COMMAND}",
            highlight=False,
            markup=False,
        )
    return TranslationReport(beam=beam, translations=tuple(to_show), scores=figures), statistics


def rows_to_translate(
    datamodule: TranslationDataModule,
    num_sentences: int,
    name: str | None = None,
    among: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], PlanLoader | None]:
    """Return evenly spaced row numbers of a validation set, and its loader; no rows and None without a set.

    The set is the first one if `name` is None. With `among`, bool [n], only rows at which it is True are returned.
    """
    served = datamodule.val_dataloader()
    loaders = served if isinstance(served, list) else [served]  # the first is the validation split
    number = 0 if name is None else datamodule.val_names.index(name)
    loader = loaders[number] if loaders else None
    if not isinstance(loader, PlanLoader):
        return np.zeros(0, dtype=np.int64), None
    rows = loader.batch_sampler.plan().rows.astype(np.int64)
    return evenly_spaced_rows(rows if among is None else rows[among[rows]], num_sentences), loader


def translate_held_out(
    datamodule: TranslationDataModule,
    model: Translator,
    *,
    num_sentences: int,
    beam: int,
    reach: Callable[[int], None] | None = None,
    name: str | None = None,
    among: NDArray[np.bool_] | None = None,
) -> list[Translation]:
    """Translate an evenly spaced sample of a validation set, and return the translations by row number.

    A translation has at most 1.5 times the tokens of the batch's longest source sentence, plus 10.

    Args:
        datamodule: The prepared data.
        model: The trained model.
        num_sentences: The size of the sample.
        beam: The number of hypotheses in beam search; 1 is greedy search.
        reach: Called after each batch with the number of translated sentences.
        name: The validation set; None: the first one.
        among: Whether a row of the set may be in the sample, bool [n]; None: each.
    """
    rows, loader = rows_to_translate(datamodule, num_sentences, name, among)
    if loader is None:
        return []
    name = name or datamodule.val_names[0]
    by_length = rows[np.argsort(datamodule.lengths(name).source[rows], kind="stable")]
    outputs: dict[int, list[int]] = {}
    for start in range(0, len(by_length), SENTENCES_PER_BATCH):
        some = by_length[start : start + SENTENCES_PER_BATCH]
        batch = loader.dataset[some]
        max_tokens = longest_source(batch) * 3 // 2 + 10
        outputs.update(zip(some.tolist(), model.translate(batch, max_tokens, beam=beam), strict=True))
        if reach is not None:
            reach(len(outputs))
    assert datamodule.ids is not None
    texts = {**datamodule.ids.filtered, **datamodule.ids.beside_raw}[name]
    pairs = cast(Sequence[dict[str, str]], datamodule.storage.repo.get(texts).data)
    decode = datamodule.tokenizers.target.decode
    return [
        Translation(row=row, source=pairs[row]["src"], reference=pairs[row]["tgt"], output=decode(outputs[row]).strip())
        for row in rows.tolist()
    ]


def evenly_spaced_rows(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Return `num_rows` of the given row numbers, evenly spaced and ascending; all if there are not more."""
    rows = np.sort(rows)
    if len(rows) <= num_rows:
        return rows
    return rows[np.linspace(0, len(rows) - 1, num_rows).round().astype(np.int64)]


def translation_statistics(translations: Sequence[Translation], language: str) -> ScoreStatistics | None:
    """Return the statistics of each translation for BLEU and chrF; None if sacrebleu is not installed.

    Args:
        translations: At least one translation.
        language: The code of the target language, such as `de` or `jpn_Jpan`. The code selects BLEU's tokenizer.
    """
    return score_statistics(
        [t.row for t in translations],
        [t.output for t in translations],
        [t.reference for t in translations],
        tokenizer=bleu_tokenizer(language),
    )


def translation_scores(statistics: ScoreStatistics) -> Scores:
    """Return BLEU and chrF from 0 to 100 with sacrebleu's signatures."""
    of_bleu, of_chrf = METRICS["scores.bleu"], METRICS["scores.chrf"]
    return Scores(
        num_sentences=len(statistics.rows),
        bleu=round(of_bleu.of_sentences(statistics.bleu.astype(np.float64)), NUM_SCORES),
        chrf=round(of_chrf.of_sentences(statistics.chrf.astype(np.float64)), NUM_SCORES),
        bleu_signature=statistics.bleu_signature,
        chrf_signature=statistics.chrf_signature,
    )


def print_translations(translations: Sequence[Translation], console: Console) -> None:
    """Print source, reference and output of each translation, wrapped to the console's width."""
    for translation in translations:
        for label, text in translation.model_dump(exclude={"row"}).items():
            console.print(Text(labelled_text(label, text, console)), soft_wrap=True, highlight=False)
        console.print()


def labelled_text(label: str, text: str, console: Console) -> str:
    """Return a text with a label before it, wrapped to the console's width in terminal cells.

    Control characters and direction overrides are replaced by �. Lines in a right-to-left script are enclosed in
    Unicode isolates, so that the label stays at the left.
    """
    visible = "".join("�" if _is_control(character) else character for character in re.sub(r"[\t\n\r]+", " ", text))
    width = max(console.width - LABEL_WIDTH, 20)
    lines = [line.plain.rstrip() for line in Text(visible).wrap(console, width, overflow="fold")] or [""]
    isolated = [f"\u2068{line}\u2069" if _has_right_to_left(line) else line for line in lines]
    return f"{label:<{LABEL_WIDTH}}" + f"\n{'':{LABEL_WIDTH}}".join(isolated)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" or character in DIRECTION_OVERRIDES


def _has_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
