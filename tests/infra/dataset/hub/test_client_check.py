"""What is needed of the client libraries is there, or is missed by name."""

from collections.abc import Iterator
from importlib.metadata import version

import pytest

from mtx.errors import SourceError
from mtx.infra.dataset.hub import client_check
from mtx.infra.dataset.hub.client_check import REQUIRED_PARTS, check_client


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    check_client.cache_clear()
    yield
    check_client.cache_clear()


def test_these_versions_have_all() -> None:
    check_client("datasets", "huggingface_hub")


@pytest.mark.parametrize("needed", REQUIRED_PARTS, ids=lambda needed: f"{needed[1]}.{needed[2]}")
def test_a_part_that_is_gone_is_told_with_the_packages_version(
    monkeypatch: pytest.MonkeyPatch, needed: tuple[str, str, str]
) -> None:
    package, module, path = needed
    gone = (package, module, f"{path}_of_old")
    monkeypatch.setattr(client_check, "REQUIRED_PARTS", (*REQUIRED_PARTS, gone))
    with pytest.raises(SourceError) as caught:
        check_client("datasets", "huggingface_hub")
    message = str(caught.value)
    assert f"{package} {version(package)} has no {module}.{path}_of_old." in message
    assert "pip install 'datasets>=5.2,<6' 'huggingface_hub>=2.4,<3'" in message
    assert "downloader=local" in message


def test_a_module_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_check, "REQUIRED_PARTS", (("datasets", "datasets.packaged_modules.yaml", "Yaml"),))
    with pytest.raises(SourceError, match=r"has no datasets\.packaged_modules\.yaml\.Yaml"):
        check_client("datasets", "huggingface_hub")


def test_the_check_stands_before_files_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtx.infra.dataset.hub.range_retry import set_retry_policy
    from mtx.infra.dataset.hub.retry import RetryPolicy

    monkeypatch.setattr(client_check, "REQUIRED_PARTS", (("datasets", "datasets", "Gone"),))
    with pytest.raises(SourceError, match=r"has no datasets\.Gone"):
        set_retry_policy("mtx/jsonl", "0" * 40, RetryPolicy(1))
