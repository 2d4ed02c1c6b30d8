"""An experiment that sets keys of its own task can be used with any other task."""

from pathlib import Path

import pytest
import yaml

from mtx.app.grid_check import JobComposer
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.components.check_and_build import check_config
from mtx.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[2] / "conf/experiment").glob("*.yaml"))
WITH_KEYS = [path.stem for path in RECIPES if "task" in yaml.safe_load(path.read_text())]


def test_recipes_can_be_checked_prepared_and_shown() -> None:
    assert {"worth_of_rules", "vocabulary_comparison", "quick_fit"} <= set(WITH_KEYS)
    with hydra_loader() as loader:
        composer = JobComposer(loader, CONFIG_NAME)
        for recipe in WITH_KEYS:
            for task in ("check", "show"):
                config = composer.config([f"experiment={recipe}", f"task={task}"])
                assert config is not None
                assert "scored_sentences" not in config["task"]
                check_config({"task": config["task"]})
            own = composer.config([f"experiment={recipe}"])
            assert own is not None
            assert "scored_sentences" in own["task"], "the task of the experiment keeps its keys"


@pytest.fixture
def composer(tmp_path: Path):  # type: ignore[no-untyped-def]  # a generator of JobComposer
    folder = tmp_path / "experiment"
    folder.mkdir()
    head = "# @package _global_\ndefaults:\n"
    (folder / "mine.yaml").write_text(f"{head}  - override /task: fit\ntask:\n  beam: 4\n")
    (folder / "derived.yaml").write_text(f"{head}  - mine\n  - _self_\ntask:\n  translations: 0\n")
    (folder / "mistyped.yaml").write_text(f"{head}  - override /task: fit\n  - _self_\ntask:\n  beams: 4\n")
    (folder / "wrong.yaml").write_text(f"{head}  - override /task: fit\n  - _self_\ntask:\n  scored_sentences: -1\n")
    (folder / "absent.yaml").write_text(f"{head}  - override /task: fitt\n  - _self_\ntask:\n  beam: 4\n")
    with hydra_loader(str(tmp_path)) as loader:
        yield JobComposer(loader, CONFIG_NAME)


def test_an_experiment_that_builds_on_another_one_can_be_checked(composer: JobComposer) -> None:
    config = composer.config(["experiment=derived", "task=check"])
    assert config is not None
    assert set(config["task"]) == {"_target_"}


def test_a_key_that_the_chosen_task_takes_stays(composer: JobComposer) -> None:
    config = composer.config(["experiment=derived", "task=evaluate"])
    assert config is not None
    assert config["task"]["beam"] == 4
    assert "translations" not in config["task"]


@pytest.mark.parametrize(
    ("recipe", "told"),
    [("mistyped", "task.beams is not a key of fit. Its keys: beam, "), ("wrong", "task.scored_sentences ")],
)
def test_what_the_own_task_does_not_take_is_refused(recipe: str, told: str, composer: JobComposer) -> None:
    config = composer.config([f"experiment={recipe}"])
    assert config is not None
    with pytest.raises(ConfigError, match=told):
        check_config({"task": config["task"]})
    with pytest.raises(ConfigError, match=told):
        composer.config([f"experiment={recipe}", "task=check"])


def test_a_typed_key_that_the_chosen_task_does_not_take_is_refused(composer: JobComposer) -> None:
    config = composer.config(["experiment=derived", "task=check", "task.beam=5"])
    assert config is not None
    assert "translations" not in config["task"], "only the experiment sets it"
    with pytest.raises(ConfigError, match=r"^task.beam is not a key of check_only. "):
        check_config({"task": config["task"]})


def test_an_experiment_whose_task_does_not_exist_is_refused_with_the_tasks(composer: JobComposer) -> None:
    with pytest.raises(ConfigError, match=r"^task has no option 'fitt'.*: fit, .*The experiment 'absent' chooses it$"):
        composer.config(["experiment=absent", "task=check"])
