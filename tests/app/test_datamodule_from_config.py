"""mtx's groups in the config of another Hydra application: by the search path, at the root and under a key."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import mtx
from mtx.app.command import compose as compose_mtx
from mtx.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
SMALL = ["downloader.n=40", "tokenizer=byte", "datamodule.validation=5", "datamodule.too_long=truncate"]
OWN: dict[str, Any] = {  # an own `config.yaml`, beside the one of mtx, with a group `model` of its own
    "hydra": {"searchpath": ["pkg://mtx.conf"]},
    "defaults": ["translation_data", {"model": "mine"}, "_self_"],
    "seed": 7,
}
UNDER_A_KEY = {**OWN, "defaults": ["translation_data@data", *OWN["defaults"][1:]], "data": {"seed": "${seed}"}}


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/mine.yaml").write_text("hidden: 8\n")
    return tmp_path / "conf"


def composed(folder: Path, config: dict[str, Any], overrides: list[str]) -> DictConfig:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", overrides=overrides)


def under_data(overrides: list[str]) -> Iterator[str]:
    for text in overrides:
        key, value = text.lstrip("+").split("=", 1)
        plus, group = "+" * text.startswith("+"), key.partition("@")
        if group[1]:
            yield f"{plus}{group[0]}@data.{group[2]}={value}"
        else:
            yield f"data.{key}={value}" if "." in key else f"{key}@data.{key}={value}"


def served(datamodule: Any) -> list[list[list[int]]]:
    datamodule.prepare_data()
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    epochs = [[batch["row_ids"].tolist() for batch in loader] for _ in range(2)]
    assert [len(epoch) for epoch in epochs] == [len(loader)] * 2
    assert {sum(map(len, epoch)) for epoch in epochs} == {len(loader.dataset)}
    return epochs


def test_the_groups_give_what_mtx_itself_serves(application: Path) -> None:
    small = [*SMALL, "sampler.max_tokens=512"]
    at_root = composed(application, OWN, small)
    assert (at_root.model.hidden, at_root.seed) == (8, 7)  # its own group and its own config.yaml
    under_key = composed(application, UNDER_A_KEY, list(under_data(small)))
    expected = served(mtx.compose_datamodule([*small, "seed=7"]))
    assert expected[0] != expected[1]
    for cfg in (at_root, under_key.data, OmegaConf.to_container(at_root, resolve=True)):
        assert served(mtx.datamodule_from_config(cfg)) == expected


def test_the_scorers_are_looked_for_beside_the_filter(application: Path) -> None:
    scored = ["filter=selection", "+score@score.rules=rules"]
    assert composed(application, OWN, scored).filter.rules.letters.min == 0.3
    under_key = composed(application, UNDER_A_KEY, list(under_data(scored)))
    assert under_key.data.filter.rules.letters.min == 0.3


def test_the_seed_of_an_ablation_is_that_of_the_data(application: Path) -> None:
    without = {key: value for key, value in UNDER_A_KEY.items() if key not in ("seed", "data")}
    chosen = ["filter@data.filter=selection", "filter@data.filter.before=selection", "data.seed=5"]
    data = composed(application, without, [*chosen, "+filter@data.datamodule.held_out_filter=selection"]).data
    filters = (data.filter, data.filter.before, data.datamodule.held_out_filter)
    assert [each.ablation_seed for each in filters] == [5, 5, 5]


def test_without_a_scorer_its_rules_are_off(application: Path) -> None:
    cfg = composed(application, UNDER_A_KEY, ["filter@data.filter=selection", "+score=[rules]"])
    assert "rules" in cfg.score  # of the application, not of the data
    assert cfg.data.filter.rules.letters.min is not None  # there is no group beside the filter, but one above
    assert composed(application, OWN, ["filter=selection"]).filter.rules.letters.min is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": None}, "lacks seed; present: "),
        ({"sampler": None, "storage": None}, "lacks storage, sampler; present: "),
        (
            {"filter": {"kind": "own"}},
            "filter is an option of mtx's group, with the key _target_, but is {'kind': 'own'}",
        ),
        ({"tokenizer": "bpe"}, "use `translation_data@data` and give cfg.data"),
        ({"sampler": {"_target_": "os.system"}}, "sampler"),
        ({"datamodule": {"_target_": "mtx.training.datamodule.TranslationDataModule", "no_key": 1}}, "no_key"),
        ({"seed": "${nothing}"}, "refers to a key that the config does not have"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(change: dict[str, Any], told: str) -> None:
    config = {**compose_mtx(SMALL), **change}
    with pytest.raises(ConfigError) as raised:
        mtx.datamodule_from_config({key: value for key, value in config.items() if value is not None})
    assert told in str(raised.value)


def test_the_file_lists_the_groups_of_mtx_with_the_same_options() -> None:
    lists = [yaml.safe_load((CONF / name).read_text())["defaults"] for name in ("translation_data.yaml", "config.yaml")]
    groups = [{key: value for each in some if isinstance(each, dict) for key, value in each.items()} for some in lists]
    assert groups[0].items() <= groups[1].items()


def test_threads_compose_at_the_same_time() -> None:
    found: list[Any] = []

    def work(number: int) -> None:
        try:
            found.append(compose_mtx([f"seed={number}", "sampler=random"])["seed"])
        except Exception as error:
            found.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=str) == [0, 1, 2, 3]
