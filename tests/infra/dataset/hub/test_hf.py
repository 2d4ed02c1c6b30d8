"""HFDatasetDownloader with the real client, against a stand-in Hub on 127.0.0.1."""

import json
import pickle
from typing import Any

import pytest
from hub_asking import COMMIT, Session, numbered

from mtx.errors import ConfigError
from mtx.infra.dataset.download import HFDatasetDownloader

# What comes out


def test_it_holds_the_contract_of_all_downloaders(hub: Session) -> None:
    asked = {"dataset": "mtx/jsonl", "language": "de-en"}
    assert hub.result(check=asked) == {"train": 300, "validation": 20, "test": 10}


def test_translation_column_streams_pairs_in_the_repositorys_order_over_all_files(hub: Session) -> None:
    answer = hub.result(rows={"dataset": "mtx/jsonl", "language": "de-en"}, split="train")
    assert answer["rows"] == numbered("de", "en", numbers=range(300))
    assert answer["sizes"] == [300]  # one batch, though three files


def test_plain_columns_of_a_single_unnamed_configuration(hub: Session) -> None:
    assert hub.rows("mtx/columns") == [[f"s {i}", f"t {i}"] for i in range(7)]
    assert hub.info("mtx/columns")["languages"] == ["src", "tgt"]


def test_columns_by_name_whatever_they_are_called(hub: Session) -> None:
    assert hub.rows("mtx/columns", source_column="target", target_column="source", n=1) == [["t 0", "s 0"]]


def test_a_dataset_without_a_description_is_described_by_its_first_row(hub: Session) -> None:
    assert hub.rows("mtx/array") == [["a", "b"], ["c", "d"]]


def test_the_source_language_is_the_first_of_the_configurations_name(hub: Session) -> None:
    assert hub.info("mtx/parquet", "fr-en")["languages"] == ["fr", "en"]  # though the column has en first
    assert hub.rows("mtx/parquet", "fr-en", n=2) == numbered("fr", "en", numbers=range(2))


def test_the_source_language_is_the_one_that_is_given(hub: Session) -> None:
    assert hub.rows("mtx/jsonl", "de-en", source_language="en", n=2) == numbered("en", "de", numbers=range(2))


def test_two_languages_of_three_are_chosen_by_name(hub: Session) -> None:
    options = {"source_language": "nl", "target_language": "de"}
    assert hub.rows("mtx/parquet", "de-en", **options) == numbered("nl", "de", numbers=range(10))


def test_n_takes_the_first_rows_of_the_training_split_only(hub: Session) -> None:
    assert hub.rows("mtx/jsonl", "de-en", n=150) == numbered("de", "en", numbers=range(150))
    assert len(hub.rows("mtx/jsonl", "de-en", split="validation", n=3)) == 20


def test_shuffle_takes_other_rows_by_seed_and_the_same_again(hub: Session) -> None:
    first, again, other = (
        hub.rows("mtx/jsonl", "de-en", shuffle=True, buffer_size=1000, seed=seed, n=50) for seed in (0, 0, 1)
    )
    assert first == again
    assert sorted(first) != sorted(other)
    assert len({source for source, _ in first}) == 50
    assert {tuple(row) for row in first} < {tuple(row) for row in numbered("de", "en", numbers=range(300))}


def test_held_out_splits_are_never_shuffled(hub: Session) -> None:
    rows = hub.rows("mtx/jsonl", "de-en", split="test", shuffle=True)
    assert rows == numbered("de", "en", numbers=range(2000, 2010))


def test_splits_are_found_under_their_usual_names_or_named_or_left_out(hub: Session) -> None:
    assert hub.info("mtx/jsonl", "de-en")["splits"] == ["train", "validation", "test"]
    assert hub.info("mtx/jsonl", "de-en", test_split=None)["splits"] == ["train", "validation"]
    assert hub.info("mtx/parquet", "de-en")["splits"] == ["train", "validation"]  # it is called dev
    assert hub.info("mtx/jsonl", "de-en", split="validation")["splits"] == ["train", "test"]
    rows = hub.rows("mtx/jsonl", "de-en", split="validation", validation_split="test")
    assert rows == numbered("de", "en", numbers=range(2000, 2010))


def test_rows_without_text_are_counted_under_skip(hub: Session) -> None:
    answer = hub.result(rows={"dataset": "mtx/oddities", "language": "nulls", "on_error": "skip"}, split="train")
    assert answer["rows"] == [["a", "b"], ["e", "f"]]
    assert answer["counts"] == {"missing_text": 1}


# What it is


