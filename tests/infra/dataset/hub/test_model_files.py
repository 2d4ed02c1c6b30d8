"""Tokenizers from model repositories of a stand-in Hub, read with the real client."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_hub import BRANCH, COMMIT, Hub, serving
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from mtx.assumption_log import collected_assumptions
from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenization import special_ids
from mtx.errors import TokenizerError
from mtx.infra.dataset.hub.model_files import is_repository_name

NAME = "mtx/words"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    folder = tmp_path / "hub" / NAME
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "b": 9}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}')
    (folder / "weights.bin").write_bytes(b"not asked for")
    with serving(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + constants.HUGGINGFACE_CO_URL_TEMPLATE[len("https://huggingface.co") :]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.chdir(tmp_path)
        yield server


def test_a_name_gives_the_tokenizer_of_one_commit(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtx")
    loaded = PretrainedTokenization(filepath=NAME).load()
    assert loaded.tokenizer.encode("a b").ids == [3, 9]
    assert special_ids(loaded.tokenizer, loaded.special) == (0, 0, 1, 2)
    assert f"tokenizer.revision={COMMIT}" in caplog.text
    files = [path for path in hub.paths if "/resolve/" in path]
    assert files
    assert all(f"/resolve/{COMMIT}/" in path and "weights" not in path for path in files)
    again = PretrainedTokenization(filepath=NAME, revision=BRANCH)
    assert again.identity() == loaded.identity()
    num_asked = len(hub.paths)
    PretrainedTokenization(filepath=NAME, revision=COMMIT).load()
    assert len(hub.paths) == num_asked  # a commit in the cache needs no request


def test_a_commit_of_which_another_program_stored_other_files_is_asked_for(hub: Hub) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download(NAME, revision=COMMIT, allow_patterns=["tokenizer_config.json"], endpoint=hub.url)
    loaded = PretrainedTokenization(filepath=NAME, revision=COMMIT).load()
    assert loaded.tokenizer.encode("a b").ids == [3, 9]


def test_a_commit_of_which_only_the_vocabulary_is_stored_is_asked_for_or_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, hf_hub_download

    hf_hub_download(NAME, "tokenizer.json", revision=COMMIT, endpoint=hub.url)
    with monkeypatch.context() as offline, collected_assumptions() as told:
        offline.setenv("HF_HUB_OFFLINE", "1")
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        assert PretrainedTokenization(filepath=NAME, revision=COMMIT).special.eos == "<EOS>"
    assert len(told) == 1
    assert "has none of the files special_tokens_map.json, tokenizer_config.json, generation_config.json" in told[0]
    assert PretrainedTokenization(filepath=NAME, revision=COMMIT).special.eos == "</s>"
    num_asked = len(hub.paths)
    with collected_assumptions() as told:
        assert PretrainedTokenization(filepath=NAME, revision=COMMIT).special.eos == "</s>"
    assert len(hub.paths) == num_asked  # the cache now has the list of the commit's files
    assert not [each for each in told if "has none of the files" in each]


def test_an_invalid_name_with_a_commit_is_refused(hub: Hub) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer.filepath=a--b is no file, no folder, and no repository"):
        PretrainedTokenization(filepath="a--b", revision=COMMIT).load()


def test_unknown_names_and_revisions_are_refused(hub: Hub) -> None:
    with pytest.raises(TokenizerError, match=r"mtx/none is no file, no folder, and no repository"):
        PretrainedTokenization(filepath="mtx/none").load()
    with pytest.raises(TokenizerError, match="has no revision 'other'"):
        PretrainedTokenization(filepath=NAME, revision="other").load()


def test_offline_an_earlier_download_is_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    PretrainedTokenization(filepath=NAME, revision=BRANCH).load()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert PretrainedTokenization(filepath=NAME, revision=COMMIT).load().tokenizer.get_vocab_size() == 5
    with pytest.raises(TokenizerError, match=r"cannot be asked.*offline mode is on \(HF_HUB_OFFLINE=1\)"):
        PretrainedTokenization(filepath="mtx/other").load()


def test_paths_are_told_from_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "folder").mkdir(parents=True)
    assert [is_repository_name(text) for text in ("owner/name", "t5-small", "owner/folder", "a/b/c", "x.json")] == [
        *(True, True, False, False, False)
    ]
