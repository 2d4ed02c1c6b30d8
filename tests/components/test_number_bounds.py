"""Whole numbers in options that no array can hold are refused with the key, the bound and the value."""

from typing import Any

import pytest

from mtx.app.command import compose
from mtx.components.check_and_build import build
from mtx.components.checked_options import Count, describe
from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.unigram import UnigramTokenization
from mtx.data.tokenize.wordpiece import WordPieceTokenization
from mtx.errors import ConfigError, MtxError

BIG = (2**31, 2**63 - 1, 2**64, 10**400)
KEYS = {
    "sampler.max_tokens": ["sampler=token_budget"],
    "sampler.max_pairs": ["sampler=token_budget"],
    "sampler.length_multiple": ["sampler=token_budget"],
    "sampler.batch_multiple": ["sampler=static_shapes"],
    "sampler.num_shapes": ["sampler=static_shapes"],
    "sampler.batch_size": ["sampler=random"],
    "sampler.pool_batches": ["sampler=bucket"],
    "sampler.num_buckets": ["sampler=bucket"],
    "downloader.n": [],
    "filter.max_chars": [],
    "filter.min_words": [],
    "filter.ratio_floor_chars": [],
    "tokenizer.min_frequency": [],
    "tokenizer.max_train_pairs": [],
}


@pytest.mark.parametrize("key", KEYS)
def test_an_integer_that_no_array_holds_is_refused(key: str) -> None:
    group, _, name = key.partition(".")
    config = compose([*KEYS[key], "storage=files_arrow"])
    for number in BIG:
        with pytest.raises(ConfigError) as error:
            build({**config, group: {**config[group], name: number}}, group)
        assert str(error.value).startswith(f"{key} is an integer from ")
        assert f"but is {number}. Set {key}=" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["real_tokens", "source_bytes"])
def test_an_amount_may_have_63_bits(name: str) -> None:
    config = compose(["task=fit"])
    build({**config, "budget": {**config["budget"], name: 2**63 - 1}}, "budget")
    with pytest.raises(ConfigError, match=f"budget.{name} is an integer from 1 to 9223372036854775807"):
        build({**config, "budget": {**config["budget"], name: 2**63}}, "budget")


def test_the_bound_is_named_only_where_it_is_exceeded() -> None:
    assert describe(Count) == "an integer of at least 1"
    assert describe(Count, 0) == "an integer of at least 1"
    assert describe(Count, 2**31) == "an integer from 1 to 2147483647"


@pytest.mark.parametrize("size", [2**24 + 1, 2**31, 10**11, 2**64])
@pytest.mark.parametrize("kind", [BPETokenization, UnigramTokenization, WordPieceTokenization])
def test_a_vocabulary_that_no_memory_holds_is_refused_before_the_library_ends_the_process(kind: Any, size: int) -> None:
    rows = [{"src": "one two", "tgt": "eins zwei"}]
    dataset = TranslationDataset(name="n", stage="raw", split="train", languages=("en", "de"), data=rows)
    with pytest.raises(MtxError, match=f"tokenizer.vocab_size is at most 16777216, .* but is {size}"):
        kind(vocab_size=size).train(dataset)
