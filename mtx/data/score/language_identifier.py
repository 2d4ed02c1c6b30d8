"""Packaged language identifiers, whose models know many languages: an optional dependency of the scorer `language`."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtx.data.score.letter_ngrams import MAX_CHARS
from mtx.errors import ConfigError, choices

INSTALL_COMMAND = 'pip install "mtx[language]"'
UNDETERMINED = "und"  # the code of ISO 639 for a text whose language cannot be told
LEAST_PROBABILITY = 1e-12  # bounds the log odds to about ±28, since a model of rounded numbers knows no certainty
MIN_CHARS = 20  # of the texts by which the languages of a corpus are found; shorter ones are often ambiguous


class LanguageIdentifier(Protocol):
    """Recognises the language of texts."""

    languages: Sequence[str]

    def identify(self, texts: Sequence[str], expected: str | None) -> tuple[list[str], NDArray[np.float64]]:
        """Return for each text the most probable language, and the log odds of the expected language.

        The log odds are log(probability of `expected`) − log(probability of the most probable other language), as
        float64 [n]. They are 0 for a text without letters, and for all texts if `expected` is None.
        """


class Py3langidIdentifier:
    """The identifier of the package py3langid: naive Bayes over byte n-grams, 140 languages.

    Attributes:
        languages: the codes of the languages that it knows.
    """

    def __init__(self) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._identifier: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.languages: Sequence[str] = sorted(self._identifier.labels)

    def identify(self, texts: Sequence[str], expected: str | None) -> tuple[list[str], NDArray[np.float64]]:
        """Return for each text the most probable language, and the log odds of the expected language."""
        odds = np.zeros(len(texts))
        languages = [UNDETERMINED] * len(texts)
        for number, text in enumerate(texts):
            if not any(map(str.isalpha, text)):
                continue
            ranked = self._identifier.rank(text[:MAX_CHARS])
            if ranked[0][1] <= ranked[-1][1]:  # no known feature: all languages are equally probable
                continue
            languages[number] = ranked[0][0]
            if expected is not None:
                rival = ranked[1] if ranked[0][0] == expected else ranked[0]
                own = next(probability for language, probability in ranked if language == expected)
                odds[number] = _log(own) - _log(rival[1])
        return languages, odds


def _log(probability: float) -> float:
    return math.log(max(probability, LEAST_PROBABILITY))


IDENTIFIERS = {"py3langid": Py3langidIdentifier}


@cache
def language_identifier(name: str) -> LanguageIdentifier:
    """Return an identifier of `IDENTIFIERS`; its model is loaded once. Raises ConfigError if it is missing."""
    identifier_version(name)
    return IDENTIFIERS[name]()


def identifier_version(name: str) -> str:
    """Return the version of the package of an identifier. Raises ConfigError if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        raise ConfigError(
            f"score.language.identifier={name} needs the package {name}, which is not installed. Run {INSTALL_COMMAND}"
        ) from None


def known_language(identifier: LanguageIdentifier, code: str, key: str) -> str:
    """Return the code by which an identifier knows a language, such as `pt` for `pt_BR`.

    Raises ConfigError, which lists the languages that it knows, if it does not know the language.
    """
    main = re.split("[-_]", code.lower())[0]
    if main in identifier.languages:
        return main
    raise ConfigError(
        f"{key}={code} is not known to the language identifier. It knows: {choices(main, identifier.languages)}. "
        f"Choose one of them, or turn the identifier off with score.language.identifier=null"
    )


def most_frequent_language(identifier: LanguageIdentifier, texts: Sequence[str]) -> tuple[str, float]:
    """Return the language that most of the longer texts are in, and its share of them; `und` without any text."""
    long = [text for text in texts if len(text) >= MIN_CHARS] or texts
    counts = Counter(identifier.identify(long, None)[0])
    counts.pop(UNDETERMINED, None)
    if not counts:
        return UNDETERMINED, 0.0
    language, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return language, most / counts.total()
