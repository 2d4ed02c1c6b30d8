import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from mtx.data.split import LEAK, TEST, TRAIN, VALIDATION, HeldOut, normalized_texts, source_hashes, split_assignment
from mtx.errors import ConfigError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA


def table_of(sources: list[str]) -> pa.Table:
    rows = [{"src": source, "tgt": f"target {number}"} for number, source in enumerate(sources)]
    return pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)


def by_hash(sources: list[str], seed: int = 0) -> list[str]:
    return sorted(set(sources), key=lambda source: xxh3_64_intdigest(source.encode(), seed=seed))


SIX = ["one", "two", "three", "four", "five", "six"]
# The hashes in 1/1000 of their range: six 67, five 110, two 422, one 567, four 679, three 754.


def test_the_order_of_hashes_that_the_other_tests_are_worked_by_is_the_same_on_every_machine() -> None:
    assert by_hash(SIX) == ["six", "five", "two", "one", "four", "three"]
    assert [round(1000 * xxh3_64_intdigest(s.encode()) / 2**64) for s in by_hash(SIX)] == [67, 110, 422, 567, 679, 754]


def test_a_fraction_takes_the_lowest_hashes_for_validation_and_the_highest_for_test() -> None:
    split = split_assignment(table_of(SIX), HeldOut(validation=0.2, test=0.25))
    assert split.tolist() == [TRAIN, TRAIN, TEST, TRAIN, VALIDATION, VALIDATION]
    assert split.dtype == np.uint8


def test_a_count_takes_sources_whole_until_it_is_reached() -> None:
    sources = ["one", "six", "three", "six", "five", "six", "four", "three", "two"]
    split = split_assignment(table_of(sources), HeldOut(validation=2, test=3))
    held_out = {name: [s for s, code in zip(sources, split, strict=True) if code == name] for name in range(3)}
    assert held_out == {VALIDATION: ["six"] * 3, TEST: ["three", "four", "three"], TRAIN: ["one", "five", "two"]}


def test_a_count_and_a_fraction_go_together() -> None:
    split = split_assignment(table_of(SIX), HeldOut(validation=0.2, test=2))
    assert split.tolist() == [TRAIN, TRAIN, TEST, TEST, VALIDATION, VALIDATION]


def test_only_the_splits_wanted_are_held_out() -> None:
    held_out = HeldOut(validation=0.2, test=0.25)
    assert split_assignment(table_of(SIX), held_out, wanted=["test"]).tolist() == [0, 0, TEST, 0, 0, 0]
    assert split_assignment(table_of(SIX), held_out, wanted=["validation"]).tolist() == [
        0,
        0,
        0,
        0,
        VALIDATION,
        VALIDATION,
    ]
    assert split_assignment(table_of(SIX), held_out, wanted=[]).tolist() == [TRAIN] * 6


@pytest.mark.parametrize("nothing", [None, 0, 0.0])
def test_none_and_zero_hold_out_nothing(nothing: float | None) -> None:
    assert split_assignment(table_of(SIX), HeldOut(validation=nothing, test=nothing)).tolist() == [TRAIN] * 6


def test_changing_one_split_leaves_the_other_as_it_was() -> None:
    table = table_of([f"sentence {number}" for number in range(1000)])
    small, large = (split_assignment(table, HeldOut(validation=0.05, test=test)) for test in (0.05, 50))
    assert np.array_equal(small == VALIDATION, large == VALIDATION)


def test_another_seed_holds_out_other_sentences() -> None:
    table = table_of([f"sentence {number}" for number in range(1000)])
    first, second = (split_assignment(table, HeldOut(validation=0.1, seed=seed)) for seed in (0, 1))
    both = np.count_nonzero((first == VALIDATION) & (second == VALIDATION))
    assert both < 30 < min(np.count_nonzero(first), np.count_nonzero(second))


def test_a_corpus_that_grows_keeps_what_a_fraction_held_out() -> None:
    sources = [f"sentence {number}" for number in range(1000)]
    half, whole = (split_assignment(table_of(s), HeldOut(validation=0.1, test=0.1)) for s in (sources[:500], sources))
    assert np.array_equal(half, whole[:500])
    assert 60 < np.count_nonzero(whole == VALIDATION) < 140
    assert 60 < np.count_nonzero(whole == TEST) < 140


def test_sources_that_differ_only_in_white_space_or_normal_form_stay_together() -> None:
    same = ["un café noir", " un café  noir\n", "un\u00a0cafe\u0301\u2003noir", "un\tcaf\u00e9 noir"]
    hashes = source_hashes(table_of([*same, "un cafe noir", "uncafé noir"]))
    assert len(set(hashes[:4].tolist())) == 1
    assert len(set(hashes.tolist())) == 3


def test_training_pairs_with_a_source_of_the_sources_own_held_out_splits_are_leaks() -> None:
    own = [table_of(["two ", "nine"]), table_of(["ten", " five"])]
    table = table_of(SIX)
    assert split_assignment(table, HeldOut(), own=own).tolist() == [0, LEAK, 0, 0, LEAK, 0]
    assert split_assignment(table, HeldOut(drop_leaks=False), own=own).tolist() == [TRAIN] * 6


