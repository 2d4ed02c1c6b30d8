"""What a run that streams its source cannot do: all that needs more than one shard before training starts."""

from collections.abc import Iterator, Mapping
from typing import Any

from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.score.scorer import CorpusScorer, Scorer, TrainedScorer
from mtx.data.tokenize.tokenization import Tokenization
from mtx.errors import ConfigError
from mtx.infra.dataset.download import Downloader

CONFIG_KEY = "datamodule.stream"
STORED_TOKENIZER = (
    "tokenizer=byte, or tokenizer=pretrained tokenizer.filepath=FILE with the tokenizer.json of an earlier run, which "
    "is in the folder tokenizers of the store"
)


def check_streamable(
    downloader: Downloader,
    filter: PairFilter,
    tokenizer: Tokenization,
    scorers: Mapping[str, Scorer],
    over_all_pairs: Mapping[str, Any],
) -> None:
    """Check that the settings of a streamed run need one pair or one shard at a time.

    Args:
        downloader: the source.
        filter: the filter of the training pairs.
        tokenizer: the tokenizer.
        scorers: the scorers by name.
        over_all_pairs: options of the data module that need all pairs, by name; None: not set.

    Raises:
        ConfigError: some settings need more; the message lists each of them, and what to type instead.
    """
    found = [*_problems(downloader, tokenizer), *_over_pairs(filter, scorers, over_all_pairs)]
    if found:
        listed = "\n".join(f"  {problem}" for problem in found)
        raise ConfigError(
            f"{CONFIG_KEY}=true trains while the source is read, so nothing may need all pairs. These settings do:\n"
            f"{listed}\nOr prepare the whole corpus first, with {CONFIG_KEY}=false"
        )


def _problems(downloader: Downloader, tokenizer: Tokenization) -> Iterator[str]:
    if downloader.is_weighted:
        yield "downloader.temperature or downloader.weights draw from whole sources. Set downloader=local"
    elif list(downloader.parts) != [""]:
        yield "downloader=mixture has several sources, but one source is read. Set downloader=local"
    if tokenizer.is_trainable:
        yield f"the tokenizer {type(tokenizer).__name__} learns from all pairs. Set {STORED_TOKENIZER}"
    elif tokenizer.is_sampled:
        name, value = next(iter(tokenizer.sampling().items()), ("dropout", None))
        yield f"tokenizer.{name}={value} samples subwords of all words. Set tokenizer.{name}=null"


def _over_pairs(filter: PairFilter, scorers: Mapping[str, Scorer], over_all_pairs: Mapping[str, Any]) -> Iterator[str]:
    for setting, instead in filter.settings_over_pairs.items():
        yield f"{setting}, which compares pairs with others. Set {instead}"
    for name, scorer in scorers.items():
        if isinstance(scorer, TrainedScorer | CorpusScorer):
            yield f"score.{name} learns from all pairs, or compares them. Remove it with ~score.{name}"
        elif scorer.reads_rows:
            yield f"score.{name} reads row numbers or columns of the whole corpus. Remove it with ~score.{name}"
    for name, value in over_all_pairs.items():
        if value is not None:
            yield f"datamodule.{name}={value}. Set datamodule.{name}=null"
