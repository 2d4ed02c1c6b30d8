"""Answers of the Hub that are not JSON, or lack fields: one line with the address, what was expected, and what came."""

import gzip
import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import huggingface_hub
import pytest

from mtx.errors import SourceError, TokenizerError
from mtx.infra.dataset.hub import client_check, pinned_dataset
from mtx.infra.dataset.hub.client_check import limit_answer
from mtx.infra.dataset.hub.model_files import repository_folder
from mtx.infra.dataset.hub.pinned_dataset import open_splits, pinned_commit
from mtx.infra.dataset.hub.retry import RetryPolicy

httpx: Any = importlib.import_module(type(huggingface_hub.get_session()).__module__.partition(".")[0])  # of the client

ERRORS: list[Callable[[], Exception]] = [
    lambda: json.JSONDecodeError("Expecting value", "<html>", 0),
    lambda: KeyError("id"),
    lambda: TypeError("string indices must be integers, not 'str'"),
    lambda: AttributeError("'list' object has no attribute 'pop'"),
    lambda: ValueError("'soon' is no date"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


@pytest.mark.parametrize("make", ERRORS)
def test_the_answer_about_a_commit_is_checked(make: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> Any:
        raise make()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", answer)
    with pytest.raises(SourceError) as error:
        pinned_commit("invented/pairs", None, RetryPolicy(patience_s=0))
    check_message(str(error.value), make())


@pytest.mark.parametrize("make", ERRORS[:4])
def test_the_answer_about_files_is_checked(make: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any) -> Any:
        raise make()

    monkeypatch.setattr(pinned_dataset, "_hub_response", answer)
    with pytest.raises(SourceError) as error:
        open_splits("invented/pairs", None, "0" * 40, RetryPolicy(patience_s=0))
    check_message(str(error.value), make())


@pytest.mark.parametrize("make", ERRORS)
def test_the_answer_about_a_tokenizer_is_checked(
    make: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> Any:
        raise make()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
    with pytest.raises(TokenizerError, match="must answer with JSON that describes the repository invented/words, but"):
        repository_folder("invented/words", None, ["tokenizer.json"], ["tokenizer.json"])


@pytest.mark.parametrize("commit", [None, "", "main", "../../etc", 5])
def test_a_commit_of_a_tokenizer_that_is_none_is_told(commit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = type("Info", (), {"sha": commit})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: info)
    with pytest.raises(TokenizerError, match=r"must answer with JSON .* its commit is "):
        repository_folder("invented/words", None, ["tokenizer.json"], ["tokenizer.json"])


@pytest.mark.parametrize("name", [None, "", 5, ["a"]])
def test_a_name_that_is_none_is_told(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    info = type("Info", (), {"id": name, "sha": "0" * 40})
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    with pytest.raises(SourceError, match="the answer has no name of the dataset, but "):
        pinned_commit("invented/pairs", None, RetryPolicy(patience_s=0))


def check_message(told: str, error: Exception) -> None:
    assert told.startswith("the Hub at http")
    assert "must answer with JSON that describes the dataset invented/pairs" in told
    assert type(error).__name__ in told
    assert "downloader=local" in told
    assert "\n" not in told


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_cut_off(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_check, "MAX_ANSWER_BYTES", 1 << 20)
    content = b" " * (3 << 20)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(content) if packed else content
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for start in range(0, len(body), 1 << 16):
            sent += 1
            yield body[start : start + (1 << 16)]

    def answer(request: Any) -> Any:
        return httpx.Response(200, headers=headers, content=parts())

    with httpx.Client(transport=httpx.MockTransport(answer), event_hooks={"response": [limit_answer]}) as client:
        with pytest.raises(ValueError, match="the answer is longer than 1 MB"):
            client.get("https://hub.invalid/api/datasets/a/b")
        assert sent <= 17
        assert client.get("https://hub.invalid/datasets/a/b/resolve/main/file").content == content


def test_an_answer_within_the_bound_is_read() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"id": "a/b"}))
    with httpx.Client(transport=transport, event_hooks={"response": [limit_answer]}) as client:
        assert client.get("https://hub.invalid/api/datasets/a/b").json() == {"id": "a/b"}
