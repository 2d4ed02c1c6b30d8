"""`StepsNormaliser`: named steps that change texts in a chosen order, and own steps, each counted as pairs changed."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from mtx.components.checked_options import component
from mtx.components.identity import JSON, identity
from mtx.data.normalise import Normaliser, NormaliseStep, differing_pairs
from mtx.errors import ConfigError, DataError, choices
from mtx.infra.dal.unconvertible_value import unconvertible_value
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

Texts: TypeAlias = pa.LargeStringArray

DOUBLE_QUOTES = "[\u201c-\u201f\u00ab\u00bb\u2033\u2036]"
SINGLE_QUOTES = "[\u2018-\u201b\u2039\u203a\u2032\u2035]"
# C0 and C1 control characters and DEL, except tab, line feed and carriage return; soft hyphen; zero-width space; BOM.
# The joiners U+200C and U+200D stay, because Persian and Indic scripts need them.
INVISIBLE = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}\x{ad}\x{200b}\x{2060}\x{feff}]"
BLOCK_TAG = r"(?i)</?(?:br|hr|p|div|li|ul|ol|tr|td|th|table|h[1-6])(?:[\s/][^<>]*)?>"
TAG = r"</?[A-Za-z][^<>]*>|<!--[^<>]*-->"
URL = r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>\"]*[^\s<>\".,;:!?'()\[\]{}]"
EMAIL = r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\b"


def _by_text(function: Callable[[str], str]) -> Callable[[Texts], Texts]:
    return lambda texts: pa.array([function(text) for text in texts.to_pylist()], pa.large_string())


def _unicode_form(form: Any) -> Callable[[Texts], Texts]:
    def normal(texts: Texts) -> Texts:
        if pc.all(pc.string_is_ascii(texts)).as_py() is not False:  # ASCII never changes
            return texts
        return _by_text(lambda text: unicodedata.normalize(form, text))(texts)

    return normal


def _replaced(*patterns: tuple[str, str]) -> Callable[[Texts], Texts]:
    def replace(texts: Texts) -> Texts:
        for pattern, text in patterns:
            texts = pc.replace_substring_regex(texts, pattern, text)
        return texts

    return replace


STEPS: dict[str, Callable[[Texts], Texts]] = {
    "nfc": _unicode_form("NFC"),
    "nfkc": _unicode_form("NFKC"),
    "strip": pc.utf8_trim_whitespace,
    "whitespace": _by_text(lambda text: " ".join(text.split())),
    "quotes": _replaced((DOUBLE_QUOTES, '"'), (SINGLE_QUOTES, "'")),
    "lowercase": _by_text(str.lower),
    "invisible": _replaced((INVISIBLE, "")),
    "tags": _replaced((BLOCK_TAG, " "), (TAG, "")),
    "placeholders": _replaced((URL, "[URL]"), (EMAIL, "[EMAIL]")),
}


@component("normalise")
class StepsNormaliser(Normaliser):
    """Changes the texts of both sides by steps, in order.

    | step | what it does |
    | --- | --- |
    | `nfc`, `nfkc` | applies the Unicode normal form |
    | `strip` | removes white space at both ends of a text |
    | `whitespace` | also replaces each run of white space by one space |
    | `quotes` | replaces curly, angle and other quotation marks by `"` and `'` |
    | `lowercase` | lower case, as `str.lower` |
    | `invisible` | removes control characters (not tab and line ends), soft hyphens and zero-width spaces |
    | `tags` | removes HTML and XML tags and comments; tags of blocks and `<br>` become a space |
    | `placeholders` | replaces web addresses by `[URL]`, and e-mail addresses by `[EMAIL]` |

    Args:
        steps: the names of the steps, in the order in which they apply; own steps by their names in `own`.
        own: one's own steps by name: functions that are marked with `@mtx.normalise_step`.
    """

    kind: ClassVar[str] = "normalise/steps"
    version: ClassVar[int] = 1

    steps: list[str] = field(default_factory=lambda: ["nfc", "whitespace"])
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [*self.own, *STEPS]
        for step in self.steps:
            if step not in known:
                raise ConfigError(f"normalise.steps has {step!r}, which is no step. The steps: {choices(step, known)}")
        if twice := [step for step in self.steps if self.steps.count(step) > 1]:
            raise ConfigError(f"normalise.steps has {twice[0]} twice. Name each step once")
        for name, step in self.own.items():
            if not isinstance(step, NormaliseStep):
                raise ConfigError(
                    f"normalise.own.{name} must be a function marked with @mtx.normalise_step, but is {step!r}. Set "
                    f"+normalise.own.{name}._target_=MODULE.FUNCTION"
                )
            if name not in self.steps:
                raise ConfigError(
                    f"normalise.own has the step {name}, but normalise.steps does not, so it would never apply. "
                    f"Set 'normalise.steps=[{','.join([*self.steps, name])}]'"
                )

    def identity_fields(self) -> dict[str, JSON]:
        """Return the steps in order; an own step with its options and its code."""
        return {
            "steps": cast(list[JSON], [identity(self.own[step]) if step in self.own else step for step in self.steps])
        }

    def apply(self, pairs: pa.RecordBatch) -> pa.RecordBatch:
        """Return the texts after all steps."""
        return self.apply_counted(pairs, {})

    def apply_counted(self, pairs: pa.RecordBatch, changed: dict[str, int]) -> pa.RecordBatch:
        """Return the texts after all steps, and add the number of pairs that each step changes to `changed`."""
        texts = pairs.select(PAIR_SCHEMA.names)
        for name in self.steps:
            function = self.own[name].apply if name in self.own else STEPS[name]
            columns = [_checked(name, function(column), len(column)) for column in texts.columns]
            after = pa.record_batch(columns, schema=PAIR_SCHEMA)
            changed[name] = changed.get(name, 0) + int(differing_pairs(after, texts).sum())
            texts = after
        return texts


def _checked(name: str, found: Any, num_texts: int) -> Texts:
    """Return the texts of a step as large strings. Raises DataError for another number of texts, or for nulls."""
    try:
        texts = pa.array(found, pa.large_string()) if not isinstance(found, pa.Array) else found.cast(pa.large_string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        wrong = unconvertible_value(found, pa.large_string())
        raise DataError(f"the step {name} of normalise must return texts, but returned others, {wrong}") from None
    if len(texts) != num_texts or texts.null_count:
        raise DataError(
            f"the step {name} of normalise returns one text for each text, but returned {len(texts)} texts, "
            f"{texts.null_count} of them null, for {num_texts}. To drop pairs, write a filter"
        )
    return texts