def test_the_commit_is_pinned_and_only_it_is_read(hub: Session) -> None:
    info = hub.info("mtx/jsonl", "de-en", revision="main")
    assert info["revision"] == info["identity"]["commit"] == COMMIT
    answer = hub.result(rows={"dataset": "mtx/jsonl", "language": "de-en"}, split="train")
    assert [path for path in answer["paths"] if "/resolve/" in path and COMMIT not in path] == []


def test_identity_holds_what_decides_the_rows_and_no_branch(hub: Session) -> None:
    plain = hub.info("mtx/jsonl", "de-en")
    assert hub.info("mtx/jsonl", "de-en", revision="main", verify=False, seed=9)["identity"] == plain["identity"]
    shuffled = [hub.info("mtx/jsonl", "de-en", shuffle=True, seed=seed)["identity"] for seed in (0, 9)]
    assert shuffled[0] != shuffled[1]
    assert shuffled[0]["datasets"]  # the library's version: it decides which rows a buffer lets out
    for option in ({"n": 5}, {"source_language": "en"}, {"split": "test"}, {"on_error": "skip"}):
        assert hub.info("mtx/jsonl", "de-en", **option)["identity"] != plain["identity"], option
    assert "main" not in json.dumps(plain["identity"])


def test_it_is_named_by_dataset_and_configuration(hub: Session) -> None:
    assert hub.info("mtx/jsonl", "de-en")["name"] == "mtx/jsonl/de-en"


def test_it_pickles() -> None:
    downloader = HFDatasetDownloader(dataset="mtx/jsonl", language="de-en", n=5)
    assert pickle.loads(pickle.dumps(downloader)) == downloader


# What may go wrong


def test_a_hub_that_cannot_be_reached_is_said_with_its_address(hub: Session) -> None:
    message = hub.error("mtx/jsonl", constants={"ENDPOINT": "http://127.0.0.1:9"}, patience_s=0.3)
    assert "the Hugging Face Hub cannot be reached at http://127.0.0.1:9 for the dataset mtx/jsonl" in message
    assert "after 0.3 s of retries" in message
    assert "downloader.patience_s=SECONDS" in message
    assert "downloader=local" in message


def test_offline_mode_is_said(hub: Session) -> None:
    message = hub.error("mtx/jsonl", constants={"HF_HUB_OFFLINE": True})
    assert "offline mode is on: HF_HUB_OFFLINE" in message


@pytest.mark.parametrize("match", ["/api/datasets/mtx/jsonl", "/revision/", "/tree/"])
@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"reset": True}])
def test_opening_is_tried_again(hub: Session, match: str, fault: dict[str, Any]) -> None:
    hub.fault(match=match, times=2, **fault)
    assert hub.rows("mtx/jsonl", "de-en", n=1) == [["de 0", "en 0"]]


def test_a_hub_that_keeps_failing_is_given_up(hub: Session) -> None:
    hub.fault(match="/api/", status=503, times=99)
    assert "the server answers with status 503" in hub.error("mtx/jsonl", "de-en")


def test_a_refusal_is_not_asked_again(hub: Session) -> None:
    hub.fault(match="/api/", status=401, times=1)
    assert "the dataset mtx/jsonl cannot be opened: the server answers with status 401" in hub.error(
        "mtx/jsonl", "de-en"
    )


def test_a_missing_dataset(hub: Session) -> None:
    message = hub.error("mtx/none", "de-en")
    assert "the dataset mtx/none does not exist on http://127.0.0.1:" in message
    assert "downloader.dataset=NAME" in message


def test_a_gated_dataset(hub: Session) -> None:
    hub.fault(match="/api/", status=403, code="GatedRepo")
    assert "`hf auth login`" in hub.error("mtx/jsonl", "de-en")


def test_a_name_that_is_no_dataset(hub: Session) -> None:
    assert "'two words' is not a valid name of a dataset" in hub.error("two words")


def test_a_folder_of_that_name_is_not_read_in_its_place(hub: Session) -> None:
    assert "downloader.dataset=taken is also a local folder" in hub.error("taken")


def test_an_unknown_revision(hub: Session) -> None:
    message = hub.error("mtx/jsonl", "de-en", revision="v9")
    assert "no revision 'v9'" in message
    assert "downloader.revision=NAME" in message


def test_an_unknown_configuration_lists_those_there_are_closest_first(hub: Session) -> None:
    message = hub.error("mtx/parquet", "fr-ent")
    assert "none is called 'fr-ent'; present: fr-en, de-en. Choose one with downloader.language=NAME" in message


