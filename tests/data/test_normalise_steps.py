"""Named steps of normalisation: what each changes, in which order, and how many pairs."""

from typing import Any

import pyarrow as pa
import pytest

import mtx
from mtx.components.check_and_build import build, check_config
from mtx.components.identity import identity
from mtx.data.normalise import DefaultNormaliser, changed_rows
from mtx.data.normalise_steps import STEPS, StepsNormaliser
from mtx.errors import ConfigError, DataError


def texts(*values: str) -> pa.LargeStringArray:
    return pa.array(list(values), pa.large_string())


def pairs(*values: tuple[str, str]) -> pa.RecordBatch:
    source, target = zip(*values, strict=True) if values else ((), ())
    return pa.record_batch([texts(*source), texts(*target)], names=["src", "tgt"])


@mtx.normalise_step
def without(found: pa.LargeStringArray, *, text: str = "-") -> list[str]:
    """Removes a text."""
    return [each.replace(text, "") for each in found.to_pylist()]


@mtx.normalise_step
def broken(found: pa.LargeStringArray) -> list[str]:
    """Returns too few texts."""
    return found.to_pylist()[1:]


@mtx.normalise_step
def numbers(found: pa.LargeStringArray) -> list[int]:
    """Returns no texts."""
    return [1] * len(found)


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("nfc", "e\u0301 ﬁ", "é ﬁ"),
        ("nfkc", "e\u0301 ﬁ １", "é fi 1"),
        ("strip", " \u3000a  b\t", "a  b"),
        ("whitespace", " a \u00a0\n b\x1c", "a b"),
        ("quotes", "“a” „b‟ «c» ‘d’ ‚e‛ ‹f› 「g」", "\"a\" \"b\" \"c\" 'd' 'e' 'f' 「g」"),
        ("lowercase", "ÄB İ", "äb i\u0307"),
        ("invisible", "a\x00b\u00adc\u200bd\ufeff\te\u200cf", "abcd\te\u200cf"),
        ("tags", 'a<br/>b <b class="x">c</b>, 1 < 2 > 0 <!-- d --></p>', "a b c, 1 < 2 > 0  "),
        ("tags", "<3 <bread>", "<3 "),
        ("placeholders", "see https://a.de/b?c=1, (www.x.org) or a.b@c.de.", "see [URL], ([URL]) or [EMAIL]."),
        ("placeholders", "日本 https://a.jp/ です a@b", "日本 [URL] です a@b"),
    ],
)
def test_a_step_changes_a_text(step: str, before: str, after: str) -> None:
    assert STEPS[step](texts(before, "")).to_pylist() == [after, ""]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_takes_no_texts_and_any_text(step: str) -> None:
    assert len(STEPS[step](texts())) == 0
    assert len(STEPS[step](texts("", "\x00", "שלום\u200f", "日本語", "<" * 1000, "a" * 10_000))) == 6


def test_the_steps_apply_in_their_order_and_are_counted_as_pairs_changed() -> None:
    normaliser = StepsNormaliser(steps=["tags", "whitespace", "lowercase"])
    changed: dict[str, int] = {}
    given = pairs(("<b> A", "b"), ("a", "B"), ("c", "d"))
    assert normaliser.apply_counted(given, changed).to_pylist() == [
        {"src": "a", "tgt": "b"},
        {"src": "a", "tgt": "b"},
        {"src": "c", "tgt": "d"},
    ]
    assert changed == {"tags": 1, "whitespace": 1, "lowercase": 2}
    again: dict[str, int] = {}
    rows = [batch.column("row").to_pylist() for batch in changed_rows(normaliser, [given], 5, again)]
    assert (rows, again) == ([[], [5, 6]], changed)
    other = StepsNormaliser(steps=["whitespace", "tags"]).apply(given)
    assert other["src"].to_pylist()[0] == " A"


def test_the_default_counts_no_steps() -> None:
    changed: dict[str, int] = {}
    list(changed_rows(DefaultNormaliser(), [pairs((" a", "b"))], 0, changed))
    assert changed == {}


def test_an_own_step_is_a_marked_function_with_options() -> None:
    config = {
        "normalise": {
            "_target_": "mtx.data.normalise_steps.StepsNormaliser",
            "steps": ["nfc", "dots"],
            "own": {"dots": {"_target_": f"{__name__}.without", "text": "."}},
        }
    }
    check_config(config)
    normaliser = build(config, "normalise")
    assert normaliser.apply(pairs(("a.b", "."))).to_pylist() == [{"src": "ab", "tgt": ""}]
    described: Any = identity(normaliser)
    assert described["steps"][1]["kind"] == "without"
    assert described["steps"][1]["text"] == "."
    assert described["steps"][1]["version"].startswith("code:")  # an edit of the code makes another id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": ["nfx"]}, "normalise.steps has 'nfx', which is no step. The steps: nfc"),
        ({"steps": ["nfc", "nfc"]}, "normalise.steps has nfc twice"),
        ({"steps": ["nfc"], "own": {"mine": without()}}, "Set 'normalise.steps=[nfc,mine]'"),
        ({"steps": ["mine"], "own": {"mine": len}}, "must be a function marked with @mtx.normalise_step"),
    ],
)
def test_invalid_steps_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        StepsNormaliser(**options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("step", "message"),
    [(broken(), "returned 1 texts, 0 of them null, for 2"), (numbers(), "must return texts, but returned others")],
)
def test_a_step_that_returns_no_text_for_each_text_is_told(step: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        StepsNormaliser(steps=["mine"], own={"mine": step}).apply(pairs(("a", "b"), ("c", "d")))


def test_a_prefix_stands_before_each_source_once() -> None:
    normaliser = DefaultNormaliser(source_prefix=">>de<< ")
    once = normaliser.apply(pairs((" a ", "b"), ("", "c"), (">>de<< d", ">>de<< e")))
    assert once.to_pydict() == {"src": [">>de<< a", "", ">>de<< d"], "tgt": ["b", "c", ">>de<< e"]}
    assert normaliser.apply(once).equals(once)
    assert "source_prefix" not in identity(DefaultNormaliser())  # so that ids of older texts stay valid
    with pytest.raises(ConfigError, match=r"normalise\.source_prefix must be text without lone surrogates"):
        DefaultNormaliser(source_prefix="\ud800")
