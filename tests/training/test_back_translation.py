"""Back-translations of a checkpoint are a part of a mixture, with their checkpoint and search in the manifest."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1]))

import tiny_checkpoint

import mtx
from mtx.data.normalise import DefaultNormaliser
from mtx.errors import ConfigError, SourceError
from mtx.training import checkpoint_translator
from mtx.training.back_translation import BackTranslationDownloader
from mtx.training.checkpoint_translator import load_translator

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")
LINES = ["target 3", "", "e\u0301 日本 \x00", "a" * 100_000, "target 7"]


@pytest.fixture(scope="module")
def ckpt() -> Path:
    return tiny_checkpoint.shared()[0]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("back") / "mono.txt"
    path.write_bytes("\n".join(LINES).encode() + b"\n")
    return path


def options(ckpt: Path, text: Path, **others: Any) -> dict[str, Any]:
    return {"ckpt": str(ckpt), "text": str(text), "beam": 2, **others}


def test_each_line_is_the_target_of_its_translation(ckpt: Path, text: Path) -> None:
    counts: dict[str, int] = {}
    source = BackTranslationDownloader(**options(ckpt, text))
    found = [row for batch in source.batches("train", counts) for row in batch.to_pylist()]
    kept = [line for line in LINES if line and len(line) < 1000]
    expected = load_translator(ckpt).translate(kept, beam=2)
    assert found == [{"src": f"<BT> {said}", "tgt": line} for said, line in zip(expected, kept, strict=True) if said]
    assert counts.pop("empty_translation", 0) == expected.count("")
    assert counts == {"empty_line": 1, "too_long": 1}
    plain = BackTranslationDownloader(**options(ckpt, text, tag=None, n=1))
    assert [row["tgt"] for row in plain.download()] == LINES[: sum(bool(each) for each in expected[:1])]


def test_what_decides_the_pairs_decides_the_id(ckpt: Path, text: Path, tmp_path: Path) -> None:
    info = BackTranslationDownloader(**options(ckpt, text)).info()
    assert info.languages == load_translator(ckpt).languages[::-1]
    assert info.identity["checkpoint"] == {"sha256": hashlib.sha256(ckpt.read_bytes()).hexdigest()}
    assert info.identity["beam"] == 2
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes(ckpt.read_bytes())
    same = BackTranslationDownloader(**options(moved, text, batch_tokens=7, device="cpu")).info()
    assert same.identity == info.identity
    for changed in ({"beam": 1}, {"tag": None}, {"n": 2}, {"length_penalty": 0.5}):
        assert BackTranslationDownloader(**{**options(ckpt, text), **changed}).info().identity != info.identity


def test_back_translations_are_a_part_of_a_mixture(ckpt: Path, text: Path, tmp_path: Path) -> None:
    target, source = load_translator(ckpt).languages
    real = tmp_path / "real.tsv"
    real.write_text("src\ttgt\n" + "".join(f"quelle {n}\tziel {n}\n" for n in range(30)))
    typed = ",".join(
        f"{key}: '{value}'" if isinstance(value, str) else f"{key}: {value}"
        for key, value in options(ckpt, text).items()
    )
    back = f"{{_target_: mtx.training.back_translation.BackTranslationDownloader, {typed}}}"
    own = f"{{path: '{real}', source_language: {source}, target_language: {target}}}"
    data = ["datamodule.validation=4", "datamodule.test=null", "filter=none", "tokenizer=byte"]
    dm = mtx.compose_datamodule(
        ["downloader=mixture", f"+downloader.sources={{real: {own}, back: {back}}}", *data, f"storage.root={tmp_path}"]
    )
    dm.prepare_data()
    repo = dm.storage.repo
    table = repo.show(stage="raw", split="train")
    (row,) = [each for each in table.to_dict("records") if "back-translated" in each["name"]]
    manifest = repo.manifest(row["id"])
    assert manifest.provenance["source"]["beam"] == 2
    assert manifest.provenance["source"]["tag"] == "<BT>"
    assert manifest.provenance["source"]["checkpoint"]["sha256"] == hashlib.sha256(ckpt.read_bytes()).hexdigest()
    dm.setup("fit")
    assert dm.split_counts("train")["num_pairs"] >= 26


def test_bad_input_is_told_with_what_to_type(ckpt: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^downloader\.ckpt must be a checkpoint file.* Set downloader\.ckpt=FILE"):
        BackTranslationDownloader(**options(tmp_path / "none.ckpt", text)).info()
    (tmp_path / "bad.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(SourceError, match=r"bad\.txt, line 2: .*Convert the file to UTF-8"):
        list(BackTranslationDownloader(**options(ckpt, tmp_path / "bad.txt")).download())
    with pytest.raises(SourceError, match="has no split 'test'; there is: train"):
        list(BackTranslationDownloader(**options(ckpt, text)).batches("test", {}))
    (tmp_path / "no.ckpt").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"^downloader\.ckpt=\S+ cannot be read as a checkpoint") as caught:
        BackTranslationDownloader(**options(tmp_path / "no.ckpt", text)).info()
    assert "task=translate" not in str(caught.value), "a damaged file says nothing about own models"


def test_a_text_without_any_translation_is_told_with_the_reasons(ckpt: Path, tmp_path: Path) -> None:
    (tmp_path / "mono.de").write_text("\n\n" + "long " * 300 + "\n")
    with pytest.raises(SourceError, match=r"no line of .* pair: 2 empty_line, 1 too_long\. Train downloader\.ckpt="):
        list(BackTranslationDownloader(**options(ckpt, tmp_path / "mono.de")).batches("train", {}))


def test_a_checkpoint_of_an_own_model_is_sent_to_the_task(ckpt: Path, text: Path, tmp_path: Path) -> None:
    content = torch.load(ckpt, weights_only=True)
    torch.save({**content, "model_kind": "own"}, tmp_path / "own.ckpt")
    told = r"^downloader\.ckpt=\S+ is not of mtx's.*translate with mtx task=translate.*There, type the class"
    with pytest.raises(ConfigError, match=told):
        BackTranslationDownloader(**options(tmp_path / "own.ckpt", text)).info()


def test_a_checkpoint_with_prefixes_of_parts_is_refused(
    ckpt: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_translator(ckpt)
    made.state = replace(made.state, normalise=DefaultNormaliser(source_prefix={"web": ">>de<< "}))
    monkeypatch.setattr(checkpoint_translator, "load_translator", lambda *_, **__: made)
    with pytest.raises(ConfigError, match=r"a prefix for each part \('>>de<< '\), and back-translation cannot choose"):
        BackTranslationDownloader(**options(ckpt, text)).info()


def test_a_checkpoint_that_is_replaced_between_hash_and_loading_is_refused(
    ckpt: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(ckpt.read_bytes())

    def replaced_and_loaded(*_: Any, **__: Any) -> Any:
        (tmp_path / "new").write_bytes(path.read_bytes())
        (tmp_path / "new").replace(path)
        return made

    made = load_translator(ckpt)
    monkeypatch.setattr(checkpoint_translator, "load_translator", replaced_and_loaded)
    with pytest.raises(SourceError, match="was replaced while it was read"):
        BackTranslationDownloader(**options(path, text)).info()