def test_a_configuration_has_to_be_named_where_there_are_several(hub: Session) -> None:
    assert "downloader.language is not set; present: de-en, fr-en" in hub.error("mtx/parquet")


def test_a_repository_without_data(hub: Session) -> None:
    assert "the dataset mtx/nothing cannot be opened: datasets reports EmptyDatasetError" in hub.error("mtx/nothing")


def test_code_of_a_repository_is_never_run(hub: Session) -> None:
    message = hub.error("mtx/script")
    assert "the dataset mtx/script cannot be opened: Python reports RuntimeError. mtx reads only datasets" in message
    assert "without code from the repository" in message


def test_a_card_that_is_no_yaml(hub: Session) -> None:
    assert "the dataset mtx/broken-card cannot be opened: the error is at line 1, column 14" in hub.error(
        "mtx/broken-card"
    )


def test_files_that_cannot_be_read_together(hub: Session) -> None:
    assert "the dataset mtx/mixed cannot be opened: Python reports ValueError" in hub.error("mtx/mixed")


def test_a_split_without_rows(hub: Session) -> None:
    answer = hub.ask(rows={"dataset": "mtx/blank", "verify": False}, split="test")
    assert answer["message"] == "the split 'test' of the dataset mtx/blank has no rows. Choose another split"


@pytest.mark.parametrize(("key", "options"), [("split", {"split": "tests"}), ("test_split", {"test_split": "tests"})])
def test_an_unknown_split_lists_those_there_are(hub: Session, key: str, options: dict[str, str]) -> None:
    message = hub.error("mtx/jsonl", "de-en", **options)
    assert (
        f"no split 'tests'; present: test, train, validation. Choose one of these splits with downloader.{key}="
        in message
    )


def test_asking_for_a_split_it_has_not(hub: Session) -> None:
    answer = hub.ask(rows={"dataset": "mtx/parquet", "language": "fr-en"}, split="validation")
    assert answer["message"] == "mtx/parquet has no validation split; present: train"


def test_missing_columns_list_those_there_are(hub: Session) -> None:
    assert "no two text columns were found; present: text, label." in hub.error("mtx/oddities", "names")
    message = hub.error("mtx/oddities", "names", source_column="txt", target_column="label")
    assert "there is no column 'txt'; present: text, label" in message


def test_a_wrong_language_key_lists_those_there_are(hub: Session) -> None:
    message = hub.error("mtx/parquet", "de-en", source_language="en", target_language="fr")
    assert "'translation' has no language 'fr'; present: de, en, nl" in message
    assert "downloader.target_language=NAME" in message


def test_a_column_that_holds_no_text(hub: Session) -> None:
    message = hub.error("mtx/oddities", "numbers", rows=True)
    assert "the target column must contain text, but has the type int64" in message


def test_a_row_without_text_stops_by_default(hub: Session) -> None:
    message = hub.error("mtx/oddities", "nulls", rows=True)
    assert message.startswith("mtx/oddities, split train, row 2: the source text is null")
    assert "downloader.on_error=skip" in message


def test_an_answer_that_comes_empty_is_asked_for_again(hub: Session) -> None:
    hub.fault(match="train-1", empty=True, times=1)
    assert hub.rows("mtx/jsonl", "de-en") == numbered("de", "en", numbers=range(300))


def test_a_file_that_stays_empty_is_no_silent_loss(hub: Session) -> None:
    for options in ({}, {"verify": False}, {"shuffle": True}):
        hub.fault(match="train-1", empty=True, times=999)
        message = hub.error("mtx/jsonl", "de-en", rows=True, patience_s=0.1, **options)
        assert "failed after 0 rows: only 0 of 6,100 bytes arrived, from byte 0" in message
        assert "retry longer with downloader.patience_s=SECONDS" in message


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "times": 8},
        {"status": 429, "retry_after_s": 1},
        {"reset": True, "times": 12},
        {"short": True, "times": 3},
        {"empty": True, "times": 3},
        {"ignore_range": True},
        {"stall_s": 0.5},
    ],
    ids=lambda fault: next(iter(fault)),
)
@pytest.mark.parametrize(
    ("dataset", "language", "match"), [("jsonl", "de-en", "train-1"), ("parquet", "fr-en", "train")]
)
def test_failures_within_the_patience_lose_and_repeat_nothing(
    hub: Session, fault: dict[str, Any], dataset: str, language: str, match: str
) -> None:
    hub.fault(match=f"{match}.", **fault)
    expected = numbered(*language.split("-"), numbers=range(300 if dataset == "jsonl" else 120))
    assert hub.rows(f"mtx/{dataset}", language, patience_s=10) == expected


