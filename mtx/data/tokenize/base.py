"""What every tokenizer of mtx promises: a `tokenizers.Tokenizer` with four special tokens, trained, saved, loaded.

In: a filtered dataset, or a file. Out: a `tokenizers.Tokenizer` for the encode stage, which turns texts into ids with
`encode_texts` and places BOS and EOS by the ids that `special_ids` finds.

Processes forked from here, as a `DataLoader`'s workers are, tokenise in a single thread: the library's threads do not
come through a fork, and with `TOKENIZERS_PARALLELISM=true` it would wait for them forever.
"""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from tokenizers import AddedToken, Tokenizer, normalizers
from tokenizers.normalizers import Normalizer

from mtx.data.dataset import TranslationDataset
from mtx.errors import ConfigError, StoreError, TokenizerError, choices
from mtx.identity import JSON, identity, plain
from mtx.infra.dal.base import atomic_file
from mtx.infra.dataset.collate import SpecialIds

if TYPE_CHECKING:  # modules that import this one
    from mtx.data.tokenize.sampling import SubwordSampler
    from mtx.data.tokenize.words import Words

Side = Literal["both", "source", "target"]
Normalization = Literal["NFC", "NFKC"]

# How well-known vocabularies write the four, to suggest in an error message.
FAMILIAR = (
    *("<PAD>", "<BOS>", "<EOS>", "<UNK>", "<pad>", "<s>", "</s>", "<unk>", "<bos>", "<eos>"),
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]", "<|endoftext|>"),
)
MAX_SUGGESTED = 12  # tokens named in one message


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

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))


@dataclass(kw_only=True, eq=False)
class Tokenization(ABC):
    """Trains, saves and loads one `tokenizers.Tokenizer`.

    The file is the `tokenizers` library's JSON, so transformers' `PreTrainedTokenizerFast` loads it too. Ids 0 to 3
    are `<PAD>`, `<BOS>`, `<EOS>`, `<UNK>` in every vocabulary made here. Nothing is added around a text by the
    tokenizer itself: batches place BOS and EOS. Constructors do no I/O. Picklable, with its tokenizer.

    Subclasses are dataclasses of plain values; their fields, `filepath` and `SAMPLING` aside, decide the vocabulary.

    Args:
        filepath: where `save` writes and `load` reads.
        joint: one vocabulary for both languages; False: one a side, each trained with its `side`.
    """

    MODEL: ClassVar[str | None] = None  # what the `tokenizers` library calls the model; None: any
    VERSION: ClassVar[int] = 1  # goes up when the same fields would give another vocabulary
    SAMPLING: ClassVar[tuple[str, ...]] = ()  # fields that say how training texts are cut anew in each epoch
    needs_training: ClassVar[bool] = True  # False: `load` is enough

    filepath: str | os.PathLike[str] | None = None
    joint: bool = True

    def __post_init__(self) -> None:
        self.filepath = None if self.filepath is None else os.fspath(self.filepath)
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises TokenizerError before `train` or `load`."""
        if self._tokenizer is None:
            how = ".train(dataset) or .load()" if self.needs_training else ".load()"
            raise TokenizerError(f"this {type(self).__name__} has no tokenizer yet: call {how} first")
        return self._tokenizer

    @property
    def special(self) -> SpecialTokens:
        """The special tokens, as this vocabulary writes them."""
        return SPECIAL_TOKENS

    @abstractmethod
    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the vocabulary from the texts of `dataset`: the same texts, the same vocabulary.

        Args:
            dataset: raw or filtered; anything whose `.data` has rows with `src` and `tgt` will do.
            side: which column to learn from; `both` for a joint vocabulary.

        Raises:
            EmptyDatasetError: there is no text to learn from.
            DataError: there are no text columns.
            ConfigError: the vocabulary asked for is too small for this text.
        """

    def save(self) -> Self:
        """Write the tokenizer to `filepath`, whole or not at all. Raises TokenizerError, or StoreError."""
        return self._write(self.tokenizer.to_str(pretty=True).encode())

    def load(self) -> Self:
        """Read the tokenizer from `filepath`. Raises TokenizerError where that holds none of this kind."""
        self._tokenizer = self._parse(self._read())
        return self

    def at(self, filepath: str | os.PathLike[str]) -> Self:
        """Return the same, its tokenizer included, with another file."""
        other = copy.copy(self)
        other.filepath = os.fspath(filepath)
        return other

    def identity(self) -> dict[str, JSON]:
        """Describe what decides the vocabulary; the library's release among it, where its trainer does."""
        described = identity(self, exclude=("filepath", *self.SAMPLING))
        if self.needs_training:
            described["tokenizers"] = ".".join(version("tokenizers").split(".")[:2])
        return described

    def sampling(self) -> dict[str, JSON]:
        """Describe how training texts are cut anew in each epoch; empty where they never are."""
        return {name: plain(getattr(self, name)) for name in self.SAMPLING}

    @property
    def samples(self) -> bool:
        """Whether training texts are cut into other tokens in each epoch."""
        return False

    def sampler(self, tokenizer: Tokenizer, words: "Words") -> "SubwordSampler":
        """Return what encodes `words` anew in each epoch, where this `samples`; `tokenizer` is one of this kind."""
        raise TokenizerError(f"{type(self).__name__} samples nothing: its texts have the same ids in every epoch")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._tokenizer is not None:
            ready(self._tokenizer)

    def _path(self) -> Path:
        if self.filepath is None:
            kind = type(self).__name__
            raise TokenizerError(f"this {kind} has no file: give it one, as {kind}(filepath='tokenizer.json')")
        return Path(self.filepath)

    def _read(self) -> bytes:
        path = self._path()
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            make = "train one with .train(dataset) and .save(), or " if self.needs_training else ""
            raise TokenizerError(f"there is no tokenizer file {path}: {make}correct tokenizer.filepath") from error
        except OSError as error:
            raise TokenizerError(
                f"the tokenizer file {path} cannot be read: {error.strerror or error}. "
                "tokenizer.filepath names one file, such as FOLDER/tokenizer.json"
            ) from error
        if not content.strip():
            raise TokenizerError(
                f"the tokenizer file {path} is empty: remove it and train again, or correct tokenizer.filepath"
            )
        return content

    def _parse(self, content: bytes) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # what the library raises has no type of its own
            raise TokenizerError(
                f"{self.filepath} is no tokenizer file, which is JSON as the `tokenizers` library writes it "
                f"(tokenizer.json): {error}. Correct tokenizer.filepath"
            ) from error
        found = type(tokenizer.model).__name__
        if self.MODEL not in (None, found):
            raise TokenizerError(
                f"{self.filepath} holds a {found} model, but {type(self).__name__} reads {self.MODEL} models. "
                "Correct tokenizer.filepath, or read it with tokenizer=pretrained"
            )
        special_ids(tokenizer, self.special)
        return ready(tokenizer)

    def _write(self, content: bytes) -> Self:
        path = self._path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {path.parent} for the tokenizer cannot be made: {error.strerror or error}. "
                "Choose another with tokenizer.filepath"
            ) from error
        with atomic_file(path) as file:
            file.write(content)
        return self