def test_leaks_are_neither_held_out_nor_counted_as_there_to_hold_out_from() -> None:
    own = [table_of(["six", "three"])]
    split = split_assignment(table_of(SIX), HeldOut(validation=1, test=1), own=own)
    assert split.tolist() == [0, 0, LEAK, TEST, VALIDATION, LEAK]
    with pytest.raises(ConfigError, match="fewer pairs than there are, but there are 4"):
        split_assignment(table_of(SIX), HeldOut(validation=4), own=own)


WORDS = st.lists(st.sampled_from(["a", "b", "é", "e\u0301", " ", "\u3000", "\n"]), max_size=4).map("".join)
SIZES = st.one_of(st.none(), st.integers(0, 4), st.floats(0, 0.4))


@settings(max_examples=300, deadline=None)
@given(sources=st.lists(WORDS, min_size=1, max_size=30), validation=SIZES, test=SIZES, data=st.data())
def test_the_split_of_a_pair_depends_on_neither_order_nor_chunks_and_no_source_stands_in_two(
    sources: list[str], validation: float | None, test: float | None, data: st.DataObject
) -> None:
    held_out = HeldOut(validation=validation, test=test)
    table = table_of(sources)
    order = data.draw(st.permutations(range(len(sources))))
    cut = data.draw(st.integers(0, len(sources)))
    shuffled = table.take(order)
    chunked = pa.concat_tables([shuffled.slice(0, cut), shuffled.slice(cut)])
    try:
        split = split_assignment(table, held_out)
    except ConfigError:
        with pytest.raises(ConfigError):
            split_assignment(chunked, held_out)
        return
    assert np.array_equal(split_assignment(chunked, held_out), split[order])
    splits_of: dict[str, set[int]] = {}
    for source, code in zip(sources, split.tolist(), strict=True):
        splits_of.setdefault(unicodedata.normalize("NFC", " ".join(source.split())), set()).add(code)
    assert all(len(codes) == 1 for codes in splits_of.values())
    sizes = Counter(split.tolist())
    assert sizes[TRAIN] > 0
    for name, code in (("validation", VALIDATION), ("test", TEST)):
        size = getattr(held_out, name)
        if isinstance(size, int):
            pairs_of = Counter(unicodedata.normalize("NFC", " ".join(source.split())) for source in sources)
            held = [pairs_of[source] for source, codes in splits_of.items() if codes == {code}]
            assert sizes[code] >= size
            assert sizes[code] - max(held, default=0) < max(size, 1)  # without the largest source it falls short


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(),
        st.text(st.sampled_from("a b\t\n\x0b\x1c\x1f\x85\xa0\u1680\u2000\u2028\u3000\u200b\u0301é가\u1100\u1161")),
    )
)
def test_normalizes_as_python_does(text: str) -> None:
    expected = unicodedata.normalize("NFC", " ".join(text.split()))
    assert normalized_texts(pa.array([text], pa.large_string())) == [expected.encode()]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": -1}, "datamodule.validation is a count of pairs .*, but is -1"),
        ({"test": -0.5}, "datamodule.test is a count of pairs .*, but is -0.5"),
        ({"test": 1.0}, "datamodule.test is a count of pairs .*a fraction between 0 and 1.*, but is 1.0"),
        ({"test": True}, "datamodule.test is a count of pairs .*, but is True"),
        ({"validation": "1%"}, "datamodule.validation is a count of pairs .*, but is '1%'"),
        ({"validation": float("nan")}, "datamodule.validation is a count of pairs .*, but is nan"),
        (
            {"validation": 0.5, "test": 0.5},
            "datamodule.validation=0.5 and datamodule.test=0.5 leave nothing to train on: the sum of the fractions",
        ),
        ({"seed": -1}, "datamodule.held_out_seed is an integer from 0 to 18446744073709551615, but is -1"),
        ({"seed": 2**64}, "datamodule.held_out_seed is an integer from 0 to"),
        ({"drop_leaks": "no"}, "datamodule.drop_leaks is true or false or either_side, but is 'no'"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule_and_value(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HeldOut(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (
            HeldOut(validation=6),
            "datamodule.validation=6 must hold out fewer pairs than there are, but there are 6. Hold",
        ),
        (HeldOut(validation=2, test=4), "datamodule.validation=2 and datamodule.test=4 must hold out fewer pairs"),
        (
            HeldOut(validation=0.7, test=2),
            "with datamodule.validation=0.7 and datamodule.test=2, none of the 6 pairs is left",
        ),
        (
            HeldOut(validation=0.95),
            "with datamodule.validation=0.95, none of the 6 pairs is left for training, because pairs",
        ),
    ],
)
def test_sizes_that_leave_nothing_to_train_on_are_refused(held_out: HeldOut, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_assignment(table_of(SIX), held_out)


def test_pairs_of_one_source_that_cannot_be_parted_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"with datamodule.test=1, none of the 3 pairs is left for training, because pairs with"
    ):
        split_assignment(table_of(["a", "a ", " a"]), HeldOut(test=1))


@pytest.mark.parametrize("num_pairs", [0, 6])
def test_a_fraction_of_few_pairs_may_hold_out_none(num_pairs: int) -> None:
    """The pipeline warns of it, and whoever asks for the split's batches gets an error."""
    assert split_assignment(table_of(SIX[:num_pairs]), HeldOut(validation=0.05)).tolist() == [TRAIN] * num_pairs
