"""What every tokenizer of mtx promises: a `tokenizers.Tokenizer` with four special tokens, trained, saved, loaded."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tokenizers import Tokenizer

from mtx.errors import TokenizerError
from mtx.identity import JSON, identity
from mtx.infra.dal.base import atomic_file

Side = Literal["both", "source", "target"]


@dataclass(frozen=True)
class SpecialTokens:
    """The four tokens that batches need, as written in the vocabulary."""

    pad: str = "<PAD>"
    bos: str = "<BOS>"
    eos: str = "<EOS>"
    unk: str = "<UNK>"

    def as_list(self) -> list[str]:
        """Return them in the order of their ids, 0 to 3, in vocabularies that mtx trains."""
        return [self.pad, self.bos, self.eos, self.unk]


SPECIAL_TOKENS = SpecialTokens()


class Tokenization(ABC):
    """Trains, saves and loads one `tokenizers.Tokenizer`.

    The file is the `tokenizers` library's JSON, so transformers' `PreTrainedTokenizerFast` loads it too. Ids 0 to 3
    are `<PAD>`, `<BOS>`, `<EOS>`, `<UNK>` in every vocabulary trained here. Nothing is added around a text by the
    tokenizer itself: batches place BOS and EOS.

    Subclasses name what `tokenizers` calls their model in `MODEL`, and say in `untrained` and `trainer` how it is
    built. Constructors do no I/O.

    Args:
        filepath: where `save` writes and `load` reads.
        joint: one vocabulary for both languages; False: one a side.
        normalization: Unicode normal form applied before tokenising: None keeps the text as it is, or NFC, NFKC.
        max_train_pairs: train on at most this many pairs, taken evenly over the dataset.
    """

    MODEL: ClassVar[str]
    VERSION: ClassVar[int] = 1

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str] | None = None,
        joint: bool = True,
        normalization: Literal["NFC", "NFKC"] | None = None,
        max_train_pairs: int = 1_000_000,
    ) -> None: ...
