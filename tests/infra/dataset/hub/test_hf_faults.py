"""Faults in the middle of files, damage, time limits, memory and secrets, with the real client."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hub_asking import Session, numbered, session

ROWS = 250_000
MB = 2**20


@pytest.fixture(scope="module")
def large(process: Session) -> int:
    """A file of 60 MB, read in several ranges; its size in bytes."""
    num_bytes = int(process.result(large=ROWS))
    assert num_bytes > 55 * MB
    return num_bytes


def count(hub: Session, **options: Any) -> dict[str, Any]:
    return dict(hub.result(count={"dataset": "mtx/large", **options}))


@cache
def sources_digest() -> str:
    return hashlib.sha256("".join(f"sentence {number}\n" for number in range(ROWS)).encode()).hexdigest()


@pytest.mark.parametrize("fault", ["status", "drop"])
def test_a_failure_in_the_middle_of_a_file_costs_no_more_than_what_did_not_come(
    hub: Session, large: int, fault: str
) -> None:
    plain = count(hub)
    hub.fault(match="large/resolve", after=3, **{fault: 503 if fault == "status" else True})
    told = count(hub)
    assert (told["num_rows"], told["sha256"]) == (ROWS, sources_digest())
    firsts = [first for first, _ in told["asked"]]
    assert len(firsts) > 4, "one range, so that nothing is in the middle"
    assert 10 * MB < firsts[3] < large - 10 * MB, "the failure was not in the middle"
    assert firsts == sorted(firsts), "nothing before what failed is asked for again"
    assert told["num_bytes"] - plain["num_bytes"] < MB, "only what was under way when it broke is sent twice"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    with session(tmp_path) as fresh:  # whose peak no other test has raised
        assert fresh.result(large=4 * ROWS) > 220 * MB
        first, whole = (count(fresh, n=rows) for rows in (ROWS, 4 * ROWS))
    assert (first["num_rows"], whole["num_rows"]) == (ROWS, 4 * ROWS)
    assert first["grown_mb"] > 10, "nothing was measured"
    assert whole["grown_mb"] < 90, "beyond the peak of the first quarter; the rest of the file has 175"


TIMEOUT = {"HF_HUB_DOWNLOAD_TIMEOUT": 0.2}


def timed(hub: Session, **request: Any) -> dict[str, Any]:
    url = hub.ask(hub="address")["result"]["url"]
    return hub.ask(constants={"ENDPOINT": url, **TIMEOUT}, split="train", **request)


@pytest.mark.parametrize("fault", [{"stall_s": 1.0}, {"half_way_s": 1.0}], ids=["before it", "in its middle"])
def test_a_body_that_stalls_is_asked_for_again(hub: Session, fault: dict[str, float]) -> None:
    hub.fault(match="train-1.", times=2, **fault)
    answer = timed(hub, rows={"dataset": "mtx/jsonl", "language": "de-en"})
    assert answer["result"]["rows"] == numbered("de", "en", numbers=range(300))
    assert sum("train-1" in path for path in answer["result"]["paths"]) >= 3


def test_a_body_that_stalls_for_ever_is_given_up(hub: Session) -> None:
    hub.fault(match="train-1.", times=99, stall_s=0.4)
    answer = timed(hub, rows={"dataset": "mtx/jsonl", "language": "de-en", "patience_s": 0.3})
    assert re.search(r"failed after 0 rows: httpx2? reports ReadTimeout", answer["message"])


@pytest.mark.parametrize("match", ["/api/datasets/mtx/jsonl", "/tree/"])
def test_a_question_that_stalls_is_asked_again(hub: Session, match: str) -> None:
    hub.fault(match=match, stall_s=1.0)
    answer = timed(hub, rows={"dataset": "mtx/jsonl", "language": "de-en", "n": 1})
    assert answer["result"]["rows"] == [["de 0", "en 0"]]
    assert sum(path.startswith("/api/") and match in path for path in answer["result"]["paths"]) >= 2


def test_a_slow_body_is_waited_for_though_it_takes_longer_than_the_limit(hub: Session) -> None:
    hub.fault(match="train-1.", slow_s=1.0)
    answer = timed(hub, rows={"dataset": "mtx/jsonl", "language": "de-en"})
    assert answer["result"]["rows"] == numbered("de", "en", numbers=range(300))
    assert sum("train-1" in path for path in answer["result"]["paths"]) == 1


# Damage


def test_a_changed_byte_of_a_large_file_is_found_by_its_sha256(hub: Session) -> None:
    assert hub.rows("mtx/lfs", "de-en") == numbered("de", "en", numbers=range(300))
    hub.fault(match="train.jsonl", corrupt=True)
    message = hub.error("mtx/lfs", "de-en", rows=True)
    assert (
        "the download of the file lfs/train.jsonl of the dataset mtx/lfs is damaged: the repository states the digest "
        in message
    )
    assert len(message.split("states the digest ")[1].split(",")[0]) == 64


@pytest.mark.parametrize("at", [5, 200])
def test_a_changed_byte_of_a_gz_file_is_found(hub: Session, at: int) -> None:
    assert hub.rows("mtx/gz", "de-en") == numbered("de", "en", numbers=range(300))
    hub.fault(match="train.jsonl.gz", corrupt=True, at=at, times=99)
    message = hub.error("mtx/gz", "de-en", rows=True)
    if at == 5:  # in the time that gzip notes, which it does not look at when it unpacks
        assert "the download of the file train.jsonl.gz of the dataset mtx/gz is damaged" in message


def test_a_changed_byte_of_a_parquet_page_is_found_by_its_checksum(hub: Session) -> None:
    for dataset in ("mtx/pages", "mtx/no-pages"):
        assert hub.rows(dataset, "de-en") == numbered("de", "en", numbers=range(300))
    hub.fault(match="a.parquet", corrupt=True, times=99)
    assert hub.rows("mtx/no-pages", "de-en") != numbered("de", "en", numbers=range(300)), "the byte was not in a text"
    message = hub.error("mtx/pages", "de-en", rows=True)
    assert "reading the dataset mtx/pages failed after 0 rows: " in message
    assert "it ends too early or is damaged" in message


# Texts that are none


def options_of(config: str, **more: Any) -> dict[str, Any]:
    return {"language": config, "source_column": "src", "target_column": "tgt", **more}


def test_a_later_file_of_nulls_has_rows_without_text(hub: Session) -> None:
    message = hub.error("mtx/later", rows=True, **options_of("nulls"))
    assert message.startswith("mtx/later, split train, row 3: the source text is null")
    assert hub.rows("mtx/later", **options_of("nulls", on_error="skip")) == [["x", "t"], ["y", "t"]]


def test_a_later_file_of_numbers_is_refused(hub: Session) -> None:
    message = hub.error("mtx/later", rows=True, **options_of("floats"))
    assert "has text in the column 'src', but `datasets` reads a later part as double" in message


@pytest.mark.parametrize("dataset", ["later", "dates"])
def test_json_with_texts_and_numbers_in_one_file_is_refused_with_its_column(hub: Session, dataset: str) -> None:
    message = hub.error(f"mtx/{dataset}", rows=True, **options_of("mixed" if dataset == "later" else "e"))
    assert "the column 'src' has values of different types" in message
    assert "write its pairs as JSON Lines and read them with downloader=local" in message


# Who may read


def test_a_private_dataset_is_said_to_be_missing_or_private(hub: Session) -> None:
    hub.fault(match="/api/", status=401, code="RepoNotFound")
    message = hub.error("mtx/jsonl", "de-en")
    assert "the dataset mtx/jsonl does not exist on http://127.0.0.1:" in message
    assert "or is private" in message
    assert "`hf auth login`" in message


def test_code_of_a_repository_without_data_did_not_run(hub: Session) -> None:
    message = hub.error("mtx/script-only")
    assert "the dataset mtx/script-only cannot be opened: " in message
    assert hub.ask(hub="address")["result"]["was_run"] is False


def test_a_commit_that_is_another_than_was_asked_for_is_refused(hub: Session) -> None:
    hub.ask(hub="no commit")
    assert "the commit 'no commit', but a commit is the requested one" in hub.error("mtx/jsonl", "de-en")


def test_a_token_is_used_and_written_nowhere(tmp_path: Path) -> None:
    token = "hf_" + "Secret0Token" * 3
    said = tmp_path / "said"
    source = {"dataset": "mtx/jsonl", "language": "de-en"}
    with session(tmp_path, HF_TOKEN=token) as fresh:
        answers = [fresh.ask(prepare=source, store=str(tmp_path / "store")), fresh.ask(hub="address")]
        for fault in ({"match": "/api/", "status": 401}, {"match": "train-1", "status": 403}):
            fresh.fault(**fault, times=9)
            answers.append(fresh.ask(rows=source, split="train"))
    said.write_text(json.dumps(answers))
    assert answers[1]["result"]["tokens"] == 1, "the token was not used, so that nothing was tried"
    assert ["error" in answer for answer in answers] == [False, False, True, True]
    served = tmp_path / "hub"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and served not in path.parents]
    assert len(written) > 10
    assert [path for path in written if token.encode() in path.read_bytes()] == []
