"""`task=evaluate`: which pairs a checkpoint is evaluated on, and that the figures are those of the libraries."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sacrebleu
from command_line import Mtx
from tiny_checkpoint import shared

from mtx.components.identity import identity
from mtx.data.evaluation_texts import evaluation_texts
from mtx.data.normalise import DefaultNormaliser
from mtx.data.score.near_duplicates import NearDuplicatesScorer
from mtx.data.split import HeldOut
from mtx.data.stage_runner import StageRunner
from mtx.errors import ConfigError
from mtx.evaluation.translation_metrics import METRIC_NAMES, paired_differences, system_scores
from mtx.experiment.evaluate import _of_set, _untagged, _write_lines, check_prefixes
from mtx.experiment.translation_files import single_line
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.training.checkpoint_likelihood import target_nats
from mtx.training.checkpoint_translator import load_translator

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")

OUTPUTS = ["the cat sat on the mat", "a dog", "", "green ideas sleep"]
REFERENCES = ["the cat is on the mat", "a big dog", "nothing", "green ideas sleep furiously"]
PAIRS = [("one", "eins"), ("two three", "zwei drei"), ("four", "vier")]


@pytest.fixture(scope="module")
def made() -> tuple[Path, Any, Any]:
    return shared()


def test_scores_are_those_of_sacrebleu() -> None:
    found = system_scores(OUTPUTS, REFERENCES, tokenizer="13a")
    by_library = {
        "bleu": sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES]),
        "chrf": sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES]),
        "chrf_plus_plus": sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES], word_order=2),
        "ter": sacrebleu.corpus_ter(OUTPUTS, [REFERENCES]),
    }
    assert tuple(found.scores) == METRIC_NAMES
    assert found.scores == {name: pytest.approx(score.score) for name, score in by_library.items()}
    assert "tok:13a" in found.signatures["bleu"]
    assert "nw:2" in found.signatures["chrf_plus_plus"]
    chinese = system_scores(["我 们"], ["我们"], tokenizer="zh")
    assert "asian:yes" in chinese.signatures["ter"]


def test_equal_systems_do_not_differ_and_a_better_one_does() -> None:
    ours = system_scores(REFERENCES * 10, REFERENCES * 10, tokenizer="13a")
    theirs = system_scores(OUTPUTS * 10, REFERENCES * 10, tokenizer="13a")
    same = paired_differences(ours, ours, tokenizer="13a", rng=np.random.default_rng(0))
    assert all((each.estimate, each.low, each.high) == (0, 0, 0) for each in same.values())
    better = paired_differences(ours, theirs, tokenizer="13a", rng=np.random.default_rng(0))
    assert all(better[name].low > 0 for name in ("bleu", "chrf", "chrf_plus_plus"))
    assert better["ter"].high < 0
    assert better["bleu"].estimate == pytest.approx(ours.scores["bleu"] - theirs.scores["bleu"])


def test_the_corpus_of_the_training_gives_its_held_out_pairs(made: tuple[Path, Any, Any]) -> None:
    path, _, dm = made
    corpus = load_translator(path).state.corpus
    runner = StageRunner(dm.storage)
    found = evaluation_texts(dm.recipe, runner, trained_on=[corpus])
    assert list(found) == ["validation"]
    assert found["validation"].is_of_training
    assert found["validation"].sources == [f"validation {i}" for i in range(6)]
    other = evaluation_texts(
        replace(dm.recipe, downloader=replace(dm.recipe.downloader, mark="x")), runner, trained_on=[]
    )
    assert [text.split for text in other.values()] == ["validation"]
    whole = replace(dm.recipe, downloader=replace(dm.recipe.downloader, validation=0, mark="y"))
    assert [len(text.sources) for text in evaluation_texts(whole, runner, trained_on=[]).values()] == [20]
    with pytest.raises(ConfigError, match=r"task.split=test does not exist in this source, which has train. Set "):
        evaluation_texts(whole, runner, trained_on=[], split="test")


def test_other_held_out_pairs_of_the_training_corpus_are_refused(made: tuple[Path, Any, Any]) -> None:
    path, _, dm = made
    recipe = replace(dm.recipe, held_out=HeldOut(validation=3, test=None, seed=1, by=None))
    told = r"training pairs would be evaluated. Type .*: datamodule.validation=null datamodule.held_out_seed=0"
    with pytest.raises(ConfigError, match=told):
        evaluation_texts(recipe, StageRunner(dm.storage), trained_on=[load_translator(path).state.corpus])


def test_pairs_of_a_training_are_refused(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path, _, dm = made
    corpus, runner = load_translator(path).state.corpus, StageRunner(dm.storage)
    fewer = replace(dm.recipe, downloader=replace(dm.recipe.downloader, validation=0))
    revision = fewer.downloader.info().revision
    part = {**corpus, "downloader": {"sources": {"a": "1", "b": revision}, "options": {"a": {}, "b": {}}, "caps": {}}}
    with pytest.raises(ConfigError, match=r"contains pairs on which a checkpoint was trained. Type the downloader opt"):
        evaluation_texts(fewer, runner, trained_on=[{}, part])
    for name in ("a", "b"):
        (tmp_path / f"{name}.en-de.tsv").write_text(f"en\tde\n{name}\tx\n")
    files = [str(tmp_path / f"{name}.en-de.tsv") for name in ("a", "b")]
    both = replace(dm.recipe, downloader=LocalDownloader(path=files))
    one = replace(dm.recipe, downloader=LocalDownloader(path=files[1]))
    info = both.downloader.info()
    trained = {"downloader": {"revision": info.revision, "source": dict(info.identity)}}
    with pytest.raises(ConfigError, match="contains pairs on which a checkpoint was trained"):
        evaluation_texts(one, runner, trained_on=[trained])
    with pytest.raises(ConfigError, match="contains pairs on which a checkpoint was trained"):
        evaluation_texts(replace(both, downloader=LocalDownloader(path=files, n=1)), runner, trained_on=[trained])


def test_the_normaliser_and_the_clusters_of_the_training_hold_out_its_pairs(made: tuple[Path, Any, Any]) -> None:
    dm = made[2]
    held_out = HeldOut(validation=3, test=None, seed=0, by="cluster")
    scorers = {"mine": NearDuplicatesScorer(min_jaccard=0.5)}
    counted = replace(dm.recipe.downloader, validation=0, mark="clusters")
    recipe, runner = replace(dm.recipe, downloader=counted, held_out=held_out, scorers=scorers), StageRunner(dm.storage)
    info = counted.info()
    trained = {
        "downloader": {"revision": info.revision, "source": dict(info.identity)},
        "held_out": held_out.described(),
        "normalise": identity(recipe.normalise),
        "score": {"other": {"kind": "score/ratios"}, "mine": identity(scorers["mine"])},
    }
    (found,) = evaluation_texts(recipe, runner, trained_on=[trained]).values()
    assert found.is_of_training
    with pytest.raises(ConfigError, match=r"other clusters of datamodule.split_by=cluster.*Type the score=near_dup"):
        evaluation_texts(replace(recipe, scorers={}), runner, trained_on=[trained])
    other = replace(recipe, normalise=DefaultNormaliser(form="NFKC"))
    with pytest.raises(ConfigError, match=r"was trained with another normalise, so training pairs"):
        evaluation_texts(other, runner, trained_on=[trained])


@pytest.mark.parametrize(("size", "is_safe"), [(3, False), (0.2, True)])
def test_pairs_that_a_baseline_was_trained_on_are_refused(
    made: tuple[Path, Any, Any], size: float, is_safe: bool
) -> None:
    dm = made[2]
    source = replace(dm.recipe.downloader, validation=0, mark="baseline")
    held_out, info = HeldOut(validation=size, test=None, seed=0, by=None), source.info()
    recipe = replace(dm.recipe, downloader=source, held_out=held_out)
    settings = {"held_out": held_out.described(), "normalise": identity(recipe.normalise)}
    ours = {"downloader": {"revision": info.revision, "source": dict(info.identity)}, **settings}
    theirs = {"downloader": {"revision": info.revision, "source": {**info.identity, "n": 5}}, **settings}
    with nullcontext() if is_safe else pytest.raises(ConfigError, match="contains pairs on which a checkpoint was tr"):
        assert list(evaluation_texts(recipe, StageRunner(dm.storage), trained_on=[ours, theirs])) == ["validation"]
    theirs["normalise"] = {"kind": "normalise/none"}
    with pytest.raises(ConfigError, match="contains pairs on which a checkpoint was trained"):
        evaluation_texts(recipe, StageRunner(dm.storage), trained_on=[ours, theirs])


def test_each_set_has_a_name_and_a_file_of_its_own(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    run: Any = SimpleNamespace(output_dir=tmp_path)
    for name in ("a/b", "a_b", "a%2Fb"):
        _write_lines(run, "translations", name, [name])
    assert {path.read_text() for path in (tmp_path / "translations").iterdir()} == {"a/b\n", "a_b\n", "a%2Fb\n"}
    dm = made[2]
    other = replace(dm.recipe.downloader, mark="name")
    recipe = replace(dm.recipe, downloader=other, validation_sets={other.info().name: dm.recipe.downloader})
    with pytest.raises(
        ConfigError, match=r"two evaluation sets are named \S+. Rename that of datamodule.validation_sets"
    ):
        evaluation_texts(recipe, StageRunner(dm.storage), trained_on=[])


def test_the_command_scores_named_sets_and_a_baseline(
    made: tuple[Path, Any, Any], mtx: Mtx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "en\tde\n" + "".join(f"{source}\t{target}\n" for source, target in PAIRS)
    for name in ("one.en-de.tsv", "news.tsv"):
        Path(name).write_text(text, encoding="utf-8")
    done = mtx(
        *("task=evaluate", f"ckpt={made[0]}", f"task.baseline={made[0]}", "task.beam=1", "hydra.run.dir=run"),
        *("downloader=local", "downloader.path=one.en-de.tsv", "+datamodule.validation_sets.news=news.tsv"),
        f"storage.root={tmp_path / 'store'}",
    )
    assert done.code == 0, done.err
    report = json.loads(Path("run/report.json").read_text())
    assert set(report["evaluation"]) == {"news", "one.en-de"}
    news = report["evaluation"]["news"]
    assert {**news, "signatures": {}} == {**report["evaluation"]["one.en-de"], "signatures": {}}
    assert report["bleu"] == news["bleu"]
    assert news["difference"]["bleu"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}
    translator = load_translator(made[0])
    sides = [translator.encode([pair[side] for pair in PAIRS], ("source", "target")[side]) for side in (0, 1)]
    nats = target_nats(translator, *sides, batch_tokens=4096)
    num_bytes = sum(len(target) for _, target in PAIRS)
    assert nats is not None
    assert report["bits_per_byte"] == pytest.approx(nats.sum() / math.log(2) / num_bytes, abs=1e-4)
    written = ("translations", "baseline_translations", "sources", "references")
    lines, of_baseline, *sides = (Path("run", name, "news.txt").read_bytes().split(b"\n")[:-1] for name in written)
    assert lines == of_baseline
    assert [[line.decode() for line in side] for side in sides] == [[single_line(p[i]) for p in PAIRS] for i in (0, 1)]
    assert [line.decode() for line in lines] == [
        single_line(text) for text in translator.translate([source for source, _ in PAIRS], beam=1)
    ]
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert 'id="evaluation"' in page
    assert news["signatures"]["bleu"] in page
    assert "chrF++" in done.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "task=evaluate needs a checkpoint, but ckpt is null"),
        (["ckpt=CKPT", "downloader.source_language=de", "downloader.target_language=en"], "Swap the sides with"),
        (["ckpt=CKPT", "task.split=half"], "task.split is"),
    ],
)
def test_bad_settings_are_told(
    made: tuple[Path, Any, Any], mtx: Mtx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.de-en.tsv").write_text("de\ten\neins\tone\n")
    typed = [each.replace("CKPT", str(made[0])) for each in arguments]
    source = ("downloader=local", "downloader.path=text.de-en.tsv", f"storage.root={tmp_path / 'store'}")
    done = mtx("task=evaluate", *source, *typed)
    assert done.code == 1
    assert told in done.err


def test_held_out_pairs_with_a_prefix_are_not_given_to_a_baseline_with_another() -> None:
    of_training: Any = {"test": SimpleNamespace(is_of_training=True)}
    other: Any = {"news": SimpleNamespace(is_of_training=False)}
    mine, theirs = (DefaultNormaliser(source_prefix=prefix) for prefix in (">>de<< ", "T5: "))
    check_prefixes(of_training, [mine, mine])
    check_prefixes(other, [mine, theirs])
    with pytest.raises(ConfigError, match=r"'>>de<< ' and 'T5: '.*Leave task\.baseline out"):
        check_prefixes(of_training, [mine, theirs])


def test_sources_for_other_metrics_have_no_tags() -> None:
    text: Any = SimpleNamespace(is_of_training=True, sources=[">>de<< one", ">>de<<", "two >>de<< "])
    for prefix in (">>de<< ", {"en-de": ">>de<< ", "en-fr": ">>"}):
        found = _untagged(text, DefaultNormaliser(source_prefix=prefix))
        assert found == ["one", ">>de<<" if isinstance(prefix, str) else "de<<", "two >>de<< "]
    text.is_of_training = False
    assert _untagged(text, DefaultNormaliser(source_prefix=">>de<< ")) == text.sources


def test_a_set_is_translated_with_its_own_prefix(made: tuple[Path, Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    translator = load_translator(made[0])
    translator.state = replace(translator.state, normalise=DefaultNormaliser(source_prefix={"news": "two "}))
    text: Any = SimpleNamespace(is_of_training=False, languages=("en", "de"))
    assert _of_set(translator, "news", text).normalised(["one"]) == ["two one"]
    held_out: Any = SimpleNamespace(is_of_training=True, languages=("en", "de"))
    assert _of_set(translator, "test", held_out).normalised(["one"]) == ["one"]
    assert not caplog.text
    assert _of_set(translator, "other", text).normalised(["one"]) == ["one"]
    assert "1 of 1 sources have none" in caplog.text
