"""What the shell offers behind a cursor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtx.app.completion import suggestions


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mtx samp", ["sampler.", "sampler="]),
        ("mtx s", ["sampler.", "sampler=", "score=", "seed=", "storage.", "storage=", "sweep.", "sweeper="]),
        ("mtx -m sampler=s", ["sampler=sequential", "sampler=sorted", "sampler=static_shapes"]),
        ("mtx -m sampler=bucket,r", ["sampler=bucket,random", "sampler=bucket,random_tokens"]),
        ("mtx filter=none,", ["filter=none,default", "filter=none,opusfilter", "filter=none,selection"]),
        ("mtx 'score=[rules]' score.rules.se", ["score.rules.seed="]),
        ("mtx score=rules score.", ["score.rules."]),
        ("mtx score.", []),
        ("mtx budget.s", ["budget.seconds=", "budget.source_bytes=", "budget.steps="]),
        ("mtx sampler.max_", ["sampler.max_pairs=", "sampler.max_tokens="]),  # of the default, token_budget
        ("mtx sampler=random sampler.", ["sampler.batch_size=", "sampler.drop_last="]),
        ("mtx experiment=original sampler.num", ["sampler.num_buckets="]),  # bucket, by the experiment
        ("mtx experiment=original sampler=random sampler.num", []),
        ("mtx trainer=cpu trainer.acc", ["trainer.accelerator=", "trainer.accumulate_grad_batches="]),  # with default's
        ("mtx datamodule.drop_leaks=", ["datamodule.drop_leaks=false", "datamodule.drop_leaks=true"]),
        ("mtx +sampler.max_t", ["+sampler.max_tokens="]),
        ("mtx sampler._", ["sampler._target_="]),
        ("mtx launcher.", []),
        ("mtx nothing_like_it", []),
        ("mtx nothing.like.it", []),
        ("mtx --c", []),
    ],
)
def test_a_word_is_completed_by_the_configs(line: str, expected: list[str]) -> None:
    assert suggestions(line) == expected


def test_groups_and_keys_at_the_top_are_offered_for_nothing() -> None:
    offered = suggestions("mtx ")
    assert offered is not None
    assert {"sampler=", "sampler.", "seed=", "budget.", "experiment="} <= set(offered)
    assert "experiment." not in offered
    assert suggestions("mtx") == offered


def test_files_are_offered_where_a_value_is_none_of_ours() -> None:
    Path("corpus.tsv").touch()
    Path("corpora").mkdir()
    Path("corp us.tsv").touch()
    assert suggestions("mtx downloader=local downloader.path=corp") == [
        "downloader.path=corpora/",
        "downloader.path=corpus.tsv",
    ]
    assert suggestions("mtx downloader=local downloader.path=no/such/folder/c") == []


def test_options_of_a_folder_of_ones_own_are_offered() -> None:
    Path("my/sampler").mkdir(parents=True)
    Path("my/sampler/mine.yaml").write_text("_target_: some.Planner\nwidth: 3\nsub: {deep: 1}\n")
    Path("my/sampler/broken.yaml").write_text("a: [")
    assert suggestions("mtx --config-dir my sampler=mi") == ["sampler=mine"]
    assert suggestions("mtx --config-dir my sampler=mine sampler.") == ["sampler.sub.", "sampler.width="]
    assert suggestions("mtx --config-dir my sampler=mine sampler.sub.") == ["sampler.sub.deep="]
    assert suggestions("mtx --config-dir my sampler=broken sampler.") == []
    assert suggestions("mtx --config-dir gone sampler=mi") == []


def test_no_name_reaches_the_shell_that_it_would_run() -> None:
    Path("my/sampler").mkdir(parents=True)
    Path("my/sampler/mi$(touch run).yaml").touch()
    Path("my/sampler/mi`touch run`.yaml").touch()
    assert suggestions("mtx --config-dir my sampler=mi") == []


def test_what_is_hydras_own_is_left_to_hydra() -> None:
    assert suggestions("mtx hydra.j") is None
    assert suggestions("mtx ~sampler") is None


@pytest.mark.parametrize(("shell", "between"), [("bash", " "), ("fish", "\n")])
def test_the_shells_scripts_get_their_answer_without_hydra(shell: str, between: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mtx", "-sc", f"query={shell}"],
        env={**os.environ, "COMP_LINE": "mtx sampler=s"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rstrip("\n").split(between) == ["sampler=sequential", "sampler=sorted", "sampler=static_shapes"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mtx.app.completion" in imported
    assert not imported & {"hydra", "omegaconf", "torch"}


def test_bash_completes_with_hydras_script() -> None:
    script = """
    eval "$(mtx -sc install=bash)"
    COMP_LINE='mtx sampler=so' COMP_POINT=14 COMP_CWORD=1
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.stdout == "sampler=sorted\n", done.stderr
