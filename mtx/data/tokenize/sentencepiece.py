"""SentencePiece vocabularies from elsewhere: a `.model` file, encoded with the library that wrote it."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar, Self

from mtx.components.checked_options import component
from mtx.components.identity import JSON
from mtx.data.tokenize.pretrained import PretrainedTokenization, check_distinct
from mtx.data.tokenize.sentencepiece_file import CONTROL, read_sentencepiece
from mtx.data.tokenize.sentencepiece_library import FORMAT_KEY, SentencePieceTokenizer
from mtx.data.tokenize.tokenization import MAX_SUGGESTED, SpecialTokens, special_ids, vocabulary_size
from mtx.errors import TokenizerError

MODEL_NAMES = ("spiece.model", "sentencepiece.model", "sentencepiece.bpe.model", "tokenizer.model", "source.spm")


@component("tokenizer", frozen=False, eq=False)
class SentencePieceTokenization(PretrainedTokenization):
    """Reads a SentencePiece `.model` file of any model type, and gives exactly the ids of the library `sentencepiece`.

    The model says itself which tokens are special. Names of control symbols that occur in a text are encoded as text;
    user-defined symbols are found in texts. Needs the extra `sentencepiece` (Kudo and Richardson 2018).

    Args:
        filepath: the `.model` or `.spm` file, a folder with one, or the name of a repository of the Hugging Face Hub
            with one.
        joint: True: both languages share this vocabulary; False: they count as two vocabularies of one file.
        pad_token: the padding token; None: as the model says. Many models have none. Then name a control symbol of the
            model that no target contains, such as `<s>`. Any other name gets the id after the last.
        bos_token: the token with which the decoder starts; None: as the model says, else the padding token, as in T5.
        eos_token: the token that ends a text; None: as the model says.
        unk_token: the token for unknown text; None: as the model says.
        revision: a branch, a tag or a commit of the repository; None: the newest commit, which the log names.
        target_filepath: the model of the target side, with `joint` False; None: both sides have the same file.
    """

    kind: ClassVar[str] = "tokenizer/sentencepiece"
    version: ClassVar[int] = 1

    HUB_FILES: ClassVar[tuple[str, ...]] = MODEL_NAMES
    NEEDED_FILES: ClassVar[tuple[str, ...]] = MODEL_NAMES

    @property
    def special(self) -> SpecialTokens:
        """The four special tokens. Reads the file on first use. Raises TokenizerError if one is missing."""
        if self._special is None:
            self._special = self._named(self._model_bytes(self._read()))
        return self._special

    def load(self) -> Self:
        """Read the model. Raises TokenizerError if it is none, lacks a special token, or needs the library."""
        content = self._read()
        found: Any = self._tokenizer_of(content)
        self._tokenizer = found
        self._content = found.to_str().encode()
        return self

    def identity(self) -> dict[str, JSON]:
        """Return what determines the vocabulary: the SHA-256 of the model, and the names of the special tokens."""
        described = super().identity()
        content = self._read() if self._content is None else self._content
        return {**described, "sha256": hashlib.sha256(self._model_bytes(content)).hexdigest()}

    def _path(self) -> Path:
        path = self._location()
        return _model_file(path) if path.is_dir() else path

    def _tokenizer_of(self, content: bytes) -> SentencePieceTokenizer:
        model, special = self._model_bytes(content), self.special
        pieces = {piece.text for piece in read_sentencepiece(model, self.filepath).pieces}
        tokenizer: Any = SentencePieceTokenizer(model, [] if special.pad in pieces else [special.pad], self.filepath)
        vocabulary_size(tokenizer)
        special_ids(tokenizer, special, option="sentencepiece")
        found: SentencePieceTokenizer = tokenizer
        return found

    def _model_bytes(self, content: bytes) -> bytes:
        if content.startswith(b'{"' + FORMAT_KEY.encode()):
            return SentencePieceTokenizer.from_str(content.decode(), self.filepath).content
        return content

    def _named(self, model: bytes) -> SpecialTokens:
        file = read_sentencepiece(model, self.filepath)
        found = file.special
        typed = {"pad": self.pad_token, "bos": self.bos_token, "eos": self.eos_token, "unk": self.unk_token}
        named = {**found, **{role: token for role, token in typed.items() if token is not None}}
        if "eos" not in named:
            others = [piece.text for piece in file.pieces if piece.type == CONTROL and piece.text not in named.values()]
            name = "Name one: " + " or ".join(f"\"tokenizer.eos_token='{each}'\"" for each in others[:MAX_SUGGESTED])
            raise TokenizerError(
                f"{self.filepath} has no eos token, which batches need. "
                + (name if others else "It has no other control symbol, so set tokenizer.filepath to another model")
            )
        if "pad" not in named:
            pad = found.get("bos", "<pad>")
            raise TokenizerError(
                f"{self.filepath} has no pad token, which batches need. Name one: \"tokenizer.pad_token='{pad}'\", or "
                "a new name, which gets the id after the last"
            )
        named.setdefault("bos", named["pad"])
        check_distinct(named["eos"], named["pad"])
        return SpecialTokens(**named)


def _model_file(folder: Path) -> Path:
    names = sorted(entry.name for entry in folder.iterdir())
    models = [name for name in MODEL_NAMES if name in names] or [n for n in names if n.endswith((".model", ".spm"))]
    if not models:
        raise TokenizerError(
            f"the folder {folder} has no SentencePiece model, only {', '.join(names[:8]) or 'no files'}. Set "
            "tokenizer.filepath=FILE.model, or read a tokenizer.json with tokenizer=pretrained"
        )
    return folder / models[0]
