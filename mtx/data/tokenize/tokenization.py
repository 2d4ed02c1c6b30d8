"""`Tokenization`, the base class of all tokenizers: trains, saves and loads a `tokenizers.Tokenizer`.

A tokenizer is trained on a dataset or read from a file. The encoded stage converts texts to ids with `encode_texts`;
batches add BOS and EOS with the ids from `special_ids`.

Forked processes, such as a `DataLoader`'s workers, tokenise in a single thread. Threads of the library do not survive a
fork, and with `TOKENIZERS_PARALLELISM=true` the library would wait for them forever.
"""

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from tokenizers import AddedToken, Tokenizer, normalizers
from tokenizers.normalizers import Normalizer

from mtx.components.checked_options import component
from mtx.components.identity import JSON, identity, plain_value
from mtx.data.dataset import TranslationDataset
from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter
from mtx.data.tokenize.tokenizer_json_problem import tokenizer_json_problem
from mtx.errors import StoreError, TokenizerError
from mtx.exhausted_resources import panics_as_errors, raise_if_exhausted
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason

if TYPE_CHECKING:  # names for annotations only; at run time, these imports would be circular
    from mtx.data.tokenize.subword_sampling import SubwordSampler
    from mtx.data.tokenize.word_index import WordIndex
    from mtx.progress.tracking import Phases

Side = Literal["both", "source", "target"]
Normalization = Literal["NFC", "NFKC"]
TrainOn = Literal["filtered", "text"]

# Names of special tokens in well-known vocabularies, for suggestions in an error message.
COMMON_SPECIAL_TOKENS = (
    *("<PAD>", "<BOS>", "<EOS>", "<UNK>", "<pad>", "<s>", "</s>", "<unk>", "<bos>", "<eos>"),
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]", "<|endoftext|>"),
)
MAX_TOKEN_ID = (1 << 24) - 1  # the largest vocabularies of published models have about a million tokens
MAX_SUGGESTED = 12  # maximum number of suggested tokens in one message


@dataclass(frozen=True)
class SpecialTokens:
    """Names of the four special tokens that batches need: padding, begin, end and unknown token."""

    pad: str = "<PAD>"
    bos: str = "<BOS>"
    eos: str = "<EOS>"
    unk: str = "<UNK>"

    def as_list(self) -> list[str]:
        """Return the names in the order of their ids, which are 0 to 3 in vocabularies that mtx trains."""
        return [self.pad, self.bos, self.eos, self.unk]


SPECIAL_TOKENS = SpecialTokens()

if hasattr(os, "register_at_fork"):  # False on Windows, which has no fork
    os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))


