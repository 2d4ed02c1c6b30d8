"""Doing without the Hub: what the store remembers of a source, and when that is used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_asking import COMMIT, Session

JSONL = {"dataset": "mtx/jsonl", "language": "de-en"}
NEWER = "0123abcd" * 5


@pytest.fixture
def hub(hub: Session) -> Iterator[Session]:
    yield hub
    if hub.ask(hub="address")["result"]["is_down"]:
        hub.ask(hub="start")


def prepare(hub: Session, store: Path, source: dict[str, Any] = JSONL, **request: Any) -> dict[str, Any]:
    return hub.ask(prepare=source, store=str(store), **request)


def record_of(store: Path) -> Path:
    (path,) = (store / "sources").glob("*.json")
    return path


def test_a_full_commit_whose_pairs_are_stored_needs_no_answer(hub: Session, tmp_path: Path) -> None:
    pinned = {**JSONL, "revision": COMMIT}
    first = prepare(hub, tmp_path, pinned)["result"]
    assert first["paths"]
    hub.ask(hub="stop")
    second = prepare(hub, tmp_path, pinned)
    assert second["result"] == {**first, "built": [], "paths": []}
    assert second["warnings"] == []


def test_a_full_commit_asks_nothing_though_the_hub_is_there(hub: Session, tmp_path: Path) -> None:
    for _ in range(2):
        told = prepare(hub, tmp_path, {**JSONL, "revision": COMMIT})["result"]
    assert told["paths"] == []


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_branch_goes_on_with_the_commit_last_seen_and_says_so(
    hub: Session, tmp_path: Path, revision: str | None
) -> None:
    source = {**JSONL, "revision": revision}
    first = prepare(hub, tmp_path, source)["result"]
    hub.ask(hub="stop")
    second = prepare(hub, tmp_path, source)
    assert second["result"] == {**first, "built": [], "paths": []}
    seen_at = json.loads(record_of(tmp_path).read_text())["seen_at"]
    (warning,) = second["warnings"]
    assert "the Hugging Face Hub cannot be reached at http://127.0.0.1:" in warning
    assert f"Using revision {COMMIT}, which was the newest on {seen_at[:10]} at {seen_at[11:16]} UTC" in warning


def test_offline_mode_goes_on_with_the_commit_last_seen_and_says_so(hub: Session, tmp_path: Path) -> None:
    first = prepare(hub, tmp_path)["result"]
    url = hub.ask(hub="address")["result"]["url"]
    second = prepare(hub, tmp_path, constants={"ENDPOINT": url, "HF_HUB_OFFLINE": True})
    assert second["result"] == {**first, "built": [], "paths": []}
    (warning,) = second["warnings"]
    assert "offline mode is on: HF_HUB_OFFLINE" in warning
    assert f"Using revision {COMMIT}" in warning


def test_where_nothing_is_remembered_the_hub_is_missed(hub: Session, tmp_path: Path) -> None:
    prepare(hub, tmp_path)
    hub.ask(hub="stop")
    for source in ({**JSONL, "language": None}, {**JSONL, "n": 7}, {**JSONL, "revision": NEWER}):
        answer = prepare(hub, tmp_path, source)
        assert answer["error"] == "UnreachableError", source
        assert "the Hugging Face Hub cannot be reached at" in answer["message"]
        assert answer["warnings"] == []
        (notice,) = answer["notices"]
        assert "mtx tries for up to 0.05 s (downloader.patience_s=0.05), then mtx stops" in notice
        offered = f"Without a network, the store can serve: downloader.language=de-en downloader.revision={COMMIT}"
        assert (offered if source["language"] is None else f"downloader.revision={COMMIT}") in answer["message"]
    assert "The store has recorded no source of this kind" in prepare(hub, tmp_path / "other")["message"]
    assert "cannot be reached" in prepare(hub, tmp_path / "other")["message"]


def test_what_is_remembered_but_not_stored_has_to_be_read(hub: Session, tmp_path: Path) -> None:
    prepare(hub, tmp_path)
    hub.ask(hub="stop")
    (tmp_path / "datasets").rename(tmp_path / "lost")
    answer = prepare(hub, tmp_path)
    assert "the Hugging Face Hub cannot be reached at" in answer["message"]
    hub.ask(hub="start")
    assert prepare(hub, tmp_path)["result"]["built"]


def test_a_branch_that_moved_is_read_anew(hub: Session, tmp_path: Path) -> None:
    first = prepare(hub, tmp_path)["result"]
    hub.ask(hub=NEWER)
    second = prepare(hub, tmp_path)["result"]
    assert not set(first["raw"].values()) & set(second["raw"].values())
    assert {told["revision"] for told in second["provenance"].values()} == {NEWER}
    assert json.loads(record_of(tmp_path).read_text())["revision"] == NEWER


def test_a_branch_that_stayed_costs_one_question(hub: Session, tmp_path: Path) -> None:
    prepare(hub, tmp_path)
    assert prepare(hub, tmp_path)["result"]["paths"] == ["/api/datasets/mtx/jsonl"]


def test_a_mixture_and_validation_sets_go_on_too(hub: Session, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "mixture": {"big": JSONL, "small": {"dataset": "mtx/parquet", "language": "de-en"}},
        "sets": {"news": {"dataset": "mtx/lfs", "language": "de-en"}},
    }
    answer = prepare(hub, tmp_path, {}, **more)
    assert "result" in answer, answer
    first = answer["result"]
    hub.ask(hub="stop")
    second = prepare(hub, tmp_path, {}, **more)
    assert second["result"] == {**first, "built": [], "paths": []}
    assert [name for text in second["warnings"] for name in ("jsonl", "parquet", "lfs") if f"mtx/{name}" in text] == [
        "jsonl",
        "parquet",
        "lfs",
    ]


def changed(**fields: Any) -> Any:
    def change(record: dict[str, Any]) -> str:
        from mtx.infra.dal.manifest_digest import fields_with_digest, json_bytes

        return json_bytes(fields_with_digest({**record, **fields})).decode()

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda record: json.dumps({**record, "revision": NEWER}), "has changed on disk"),
        (lambda _: "{", "is not valid JSON"),
        (changed(revision="main"), "belongs to another source, or has values that no source can have"),
        (changed(splits=["train", "../x"]), "belongs to another source"),
        (changed(languages=7), "has a missing field or a field of the wrong type"),
        (changed(source={}), "belongs to another source"),
        (changed(seen_at="2026-01-01"), "no time zone"),
        (changed(format_version=2), "a newer mtx wrote it"),
    ],
)
def test_a_record_that_does_not_fit_is_never_used(hub: Session, tmp_path: Path, damage: Any, told: str) -> None:
    prepare(hub, tmp_path)
    path = record_of(tmp_path)
    whole = path.read_text()
    path.write_text(damage(json.loads(whole)))
    hub.ask(hub="stop")
    answer = prepare(hub, tmp_path)
    assert answer["error"] == "UnreachableError"
    (warning,) = answer["warnings"]
    assert told.lower() in warning.lower()
    assert "mtx asks the server of the source instead" in warning
    hub.ask(hub="start")
    again = prepare(hub, tmp_path)
    assert again["result"]["built"] == []
    seen, was = json.loads(path.read_text()), json.loads(whole)
    assert (seen["revision"], seen["splits"]) == (was["revision"], was["splits"])


def test_a_record_that_says_other_than_the_hub_is_refused_when_pairs_are_read(hub: Session, tmp_path: Path) -> None:
    prepare(hub, tmp_path)
    path = record_of(tmp_path)
    path.write_text(changed(languages=["nl", "en"])(json.loads(path.read_text())))
    message = prepare(hub, tmp_path)["message"]
    assert "the record of" in message
    assert "nl to en, but the source has" in message
    assert f"Remove {path} and run again" in message


def test_a_store_that_cannot_be_written_to_is_no_error(hub: Session, tmp_path: Path) -> None:
    first = prepare(hub, tmp_path)["result"]
    record_of(tmp_path).unlink()
    (tmp_path / "sources" / "locks").rename(tmp_path / "locks")
    (tmp_path / "sources").rmdir()
    (tmp_path / "sources").write_text("a file in the way")
    answer = prepare(hub, tmp_path)
    assert answer["result"]["raw"] == first["raw"]


def test_a_renamed_dataset_is_warned_of_and_its_new_name_recorded(hub: Session, tmp_path: Path) -> None:
    source = {"dataset": "mtx/old-name", "language": "de-en"}
    answer = prepare(hub, tmp_path, source)
    said = "the dataset mtx/old-name is now called mtx/jsonl. Set downloader.dataset=mtx/jsonl"
    assert answer["warnings"][0] == said
    for told in answer["result"]["provenance"].values():
        assert told["renamed_to"] == "mtx/jsonl"
        assert told["revision"] == COMMIT
        assert told["source"]["dataset"] == "mtx/old-name"
    again = prepare(hub, tmp_path, source)["result"]
    assert (again["built"], again["raw"]) == ([], answer["result"]["raw"])
