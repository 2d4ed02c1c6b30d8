"""Templates of prompts: which are valid, and what they say of the text around a source."""

import pytest

from mtx.batches.causal_template import DEFAULT_TEMPLATE, parsed_template
from mtx.errors import ConfigError


def test_fields_literals_and_special_tokens_are_told_apart() -> None:
    template = parsed_template("<|user|>{domain}: {src}{eos}{{x}} {domain}{target_language}{tgt}")
    assert template.fields == ("domain", "target_language")
    values = {"domain": "<|user|>", "target_language": "de"}
    tokens = {"<|user|>": 7}
    assert template.before.segments(values, tokens, eos=2) == [7, "<|user|>: "], "a column is text in any case"
    assert template.between.segments(values, tokens, eos=2) == [2, "{x} <|user|>de"]


def test_the_default_has_only_eos_between_source_and_target() -> None:
    template = parsed_template(DEFAULT_TEMPLATE)
    assert template.before.segments({}, {}, eos=2) == []
    assert template.between.segments({}, {}, eos=2) == [2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{src} => ", r"\{tgt\} occurs 0 times"),
        ("{src}{src} {tgt}", r"\{src\} occurs 2 times"),
        ("{tgt} <= {src}", r"\{tgt\} comes before \{src\}"),
        ("{src} => {tgt}.", r"text follows \{tgt\}, but EOS ends the target"),
        ("{src}{tgt}", r"nothing stands between \{src\} and \{tgt\}"),
        ("{src} {0} {tgt}", r"\{0\} is not the plain name of a field"),
        ("{src} {} {tgt}", r"\{\} is not the plain name of a field"),
        ("{src} {a.b} {tgt}", r"\{a\.b\} is not the plain name"),
        ("{src!r} => {tgt}", r"\{src\} is not the plain name"),
        ("{src:>9} => {tgt}", r"\{src\} is not the plain name"),
        ("{src => {tgt}", r"a brace is unmatched"),
        ("{src} \ud800 {tgt}", r"a lone surrogate"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"datamodule\.template has \{{src\}} once .*{reason}.*\. Set \"datamodule\.template='\{{src\}}\{{eos",
    ):
        parsed_template(text)
