"""Trains, stores and loads the tokenizers of a run: one for both sides, or one per side.

A tokenizer is stored in `tokenizers/ID/` as JSON of the `tokenizers` library: `tokenizer.json` if it is joint, else
`source.json` and `target.json`. The folder is an artifact (`mtx.infra.dal.artifact`): it is written atomically and
verified when opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from mtx.components.identity import JSON, digest
from mtx.data.stage_runner import StageRunner, say_reused
from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.tokenization import Side, Tokenization, special_ids
from mtx.progress.tracking import Phases, Waiting

JOINT: Mapping[Side, str] = {"both": "tokenizer.json"}
SEPARATE: Mapping[Side, str] = {"source": "source.json", "target": "target.json"}


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of the source and the target side; if `joint`, both are the same object.

    Attributes:
        id: id of the tokenizer in the store.
        folder: folder of the tokenizer's files.
        joint: whether both sides share one vocabulary.
        source: tokenizer of the source side.
        target: tokenizer of the target side.
        source_ids: ids of the special tokens in the source vocabulary.
        target_ids: ids of the special tokens in the target vocabulary.
    """

    id: str
    folder: Path
    joint: bool
    source: Tokenizer
    target: Tokenizer
    source_ids: SpecialIds
    target_ids: SpecialIds


def get_or_train(config: Tokenization, runner: StageRunner, dataset_id: str) -> TokenizerPair:
    """Return the tokenizers of `config` for a training dataset, after training them if they are not stored.

    Raises TokenizerError, or EmptyDatasetError if the dataset has no text.
    """
    described: dict[str, JSON] = {"stage": "tokenizer", "config": config.identity(), "joint": config.joint}
    if config.is_trainable:
        described["trained_on"] = dataset_id
    tokenizer_id = f"tokenizer-{digest(described)}"

    def build(folder: Path) -> None:
        waiting.over()
        runner.built.append(tokenizer_id)
        for side, name in (JOINT if config.joint else SEPARATE).items():
            if config.is_trainable:
                with Phases(f"training the tokenizer ({side})", f"tokenizer ({side})") as phases:
                    config.at(folder / name, phases).train(runner.repo.get_checked(dataset_id), side=side).save()
            else:
                config.for_side(side).load().at(folder / name).save()

    with Waiting(tokenizer_id) as waiting:
        folder = runner.store.tokenizers.get_or_build(tokenizer_id, build, described)
    pair = load_pair(config, folder)
    if tokenizer_id not in runner.built:
        say_reused("tokenizer", source_tokens=pair.source.get_vocab_size(), target_tokens=pair.target.get_vocab_size())
    return pair


def load_pair(config: Tokenization, folder: Path) -> TokenizerPair:
    """Load the tokenizers of both sides from the files in `folder`. Raises TokenizerError."""
    files = JOINT if config.joint else SEPARATE
    loaded = {side: config.for_side(side).at(folder / name).load() for side, name in files.items()}
    source, target = loaded.get("both") or loaded["source"], loaded.get("both") or loaded["target"]
    return TokenizerPair(
        id=folder.name,
        folder=folder,
        joint=config.joint,
        source=source.tokenizer,
        target=target.tokenizer,
        source_ids=special_ids(source.tokenizer, source.special),
        target_ids=special_ids(target.tokenizer, target.special),
    )