def test_after_a_failure_only_the_range_that_failed_is_asked_again(hub: Session) -> None:
    whole = hub.result(rows={"dataset": "mtx/jsonl", "language": "de-en"}, split="train")
    hub.fault(match="train-2", short=True)
    again = hub.result(rows={"dataset": "mtx/jsonl", "language": "de-en"}, split="train")
    asked = [
        [path for path in answer["paths"] if f"train-{file}" in path] for file in (0, 1) for answer in (whole, again)
    ]
    assert asked[0] == asked[1]
    assert asked[2] == asked[3]


def test_a_changed_byte_is_found_by_the_repositorys_digest(hub: Session) -> None:
    hub.fault(match="train-2", corrupt=True)
    message = hub.error("mtx/jsonl", "de-en", rows=True)
    assert "the download of the file de-en/train-2.jsonl of the dataset mtx/jsonl is damaged" in message


def test_a_hub_that_asks_who_one_is_half_way(hub: Session) -> None:
    hub.fault(match="train-2", status=401, times=99)
    message = hub.error("mtx/jsonl", "de-en", rows=True)
    assert "run `hf auth login`, or set HF_TOKEN" in message


def test_texts_that_look_like_numbers_and_null_stay_as_they_are(hub: Session) -> None:
    assert hub.rows("mtx/dates", "text", source_column="src", target_column="tgt") == [
        [text, "t"] for text in ("x", "y", "1.50", "null")
    ]


@pytest.mark.parametrize(("config", "kind"), [("dates", "timestamp"), ("numbers", "int64")])
def test_a_later_file_that_is_read_as_another_type_is_refused(hub: Session, config: str, kind: str) -> None:
    message = hub.error("mtx/dates", config, rows=True, source_column="src", target_column="tgt")
    assert "has text in the column 'src', but `datasets` reads a later part as " + kind in message


@pytest.mark.parametrize("config", ["b", "e"])
def test_a_file_of_dates_or_of_mixed_values_is_refused(hub: Session, config: str) -> None:
    hub.error("mtx/dates", config, rows=True, source_column="src", target_column="tgt")


def test_a_renamed_dataset_is_read(hub: Session) -> None:
    assert hub.rows("mtx/old-name", "de-en", n=2) == numbered("de", "en", numbers=range(2))


def test_a_card_that_is_out_of_date_can_be_passed_over(hub: Session) -> None:
    message = hub.error("mtx/miscounted", "de-en", rows=True)
    assert "the split 'train' of the dataset mtx/miscounted has 301 rows by its card, but 300 were read" in message
    assert "downloader.verify=false" in message
    assert len(hub.rows("mtx/miscounted", "de-en", verify=False)) == 300
    assert len(hub.rows("mtx/miscounted", "de-en", n=300)) == 300


def test_a_file_that_goes_missing_half_way(hub: Session) -> None:
    hub.fault(match="train-2", status=404, times=99)
    message = hub.error("mtx/jsonl", "de-en", rows=True)
    assert "failed after 0 rows: the server answers with status 404" in message
    assert "The repository was changed, renamed or removed" in message


@pytest.mark.parametrize("key", ["n", "buffer_size"])
def test_counts_are_at_least_one(key: str) -> None:
    with pytest.raises(ConfigError, match=f"downloader.{key} is an integer of at least 1(, or null)?, but is 0"):
        HFDatasetDownloader(dataset="mtx/jsonl", **{key: 0})


def test_on_error_lists_its_choices() -> None:
    with pytest.raises(ConfigError, match=r"downloader.on_error is one of raise, skip, but is 'rise'"):
        HFDatasetDownloader(dataset="mtx/jsonl", on_error="rise")  # type: ignore[arg-type]


def test_patience_is_no_negative_time() -> None:
    with pytest.raises(ConfigError, match=r"downloader.patience_s is a number of at least 0, but is -1"):
        HFDatasetDownloader(dataset="mtx/jsonl", patience_s=-1)


def test_columns_beside_the_texts_come_along_where_they_are_wanted(hub: Session) -> None:
    assert hub.rows("mtx/columns", columns="all", n=2) == [["s 0", "t 0", 0], ["s 1", "t 1", 1]]
    assert hub.rows("mtx/columns", columns={"score": "float"}, n=1) == [["s 0", "t 0", 0.0]]
    assert hub.rows("mtx/columns", columns=[], n=1) == [["s 0", "t 0"]]
    found = hub.error("mtx/columns", columns=["scores"])
    assert "the dataset mtx/columns: there is no column 'scores' besides the two texts; present: score" in found
