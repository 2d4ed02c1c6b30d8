"""The prompt template of decoder-only batches: the text around the source and before the target, with fields.

`{src}` and `{tgt}` stand for the texts of a pair, with the tags and prefixes that the data has. `{eos}` is the token
that ends a sequence. `{source_language}` and `{target_language}` are the codes of the pair's languages. Every other
field is a column of the corpus. A sequence begins with BOS and ends with EOS, also without a field for them.

>>> template = parsed_template("{source_language} to {target_language}: {src} => {tgt}")
>>> template.fields
('source_language', 'target_language')
>>> template.before.segments({"source_language": "en", "target_language": "de"}, {}, eos=2)
['en to de: ']
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from mtx.errors import ConfigError

CONFIG_KEY = "datamodule.template"
DEFAULT_TEMPLATE = "{src}{eos}{tgt}"
SOURCE, TARGET, EOS = "src", "tgt", "eos"
LANGUAGE_FIELDS = ("source_language", "target_language")
EXAMPLE = f"\"{CONFIG_KEY}='{DEFAULT_TEMPLATE}'\""


@dataclass(frozen=True)
class TemplateText:
    """Text of a template without `{src}` and `{tgt}`: literal texts and names of fields in turn.

    Attributes:
        parts: (literal text, name of the field after it, or None at the end), in order.
    """

    parts: tuple[tuple[str, str | None], ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that stand for text, in order, without `{eos}`."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name not in (None, EOS)))

    def segments(self, values: Mapping[str, str], tokens: Mapping[str, int], eos: int) -> list[str | int]:
        """Return the text with the values of its fields as texts to encode, and ids of special tokens, in order.

        Args:
            values: the value of each field. Names of special tokens in it are ordinary text.
            tokens: ids of the special tokens that the template may name.
            eos: the id for `{eos}`.
        """
        names = "|".join(re.escape(name) for name in sorted(tokens, key=len, reverse=True))
        found: list[str | int] = [""]

        def append(text: str) -> None:
            found[-1] = f"{found[-1]}{text}"

        for literal, name in self.parts:
            for piece in re.split(f"({names})", literal) if names else [literal]:
                if piece in tokens:
                    found.extend([tokens[piece], ""])
                else:
                    append(piece)
            if name == EOS:
                found.extend([eos, ""])
            elif name is not None:
                append(values[name])
        return [each for each in found if each != ""]


@dataclass(frozen=True)
class CausalTemplate:
    """A checked template.

    Attributes:
        before: what comes before the source, after BOS.
        between: what comes between source and target.
    """

    before: TemplateText
    between: TemplateText

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields that stand for text, without `{src}` and `{tgt}`."""
        return tuple(dict.fromkeys([*self.before.fields, *self.between.fields]))


def parsed_template(template: str) -> CausalTemplate:
    """Return the parts of a template.

    Raises:
        ConfigError: a brace is unmatched, or a field has a format or no name. `{src}` and `{tgt}` must occur once each
            and in this order. No text may follow `{tgt}`, and something must stand between the two.
    """
    if any("\ud800" <= character <= "\udfff" for character in template):
        raise _refusal(template, "it has a lone surrogate, which is no text")
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise _refusal(template, "a brace is unmatched; {{ and }} stand for braces in the text") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or spec or conversion):
            raise _refusal(template, f"{{{name}}} is not the plain name of a field")
    names = [name for _, name, _, _ in parts]
    for name in (SOURCE, TARGET):
        if names.count(name) != 1:
            raise _refusal(template, f"{{{name}}} occurs {names.count(name)} times")
    source, target = names.index(SOURCE), names.index(TARGET)
    if target < source:
        raise _refusal(template, "{tgt} comes before {src}")
    if target != len(parts) - 1:
        raise _refusal(template, "text follows {tgt}, but EOS ends the target")
    pieces = [(literal, name) for literal, name, _, _ in parts]
    before = TemplateText((*pieces[:source], (pieces[source][0], None)))
    between = TemplateText((*pieces[source + 1 : target], (pieces[target][0], None)))
    if between.parts == (("", None),):
        raise _refusal(template, "nothing stands between {src} and {tgt}, so a model cannot know where the source ends")
    return CausalTemplate(before, between)


def _refusal(template: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{CONFIG_KEY} has {{src}} once and ends with {{tgt}}, with text, {{eos}}, {{source_language}}, "
        f"{{target_language}} or columns of the corpus around {{src}}, but is {template!r}: {reason}. Set {EXAMPLE}"
    )