def ready(tokenizer: Tokenizer) -> Tokenizer:
    """Make `tokenizer` take text as text, all of it; returns the same object.

    No truncation, no padding, and a special token that stands in a text, such as "<EOS>" in a page about HTML, is
    spelled out like any other text instead of becoming the control id. The library keeps the last in neither
    its files nor its pickles, so that it needs setting after each.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text; no BOS, no EOS, nothing from the tokenizer's own post-processor.

    Parallel over `texts` unless `TOKENIZERS_PARALLELISM=false`. Raises TypeError where a text is no str, or one that
    UTF-8 cannot hold.
    """
    if not tokenizer.encode_special_tokens:  # lost where the tokenizer came through a pickle
        ready(tokenizer)
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def special_ids(tokenizer: Tokenizer, special: SpecialTokens = SPECIAL_TOKENS) -> SpecialIds:
    """Find the ids of the special tokens. Raises TokenizerError that names those missing and those that might do."""
    roles = {"pad": special.pad, "bos": special.bos, "eos": special.eos, "unk": special.unk}
    ids = {role: tokenizer.token_to_id(token) for role, token in roles.items()}
    missing = {role: token for role, token in roles.items() if ids[role] is None}
    if missing:
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        familiar = [token for token in FAMILIAR if tokenizer.token_to_id(token) is not None]
        candidates = list(dict.fromkeys([*added, *familiar]))[:MAX_SUGGESTED]
        keys = " ".join(f"\"tokenizer.{role}_token='…'\"" for role in missing)
        raise TokenizerError(
            f"the vocabulary of {tokenizer.get_vocab_size()} tokens has no {', '.join(missing.values())}, but needs a "
            f"token for each of pad, bos, eos and unk. Special tokens in it: {', '.join(candidates) or 'none'}. "
            f"Say which to use with tokenizer=pretrained {keys}; one token may serve twice, as <pad> for bos"
        )
    return SpecialIds(**{role: id for role, id in ids.items() if id is not None})


def add_special(tokenizer: Tokenizer, special: SpecialTokens = SPECIAL_TOKENS) -> Tokenizer:
    """Mark the four as special, so that decoding leaves them out; returns the same object."""
    names = dict.fromkeys(special.as_list())
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def normalizer(normalization: Normalization | None) -> Normalizer | None:
    """Return the normaliser of that name."""
    return None if normalization is None else getattr(normalizers, normalization)()


def require(*problems: str | None) -> None:
    """Raise ConfigError that lists all `problems` which are not None."""
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ConfigError("; ".join(found))


def at_least(key: str, value: int, bound: int, reason: str = "") -> str | None:
    """Return the problem where `value` of the key `tokenizer.KEY` is no int of at least `bound`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= bound:
        return None
    return f"tokenizer.{key} must be an integer of at least {bound}{reason and f' ({reason})'}, but is {value!r}"


def within(key: str, value: float, least: float, most: float, otherwise: str = "") -> str | None:
    """Return the problem where `value` of the key `tokenizer.KEY` is no number from `least` to `most`, inclusive."""
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"tokenizer.{key} must be a number from {least} to {most}{otherwise and f', {otherwise}'}, but is {value!r}"


def one_of(key: str, value: str | None, known: Sequence[str | None]) -> str | None:
    """Return the problem where `value` of the key `tokenizer.KEY` is none of `known`."""
    if value in known:
        return None
    names = choices(str(value), ["null" if k is None else k for k in known])
    return f"tokenizer.{key} must be one of {names}, but is {value!r}"


def check_normalization(value: str | None) -> str | None:
    """Return the problem where `value` names no normal form."""
    return one_of("normalization", value, (None, *get_args(Normalization)))
