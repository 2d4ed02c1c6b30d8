"""The tokenizers of a recipe, one for both sides or one a side, kept in the store.

A tokenizer lies in `tokenizers/ID/` as the `tokenizers` library's JSON: `tokenizer.json` where it is joint, else
`source.json` and `target.json`. The folder is a bundle (`mtx.infra.dal.bundle`): it appears whole or not at all, and
is checked when it is opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from mtx.data.progress import working
from mtx.data.store import Store
from mtx.data.tokenize.base import Side, Tokenization, special_ids
from mtx.identity import JSON, digest
from mtx.infra.dataset.collate import SpecialIds

JOINT: Mapping[Side, str] = {"both": "tokenizer.json"}
SEPARATE: Mapping[Side, str] = {"source": "source.json", "target": "target.json"}


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of both sides; where `joint`, they are the same object.

    Attributes:
        id: the folder's name in the store.
        folder: where the files lie.
        joint: whether both sides share one vocabulary.
        source: tokenizer of the source.
        target: tokenizer of the target.
        source_ids: special ids of the source vocabulary.
        target_ids: special ids of the target vocabulary.
    """

    id: str
    folder: Path
    joint: bool
    source: Tokenizer
    target: Tokenizer
    source_ids: SpecialIds
    target_ids: SpecialIds


def get_or_train(config: Tokenization, store: Store, filtered_id: str, built: list[str]) -> TokenizerPair:
    """Return the tokenizers of `config` for a filtered training set, trained first if they are not in the store.

    Adds the id to `built` where it trains. Raises TokenizerError, or EmptyDatasetError where there is no text.
    """
    described: dict[str, JSON] = {"stage": "tokenizer", "config": config.identity(), "joint": config.joint}
    if config.needs_training:
        described["filtered"] = filtered_id
    tokenizer_id = f"tokenizer-{digest(described)}"

    def build(folder: Path) -> None:
        built.append(tokenizer_id)
        for side, name in (JOINT if config.joint else SEPARATE).items():
            if config.needs_training:
                with working(f"training the tokenizer ({side})"):
                    config.at(folder / name).train(store.repo.get(filtered_id), side=side).save()
            else:
                config.load().at(folder / name).save()

    return load_pair(config, store.tokenizers.get_or_build(tokenizer_id, build, described))


def load_pair(config: Tokenization, folder: Path) -> TokenizerPair:
    """Load the tokenizers in `folder`. Raises TokenizerError."""
    files = JOINT if config.joint else SEPARATE
    loaded = {side: config.at(folder / name).load() for side, name in files.items()}
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
