"""Every recipe of conf/experiment runs, by what a user types and small limits; found by globbing."""

import json
from pathlib import Path

import pytest
import yaml
from command_line import Mtx
from hydra.types import RunMode

from mtx.app.command import compose
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.app.sweep_plan import Sweep, earlier_jobs, planned
from mtx.app.varied_group_overrides import hydra_arguments
from mtx.components.check_and_build import build, check_config
from mtx.infra.dataset.sources.local import LocalDownloader

RECIPES = sorted((Path(__file__).parents[1] / "conf/experiment").glob("*.yaml"))
SMALL = ["downloader.n=300", "datamodule.num_workers=0"]
SMALL_FIT = [
    *("model.d_model=16", "model.dim_feedforward=16", "model.num_encoder_layers=1", "model.num_decoder_layers=1"),
    *("task.scored_sentences=0", "task.translations=0", "task.contrastive_pairs=0"),
]
SHORT = "budget.seconds=0.1"
# What a recipe is held to here, and how many jobs that makes where it is a sweep.
LIMITS = {
    "budget_of_one_minute": [SHORT, "tokenizer=byte"],
    "data_curve": [SHORT, "tokenizer=byte", "filter=none", "datamodule.share=0.5,1", "seed=1"],
    "original": ["tokenizer=byte"],
    "proxy": [SHORT, "tokenizer=byte", "filter=none", "model.learning_rate=0.001,0.005", "seed=1"],
    "quick_fit": ["trainer.max_steps=2", "tokenizer=byte"],
    "quick_look": ["tokenizer.vocab_size=400"],
    "sampler_comparison": ["sampler=random,token_budget", "tokenizer=byte"],
    "vocabulary_comparison": [SHORT, "tokenizer.vocab_size=400", "seed=1,2"],
    "worth_of_rules": [SHORT, "tokenizer=byte", "filter.ablation=all,random_besides_length_z", "seed=1"],
}
NUM_JOBS = {"data_curve": 2, "proxy": 2, "sampler_comparison": 2, "vocabulary_comparison": 2, "worth_of_rules": 2}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(path: Path) -> list[str]:
    """Return what a user types for a small run of a recipe."""
    fits = "override /task: fit" in path.read_text()
    return [f"experiment={path.stem}", *SMALL, *(SMALL_FIT if fits else []), *LIMITS.get(path.stem, [])]


def plan_of(*command: str) -> Sweep:
    """Return the plan of a sweep, as Hydra asks for it."""
    overrides = [argument for argument in hydra_arguments(command) if argument != "-m"]
    with hydra_loader() as loader:
        return planned(overrides, loader.load_configuration(CONFIG_NAME, overrides, RunMode.MULTIRUN), loader)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs(path: Path, mtx: Mtx) -> None:
    result = mtx(*arguments(path))
    assert result.code == 0, result.err
    reports = [json.loads(report.read_text()) for report in Path.cwd().rglob("report.json")]
    assert len(reports) == NUM_JOBS.get(path.stem, 1)
    assert all(report["num_pairs_raw"] == 300 for report in reports)
    assert len(list(Path.cwd().rglob("sweep.json"))) == (path.stem in NUM_JOBS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_that_are_sweeps_are_so_by_themselves(path: Path) -> None:
    hydra = yaml.safe_load(path.read_text()).get("hydra", {})
    assert (hydra.get("mode") == "MULTIRUN") == bool(hydra.get("sweeper", {}).get("params")) == (path.stem in NUM_JOBS)


def test_a_recipe_is_checked_before_its_first_job(mtx: Mtx) -> None:
    result = mtx("experiment=sampler_comparison", *SMALL, "datamodule.too_long=cut")
    assert result.code == 1
    assert "6 of 6 jobs have an invalid config, so no job was started:" in result.err
    assert not Path("multirun").exists()


def arms_of(*command: str) -> list[str]:
    jobs = plan_of("experiment=worth_of_rules", "seed=1", "downloader=sample", *command).jobs
    assert jobs is not None
    return [text.partition("=")[2].replace("'", "") for job in jobs for text in job.overrides if "ablation=" in text]


def test_the_arms_of_worth_of_rules_follow_from_the_rules_that_are_on() -> None:
    off = [f"filter.rules.{name}=null" for name in ("mojibake", "copy", "digits", "markup", "repetition", "length_z")]
    assert arms_of(*off, "+filter.rules.long={column: source_chars, max: 300}") == [
        *("all", "none", "without_letters", "random_besides_letters", "without_long", "random_besides_long"),
    ]
    assert len(arms_of()) == 2 + 2 * 7
    assert arms_of("filter.ablation=all,none") == ["all", "none"]


@pytest.mark.parametrize(
    ("command", "told"),
    [("filter=default", "Choose filter=selection"), ("score=[]", "no rule of filter=selection is on")],
)
def test_worth_of_rules_without_rules_is_refused(command: str, told: str, mtx: Mtx) -> None:
    result = mtx("experiment=worth_of_rules", *SMALL, command)
    assert result.code == 1
    assert told in result.err
    assert "Traceback" not in result.err


def test_a_recipe_is_resumed_by_the_same_command(mtx: Mtx) -> None:
    command = ["experiment=sampler_comparison", "sampler=random,bucket", "task=check"]
    mtx(*command)
    (folder,) = (path.parent.resolve() for path in Path("multirun").glob("*/*/sweep.json"))
    again = plan_of(*command, "sweep.resume=true")
    assert again.jobs is not None
    assert again.folder.resolve() == folder
    assert {job.config_hash for job in again.jobs} == set(earlier_jobs(folder)[0])


def test_a_quick_look_at_a_mixture_takes_the_first_pairs_of_each_source() -> None:
    sources = "downloader.sources={news: news.tsv, web: {path: web.tsv, n: 40}}"
    config = compose(["experiment=quick_look", "downloader=mixture", sources])
    check_config(config)
    assert build(config, "downloader").parts == {
        "news": LocalDownloader(path="news.tsv", n=20_000),
        "web": LocalDownloader(path="web.tsv", n=40),
    }


def test_what_a_recipe_sets_and_an_option_does_not_take_can_be_left_out(mtx: Mtx) -> None:
    command = ["experiment=quick_look", "tokenizer=byte", "task=check"]
    result = mtx(*command)
    assert result.code == 1
    assert "tokenizer.vocab_size is not a key of ByteTokenization. Its keys: filepath, joint, train_on. " in result.err
    assert "If an experiment sets it, remove it with ~tokenizer.vocab_size" in result.err
    assert mtx(*command, "~tokenizer.vocab_size").code == 0


@pytest.mark.parametrize(
    ("command", "num_jobs"),
    [
        (["-m", "sampler=random,bucket,token_budget", "tokenizer.vocab_size=4000,8000,16000"], 9),
        (["-m", "task=fit", "experiment=budget_of_one_minute", "tokenizer=bpe,unigram,byte", "seed=1,2,3"], 9),
    ],
)
def test_sweeps_that_people_type_have_only_valid_jobs(command: list[str], num_jobs: int) -> None:
    sweep = plan_of(*command)
    assert sweep.jobs is not None
    assert len({job.config_hash for job in sweep.jobs}) == num_jobs
