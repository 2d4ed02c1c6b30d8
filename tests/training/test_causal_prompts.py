"""Prompts as token ids: values of columns, advice about symbols, directions, and lengths of texts to translate."""

import shlex
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from tokenizers import Tokenizer, models, pre_tokenizers

from mtx.batches.batch_format import BatchFormat
from mtx.batches.causal_template import parsed_template
from mtx.data.normalise import NoNormaliser
from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.tokenization import encode_texts
from mtx.errors import ConfigError
from mtx.training import causal_prompts
from mtx.training.causal_prompts import FieldValues, encoded_prompts, language_prompts
from mtx.training.checkpoint_likelihood import target_nats
from mtx.training.checkpoint_translator import CheckpointTranslator, SearchOptions
from mtx.training.translation_state import TranslationState

SPECIAL = SpecialIds()
WORDS = ["<PAD>", "<BOS>", "<EOS>", "<UNK>", "a", "b", "=", "en", "de", "fr", ":"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<UNK>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def domains(*texts: str) -> dict[str, FieldValues]:
    return {"domain": FieldValues(texts, np.arange(len(texts)))}


def test_each_part_is_encoded_at_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    encode = encode_texts

    def counted(of: Tokenizer, texts: list[str]) -> list[list[int]]:
        calls.append(texts)
        return encode(of, texts)

    monkeypatch.setattr(causal_prompts, "encode_texts", counted)
    made = encoded_prompts(parsed_template("{domain}{eos}{domain}{src} = {tgt}"), tokenizer, SPECIAL, domains("a", "b"))
    assert [made.before[row].tolist() for row in range(2)] == [[1, 4, 2, 4], [1, 5, 2, 5]]
    assert [made.between[row].tolist() for row in range(2)] == [[6], [6]]
    assert calls == [["="], ["a", "a", "b", "b"], [" = ", " = "]]


def test_an_empty_value_leaves_nothing_between(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"between \{src\} and \{tgt\} in 1 of 2 different prompts, .* empty values"):
        encoded_prompts(parsed_template("{src}{domain}{tgt}"), tokenizer, SPECIAL, domains("a", ""))


def test_values_without_tokens_are_told(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    encoded_prompts(parsed_template("{domain}{src}{eos}{tgt}"), tokenizer, SPECIAL, domains("a", "no", "b"))
    assert "no tokens, in 1 of 3 different prompts, such as 'no'" in caplog.text


@pytest.mark.parametrize("symbols", [None, (), (">>de<<",)])
def test_advice_about_symbols_parses(tokenizer: Tokenizer, symbols: tuple[str, ...] | None) -> None:
    with pytest.raises(ConfigError) as told:
        encoded_prompts(parsed_template("{src} it's {tgt}"), tokenizer, SPECIAL, {}, symbols)
    if symbols is None:
        assert str(told.value).endswith("for which the vocabulary has no tokens. Choose other text")
        return
    typed = shlex.split(str(told.value).split(" with ")[1].split(", or choose")[0])
    override = OverridesParser.create().parse_override(typed[0])
    assert override.value() == [*symbols, "it's"]


class Echo:
    """Remembers what it gets."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.sizes: list[int] = []
        self.most: list[int] = []
        self.model = self

    def generate(self, batch: Any, max_tokens: Any, options: SearchOptions) -> list[Any]:
        self.widths.append(batch["input_ids"].shape[1])
        self.most += max_tokens.tolist()
        return [[] for _ in max_tokens]

    def target_nats(self, batch: Any) -> torch.Tensor:
        self.sizes.append(batch["input_ids"].numel())
        return torch.zeros(len(batch["labels"] if "row_ids" not in batch else batch["row_ids"]))


def translator(tokenizer: Tokenizer, template: str, **state: Any) -> CheckpointTranslator:
    layout = BatchFormat(names="causal", template=template, max_source_tokens=6, max_target_tokens=6)
    return echo_translator(tokenizer, layout, **state)


def echo_translator(tokenizer: Tokenizer, layout: BatchFormat, **state: Any) -> CheckpointTranslator:
    given: Any = {"languages": ("en", "mul"), **state}
    made = TranslationState(tokenizer, tokenizer, NoNormaliser(), layout, corpus={}, **given)
    echo: Any = Echo()
    return CheckpointTranslator(made, echo, torch.device("cpu"))


def test_prompts_count_in_the_lengths_of_texts_to_translate(tokenizer: Tokenizer) -> None:
    made = translator(tokenizer, "en: {src} = {tgt}")  # BOS, en, :, and = leave room for two tokens
    assert made.num_truncated([1, 2, 3]) == 1
    made.n_best(["a b a", "a"])
    echo: Any = made.generator
    assert echo.widths == [7]  # a prompt of 6, and EOS of the empty target
    assert echo.most == [6 * 3 // 2 + 10, 5 * 3 // 2 + 10]


def test_a_row_of_prompt_and_target_stays_within_the_budget(tokenizer: Tokenizer) -> None:
    made = translator(tokenizer, "en: {src} = {tgt}")
    sources, targets = [[4, 5]] * 6, [[4, 5, 4]] * 6
    nats = target_nats(made, sources, targets, batch_tokens=22)
    echo: Any = made.generator
    assert echo.sizes == [20, 20, 20]
    assert nats is not None
    assert np.isfinite(nats).all()
    too_long = target_nats(made, [[4] * 6], [[4] * 3], batch_tokens=22)
    assert too_long is not None
    assert np.isnan(too_long).all()


@pytest.mark.parametrize(
    ("options", "longest"),
    [({}, (5, 5)), ({"language_token_position": "suffix"}, (5, 6)), ({"source_eos": False}, (6, 5))],
)
def test_the_longest_pairs_that_fit_have_a_likelihood(
    tokenizer: Tokenizer, options: dict[str, Any], longest: tuple[int, int]
) -> None:
    layout = BatchFormat(names="huggingface", max_source_tokens=6, max_target_tokens=6, **options)
    source, target = longest
    sizes = [(source, target), (source + 1, 1), (1, target + 1)]
    rows = [[[4] * size for size in side] for side in zip(*sizes, strict=True)]
    nats = target_nats(echo_translator(tokenizer, layout), rows[0], rows[1], batch_tokens=22)
    assert nats is not None
    assert np.isnan(nats).tolist() == [False, True, True]


def test_a_prompt_that_names_languages_needs_one_direction(tokenizer: Tokenizer) -> None:
    several = (("en", "de"), ("en", "fr"))
    with pytest.raises(ConfigError, match=r"whose prompts name other languages\. Choose one: task\.direction=en-de"):
        translator(tokenizer, "{target_language}: {src} = {tgt}", directions=several).num_truncated([1])
    assert translator(tokenizer, "{src} = {tgt}", directions=several).num_truncated([1]) == 0
    layout = BatchFormat(names="causal", template="{target_language}: {src} = {tgt}")
    assert language_prompts(layout, tokenizer, ("en", "mul"), several[1:]).before[0].tolist() == [1, 9, 10]