@component("tokenizer", frozen=False, eq=False)
class Tokenization(ABC):
    """Base class of tokenizers, which train, save and load one `tokenizers.Tokenizer`.

    The file is JSON of the `tokenizers` library, which transformers' `PreTrainedTokenizerFast` also loads. In every
    vocabulary that mtx trains, the ids 0 to 3 are `<PAD>`, `<BOS>`, `<EOS>` and `<UNK>`. The tokenizer adds no special
    tokens to a text; batches add BOS and EOS. The constructor does no I/O. Picklable, including the trained tokenizer.

    Subclasses are dataclasses of plain values. All their fields except `filepath` and those in `SAMPLING` determine the
    vocabulary.

    Args:
        filepath: the file that `save` writes and `load` reads.
        joint: True: one vocabulary for both languages; False: one vocabulary per side, each trained on its side.
        train_on: the pairs to train the tokenizer on: `filtered`, the pairs that the filter keeps, or `text`, all pairs
            of the training split. With `text`, runs with different filters share a vocabulary.
    """

    MODEL: ClassVar[str | None] = None  # name of the model type in the `tokenizers` library; None: any type
    SAMPLING: ClassVar[tuple[str, ...]] = ()  # fields that control how segmentations are sampled in each epoch
    is_trainable: ClassVar[bool] = True  # False: `load` is sufficient, without `train`

    filepath: str | os.PathLike[str] | None = None
    joint: bool = True
    train_on: TrainOn = "filtered"

    def __post_init__(self) -> None:
        self.filepath = None if self.filepath is None else os.fspath(self.filepath)
        self._tokenizer: Tokenizer | None = None
        self._phases: Phases | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer`. Raises TokenizerError before `train` or `load`."""
        if self._tokenizer is None:
            how = ".train(dataset) or .load()" if self.is_trainable else ".load()"
            raise TokenizerError(f"this {type(self).__name__} has no tokenizer yet: call {how} first")
        return self._tokenizer

    @property
    def special(self) -> SpecialTokens:
        """The four special tokens, as written in this vocabulary."""
        return SPECIAL_TOKENS

    @abstractmethod
    def train(self, dataset: TranslationDataset, side: Side = "both") -> Self:
        """Learn the vocabulary from the texts of `dataset`. Equal texts give equal vocabularies.

        Args:
            dataset: a raw or filtered dataset, or another dataset whose `data` has rows with `src` and `tgt`.
            side: the column to learn from; `both` for a joint vocabulary.

        Raises:
            EmptyDatasetError: the dataset has no text to learn from.
            DataError: the dataset has no text columns.
            ConfigError: the vocabulary size is too small for the text.
        """

    def save(self) -> Self:
        """Write the tokenizer to `filepath`, atomically. Raises TokenizerError or StoreError."""
        return self._write(self.tokenizer.to_str(pretty=True).encode())

    def load(self) -> Self:
        """Read the tokenizer from `filepath`. Raises TokenizerError if the file holds no tokenizer of this kind."""
        self._tokenizer = self._parse(self._read())
        return self

    def at(self, filepath: str | os.PathLike[str], phases: "Phases | None" = None) -> Self:
        """Return a copy, including the tokenizer, with another file; `phases` shows the progress of its training."""
        other = copy.copy(self)
        other.filepath = os.fspath(filepath)
        other._phases = phases
        return other

    def for_side(self, side: Side) -> Self:
        """Return the tokenizer of a side; only tokenizers with a file for each side have several."""
        return self

    def identity(self) -> dict[str, JSON]:
        """Return what determines the vocabulary, including the `tokenizers` release if mtx trains the vocabulary."""
        described = identity(self, exclude=("filepath", "train_on", *self.SAMPLING))
        if self.is_trainable:
            described["tokenizers"] = ".".join(version("tokenizers").split(".")[:2])
        return described

    def sampling(self) -> dict[str, JSON]:
        """Return the options of the sampling of segmentations in each epoch; empty for tokenizers without sampling."""
        return {name: plain_value(getattr(self, name)) for name in self.SAMPLING}

    @property
    def is_sampled(self) -> bool:
        """Whether training texts are segmented differently in each epoch."""
        return False

    def sampler(self, tokenizer: Tokenizer, words: "WordIndex") -> "SubwordSampler":
        """Return a sampler that encodes `words` in each epoch, if `is_sampled`; `tokenizer` is of this class's kind."""
        raise TokenizerError(f"{type(self).__name__} does not sample: its texts have the same ids in every epoch")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._tokenizer is not None:
            prepare_tokenizer(self._tokenizer)

    def _path(self) -> Path:
        if self.filepath is None:
            kind = type(self).__name__
            raise TokenizerError(f"this {kind} has no file. Give it one, as {kind}(filepath='tokenizer.json')")
        return Path(self.filepath)

    def _read(self) -> bytes:
        path = self._path()
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            make = "train one with .train(dataset) and .save(), or " if self.is_trainable else ""
            raise TokenizerError(f"there is no tokenizer file {path}: {make}correct tokenizer.filepath") from error
        except OSError as error:
            raise TokenizerError(
                f"the tokenizer file {path} cannot be read: {library_reason(error)}. "
                "tokenizer.filepath must be one file, such as FOLDER/tokenizer.json"
            ) from error
        if not content.strip():
            raise TokenizerError(
                f"the tokenizer file {path} is empty: remove it and train again, or correct tokenizer.filepath"
            )
        return content

    def _parse(self, content: bytes) -> Tokenizer:
        try:
            with panics_as_errors():
                tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises plain Exception
            raise TokenizerError(
                f"{self.filepath} is not a tokenizer file, which is JSON of the `tokenizers` library "
                f"(tokenizer.json): {tokenizer_json_problem(content, error)}. Correct tokenizer.filepath"
            ) from error
        found = type(tokenizer.model).__name__
        if self.MODEL not in (None, found):
            raise TokenizerError(
                f"{self.filepath} holds a {found} model, but {type(self).__name__} reads only {self.MODEL} models. "
                "Correct tokenizer.filepath, or read it with tokenizer=pretrained"
            )
        vocabulary_size(tokenizer)
        special_ids(tokenizer, self.special)
        return prepare_tokenizer(tokenizer)

    def _write(self, content: bytes) -> Self:
        path = self._path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the folder {path.parent} for the tokenizer cannot be created: {library_reason(error)}. "
                "Choose another with tokenizer.filepath"
            ) from error
        with atomic_file(path) as file:
            file.write(content)
        return self


def prepare_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Set `tokenizer` to encode texts completely and literally; return the same object.

    Truncation and padding are disabled. A special token may occur in a text, such as "<EOS>" in a page about HTML. It
    is encoded as ordinary text instead of as the special id. The library saves this last setting neither in files nor
    in pickles, so it must be set after each load.
    """
    if isinstance(tokenizer, TokenizerAdapter):
        return tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without BOS and EOS, and without the tokenizer's post-processor.

    Runs in parallel over `texts` unless `TOKENIZERS_PARALLELISM=false`.

    Raises:
        TypeError: a text is no str, or is not encodable as UTF-8.
        TokenizerError: the library fails, as with a tokenizer file whose parts contradict each other.
    """
    if isinstance(tokenizer, TokenizerAdapter):
        return tokenizer.ids_of(texts)
    if not tokenizer.encode_special_tokens:  # pickling resets this setting
        prepare_tokenizer(tokenizer)
    try:
        with panics_as_errors():
            return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    except TypeError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise_if_exhausted(error)
        reason = library_reason(error, library="tokenizers")
        raise TokenizerError(
            f"the tokenizer cannot encode a text, because the library fails ({reason}). Correct the "
            "tokenizer file, or choose another with tokenizer.filepath"
        ) from error


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """Return the number of ids that a vocabulary needs: its largest id + 1, because ids may have gaps.

    Raises TokenizerError if the largest id is above the bound, since a model would need an embedding for each id.
    """
    largest_token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if largest > MAX_TOKEN_ID:
        raise TokenizerError(
            f"the token {largest_token!r} has the id {largest}, but ids are at most {MAX_TOKEN_ID}, because a model "
            "has an embedding for each id up to the largest. Number the tokens from 0 in the tokenizer file, or "
            "correct tokenizer.filepath"
        )
    return largest + 1


def special_ids(
    tokenizer: Tokenizer, special: SpecialTokens = SPECIAL_TOKENS, *, option: str = "pretrained"
) -> SpecialIds:
    """Return the ids of the special tokens. Raises TokenizerError, which lists missing tokens and alternatives.

    `option` is that of `tokenizer` with which the message tells the user to name the tokens.
    """
    roles = {"pad": special.pad, "bos": special.bos, "eos": special.eos, "unk": special.unk}
    ids = {role: tokenizer.token_to_id(token) for role, token in roles.items()}
    missing = {role: token for role, token in roles.items() if ids[role] is None}
    if missing:
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        familiar = [token for token in COMMON_SPECIAL_TOKENS if tokenizer.token_to_id(token) is not None]
        candidates = list(dict.fromkeys([*added, *familiar]))[:MAX_SUGGESTED]
        keys = " ".join(f"\"tokenizer.{role}_token='…'\"" for role in missing)
        raise TokenizerError(
            f"the vocabulary of {tokenizer.get_vocab_size()} tokens has no {', '.join(missing.values())}, but needs a "
            f"token for each of pad, bos, eos and unk. Special tokens in it: {', '.join(candidates) or 'none'}. "
            f"Set them with tokenizer={option} {keys}; one token may serve twice, such as <pad> for bos"
        )
    return SpecialIds(**{role: id for role, id in ids.items() if id is not None})


def add_special(tokenizer: Tokenizer, special: SpecialTokens = SPECIAL_TOKENS) -> Tokenizer:
    """Mark the four special tokens as special, so that decoding omits them; return the same object."""
    names = dict.fromkeys(special.as_list())
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


def normalizer(normalization: Normalization | None) -> Normalizer | None:
    """Return the Unicode normaliser with the given name, or None."""
    return None if normalization is None else getattr(normalizers, normalization)()
