"""Training pairs drawn by weights of a column: exact to the pair in each epoch, by expected number over epochs."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx import compose_datamodule
from mtx.batches.plan.mixture_epochs import source_ledgers
from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.weighted_pair_draws import WeightedQuotas
from mtx.errors import ConfigError
from mtx.training.datamodule import TranslationDataModule
from mtx.training.pair_weights import NO_VALUE, PairWeighting, pair_weighting


def quotas(weights: list[float], source: list[int] | None = None, amounts: tuple[int, ...] = ()) -> WeightedQuotas:
    of = np.array(source or [0] * len(weights))
    rows = tuple(np.flatnonzero(of == number).astype(np.int32) for number in range(of.max() + 1))
    amounts = amounts or tuple(len(own) for own in rows)
    names = tuple(f"s{number}" for number in range(len(rows)))
    return WeightedQuotas(len(weights), names, rows, np.array(amounts), np.array(weights, dtype=np.float64))


def draws(of: WeightedQuotas, epoch: int, seed: int = 0) -> list[int]:
    rows = np.concatenate(of.parts(seed=seed, epoch=epoch))
    return np.bincount(rows, minlength=of.num_rows).tolist()


def test_an_epoch_has_the_quota_and_each_row_its_expected_draws_rounded() -> None:
    of = quotas([1, 1, 2, 4])  # expected: 0.5, 0.5, 1, 2
    for epoch in range(20):
        counts = draws(of, epoch)
        assert sum(counts) == 4
        assert counts[0] + counts[1] == 1
        assert counts[2:] == [1, 2]
    assert draws(of, 3) == draws(of, 3), "a function of seed and epoch"
    assert len({tuple(draws(of, epoch)) for epoch in range(6)}) == 2


def test_over_epochs_rows_are_drawn_as_their_weights_say() -> None:
    weights = np.random.default_rng(5).exponential(size=40)
    of = quotas(weights.tolist())
    expected = 40 * weights / weights.sum()
    total = np.zeros(40)
    for epoch in range(200):
        counts = np.array(draws(of, epoch))
        assert counts.sum() == 40
        assert (np.abs(counts - expected) < 1).all()
        total += counts
        assert np.abs(total - expected * (epoch + 1)).max() < 4, "random draws would be off by 14 after 200 epochs"


def test_each_source_keeps_its_quota_and_rows_of_weight_0_are_never_drawn() -> None:
    of = quotas([0, 3, 1, 5, 5, 0], [0, 0, 0, 1, 1, 1], (9, 2))
    for epoch in range(9):
        counts = draws(of, epoch)
        assert (sum(counts[:3]), sum(counts[3:])) == (9, 2)
        assert (counts[0], counts[5]) == (0, 0)
    with pytest.raises(ConfigError, match=r"all pairs of s1 have the weight 0.* datamodule\.weight_by"):
        quotas([1, 0], [0, 1])


def test_the_cost_of_the_most_expensive_epoch_is_exact() -> None:
    rng = np.random.default_rng(1)
    of = quotas(rng.exponential(size=12).tolist())
    cost = rng.integers(1, 100, size=12)
    costs = [int((np.array(draws(of, epoch)) * cost).sum()) for epoch in range(400)]
    ratio = of.max_cost_ratio(cost, seed=0)
    assert max(costs) / costs[0] <= ratio + 1e-9
    assert max(costs) / costs[0] == pytest.approx(ratio, rel=0.02), "400 values of u reach nearly every step"


def test_the_ledger_adds_up() -> None:
    lengths = Lengths(np.array([3, 4, 5, 99], dtype=np.int32), np.array([3, 4, 5, 9], dtype=np.int32))
    sampling = MixtureSampling(
        names=("all",), source=np.zeros(4, dtype=np.uint16), weights=(1.0,), temperature=None, epoch_pairs=None, seed=0,
        row_weights=np.array([0.0, 1.0, 8.0, 1.0]),
    )  # fmt: skip
    excluded = np.array([False, False, False, True])
    plan = sampling.draft(SequentialPlanner(batch_size=2), lengths, excluded=excluded).plan(seed=0, epoch=0)
    counts = source_ledgers(plan, ["all"], np.zeros(4, dtype=np.uint16))["all"]
    assert counts["drawn"] == 3, "as many draws as pairs that fit"
    assert counts["num_pairs"] == 4
    assert counts["batched"] + counts["dropped_length"] + counts["dropped_remainder"] + counts["not_drawn"] == 4
    assert (counts["dropped_length"], counts["repeated"]) == (1, counts["drawn"] - counts["batched"])


@pytest.mark.parametrize(
    ("values", "weights", "groups"),
    [
        ([3.0, 1.0, 2.0, 4.0], [2, 1, 1, 2], [1, 0, 0, 1]),
        ([None, 1.0, 2.0, 3.0], [1, 1, 2, 2], [2, 0, 1, 1]),  # a pair without a value weighs as the lowest
        ([5, 5, 5, 5], [2, 2, 2, 2], [1, 1, 1, 1]),  # equal values are not separated
        ([None, None], [1, 1], [2, 2]),
        ([], [], []),
    ],
)
def test_ranges_of_values_have_weights(values: list[Any], weights: list[float], groups: list[int]) -> None:
    found, of = PairWeighting("z", (1.0, 2.0)).weights(pa.array(values, pa.float64()))
    assert found.tolist() == weights
    assert of.of_row.tolist() == groups
    assert of.names == ("z 1 of 2", "z 2 of 2", *([NO_VALUE] if None in values else []))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["a"]), "needs a column of numbers, but 'w' holds string. Use datamodule.group_by"),
        (pa.array([1.0, -2.0]), r"1 of 2 pairs have none, such as -2\.0\. Give weights to ranges"),
        (pa.array([1.0, None]), r"1 of 2 pairs have none, such as nan"),
        (pa.array([1e308, 1.0]), r"weights from 0 to 1e\+06, but 1 of 2 pairs have none, such as 1e\+308"),
    ],
)
def test_a_column_that_has_no_weights_is_refused(column: pa.Array, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PairWeighting("w").weights(column)


def test_options_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"quantile_weights needs a column\. Add datamodule\.weight_by=COLUMN"):
        pair_weighting(None, [1, 2])
    for weights in ([1.0], [0.0, 0.0]):
        with pytest.raises(ConfigError, match=r"a list of two weights or more, one of them above 0"):
            pair_weighting("z", weights)


def composed(folder: Path, *overrides: str) -> TranslationDataModule:
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        pairs = [{"src": f"s {row}", "tgt": f"t {row}", "z": row / 10, "domain": "ab"[row % 2]} for row in range(60)]
        corpus.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return compose_datamodule(
        [
            *("downloader=local", f"downloader.path={corpus}", "downloader.columns=[z,domain]", "score=[rules]"),
            *("downloader.source_language=en", "downloader.target_language=xx", f"storage.root={folder / 'store'}"),
            *("tokenizer=byte", "datamodule.validation=null", "datamodule.test=null", "datamodule.num_workers=0"),
            *overrides,
        ]
    )


def data(folder: Path, *overrides: str) -> TranslationDataModule:
    made = composed(folder, *overrides)
    made.prepare_data()
    made.setup()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def drawn(made: TranslationDataModule, epochs: int = 1) -> Counter[int]:
    loader = made.train_dataloader()
    return Counter(row for _ in range(epochs) for batch in loader for row in batch["row_ids"].tolist())


QUANTILES = ("datamodule.weight_by=z", "datamodule.quantile_weights=[1,3]")


def test_epochs_follow_a_column_of_the_corpus(folder: Path) -> None:
    made = data(folder, *QUANTILES)
    counts = drawn(made, 4)
    assert sum(counts.values()) == 240
    assert sum(count for row, count in counts.items() if row >= 30) == 180
    assert made.groups is not None
    assert np.bincount(made.groups.of_row).tolist() == [30, 30]
    assert sum(drawn(data(folder, "datamodule.weight_by=z")).values()) == 60, "the values themselves as weights"


def test_epochs_follow_a_score_of_the_pairs_that_the_filter_keeps(folder: Path) -> None:
    chosen = ("datamodule.weight_by=letters", "datamodule.quantile_weights=[0,1]", "filter.max_chars=3")
    made = data(folder, *chosen)  # "s 0" to "s 9": all have the same share of letters, so one range has them all
    assert set(drawn(made)) == set(range(10))


def test_a_column_that_does_not_exist_is_refused_before_pairs_are_split(folder: Path) -> None:
    made = composed(folder, "datamodule.weight_by=leters", "datamodule.held_out_seed=99")
    with pytest.raises(
        ConfigError, match=r"datamodule\.weight_by names a column .* but 'leters' is none\. There are: "
    ):
        made.prepare_data()
    held_out = [of.provenance["held_out"] for of in made.storage.repo.manifests("split", unreadable=[])]
    assert not any(isinstance(of, dict) and of["seed"] == 99 for of in held_out)


def test_a_worker_gets_no_array_of_weights(folder: Path) -> None:
    opened = data(folder, *QUANTILES)._prepared_data
    assert opened.groups is not None
    again = pickle.loads(pickle.dumps(opened))
    assert not {"_weights", "groups"} & set(vars(again))
    assert again.groups.of_row.tolist() == opened.groups.of_row.tolist()


def test_sets_whose_texts_leave_training_are_part_of_the_order(folder: Path) -> None:
    held_out = ("datamodule.drop_leaks=false", "datamodule.drop_contaminated=true")
    file = folder / "news.tsv"
    file.write_text("src\ttgt\ns 3\tt 3\n")
    opened = data(folder, *held_out, f"+datamodule.validation_sets.news={file}")._prepared_data
    assert list(opened.batch_identity(SequentialPlanner(batch_size=8))["kept_apart"]) == ["news"]


def test_groups_keep_their_shares_and_pairs_their_weights_within(folder: Path) -> None:
    shares = ("datamodule.group_by=domain", "datamodule.group_weights={a: 1, b: 3}")
    counts = drawn(data(folder, *QUANTILES, *shares))
    assert sum(count for row, count in counts.items() if row % 2 == 0) == 15
    assert sum(count for row, count in counts.items() if row % 2 == 1) == 45
    high = sum(count for row, count in counts.items() if row % 2 == 1 and row >= 30)
    assert abs(high - 45 * 3 / 4) <= 1


def test_a_run_resumes_within_an_epoch_and_not_with_other_weights(folder: Path) -> None:
    whole = [
        batch["row_ids"].tolist() for batch in data(folder, *QUANTILES, "sampler.max_tokens=64").train_dataloader()
    ]
    begun = data(folder, *QUANTILES, "sampler.max_tokens=64")
    batches = iter(begun.train_dataloader())
    first = [next(batches)["row_ids"].tolist() for _ in range(2)]
    resumed = data(folder, *QUANTILES, "sampler.max_tokens=64")
    resumed.load_state_dict(begun.state_dict())
    rest = [batch["row_ids"].tolist() for batch in resumed.train_dataloader()]
    assert first + rest == whole
    other = data(folder, QUANTILES[0], "datamodule.quantile_weights=[1,2]", "sampler.max_tokens=64")
    with pytest.raises(ConfigError, match=r"quantile_weights"):
        other.load_state_dict(begun.state_dict())


def test_weights_do_not_go_with_fixed_shapes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs the same pairs in every epoch, but datamodule\.weight_by"):
        data(folder, *QUANTILES, "sampler=static_shapes")
