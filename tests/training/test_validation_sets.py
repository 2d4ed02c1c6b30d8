"""Several validation sets by name: files and downloaders, unfiltered, each served, and none of them trained on."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import sacrebleu
import torch
from rank_runs import QUIET, Counted, datamodule
from rich.console import Console
from torch import Tensor

from mtx import compose_datamodule
from mtx.components.check_and_build import check_config
from mtx.data.validation_sets import validation_downloaders
from mtx.errors import ConfigError, DataError, EmptyDatasetError, MalformedPairError, SourceError
from mtx.experiment.named_set_scores import score_named_sets
from mtx.experiment.translations import translate_held_out
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.records.report_record import Report
from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator
from mtx.training.training_record import TrainingProgress

SMALL = {"d_model": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8}
TAKEN = ("source_vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id", "joint_vocabulary")
NEWS = [("train 3", "drei"), ("", "leer"), ("news", "Neues " * 30), ("news", "Neues " * 30)]


def news(folder: Path, pairs: list[tuple[str, str]] = NEWS, *, name: str = "news.tsv") -> Path:
    path = folder / name
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [("src", "tgt"), *pairs]))
    return path


def ready(root: Path, **options: Any) -> TranslationDataModule:
    made = datamodule(root / "store", **options)
    made.prepare_data()
    made.setup("fit")
    return made


def rows(loader: Any) -> list[int]:
    return sorted(row for batch in loader for row in batch["row_ids"].tolist())


def sources(made: TranslationDataModule, dataset_id: str) -> list[str]:
    return [row["src"] for row in made.storage.repo.get(dataset_id).rows]


class Looker(pl.LightningModule):
    """Notes the rows of each validation set."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        return self.weight * batch["labels"].float().mean()

    def validation_step(self, batch: dict[str, Tensor], index: int, dataloader_idx: int = 0) -> None:
        self.seen.setdefault(dataloader_idx, []).extend(batch["row_ids"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def test_a_trainer_looks_at_every_set_once(tmp_path: Path) -> None:
    made = datamodule(
        tmp_path / "store", validation=7, validation_sets={"news": news(tmp_path), "more": Counted(n=5, mark="m")}
    )
    model = Looker()
    pl.Trainer(**{**QUIET, "max_epochs": 1}).fit(model, made)
    assert made.val_names == ["validation", "news", "more"]
    assert {index: sorted(seen) for index, seen in model.seen.items()} == {
        0: list(range(7)),
        1: list(range(4)),
        2: list(range(5)),
    }


def test_the_reference_model_logs_each_set_and_the_first_as_before(tmp_path: Path) -> None:
    sets = {"news": news(tmp_path), "more": Counted(n=5, mark="m")}

    def logged(**options: Any) -> dict[str, float]:
        made = ready(tmp_path, **{"validation": 7, **options})
        torch.manual_seed(0)
        model = TransformerTranslator(**SMALL, **{k: v for k, v in made.facts().items() if k in TAKEN})
        (found, *others) = pl.Trainer(**QUIET).validate(model, made, verbose=False)
        for other in others:
            found |= other
        return {name: float(value) for name, value in found.items()}

    several, one = logged(validation_sets=sets), logged()
    alone = {name: logged(validation=0, validation_sets={name: sets[name]}) for name in sets}
    assert set(one) == {"val/loss", "val/bits_per_byte"}
    for metric in ("loss", "bits_per_byte"):
        assert several[f"val/{metric}"] == several[f"val/validation/{metric}"] == pytest.approx(one[f"val/{metric}"])
        for name in sets:
            assert several[f"val/{name}/{metric}"] == pytest.approx(alone[name][f"val/{metric}"])
    assert len(several) == 8


class Parrot(torch.nn.Module):
    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        return [row[:-1].tolist() for row in batch["encoder_input_ids"]]


def test_sentences_to_show_are_of_the_first_set(tmp_path: Path) -> None:
    made = ready(tmp_path, validation_sets={"news": news(tmp_path)})
    found = translate_held_out(made, Parrot(), num_sentences=2, beam=1)
    assert [(each.source, each.reference) for each in found] == [NEWS[0], NEWS[3]]


def test_named_sets_are_scored_each_on_its_own_sentences(tmp_path: Path) -> None:
    made = ready(tmp_path, validation=7, validation_sets={"news": news(tmp_path)})
    console = Console(file=io.StringIO(), width=100)
    run: Any = SimpleNamespace(datamodule=made, console=console)
    progress = TrainingProgress()
    progress.add_validation(0, {"val/bits_per_byte": 5.0, "val/news/bits_per_byte": 3.0})
    found = score_named_sets(run, Parrot(), torch.device("cpu"), progress, Report(), scored=9, beam=1)
    assert list(found) == ["news"]
    assert found["news"].num_pairs == len(NEWS)
    assert found["news"].bits_per_byte == 3.0
    outputs, references = [pair[0] for pair in NEWS], [pair[1].strip() for pair in NEWS]
    assert found["news"].chrf == pytest.approx(sacrebleu.corpus_chrf(outputs, [references]).score, abs=1e-4)
    assert set(found["news"].signatures) == {"bleu", "chrf", "chrf_plus_plus", "ter"}
    assert score_named_sets(run, Parrot(), torch.device("cpu"), progress, Report(), scored=0, beam=1) == {}


def test_one_set_alone_is_one_loader(tmp_path: Path) -> None:
    held_out = ready(tmp_path, validation=7)
    assert (held_out.val_names, rows(held_out.val_dataloader())) == (["validation"], list(range(7)))
    named = ready(tmp_path, validation_sets={"news": news(tmp_path)})
    assert (named.val_names, rows(named.val_dataloader())) == (["news"], list(range(4)))
    none = ready(tmp_path)
    assert (none.val_names, none.val_dataloader()) == ([], [])


def test_a_set_is_stored_as_it_is_and_known_by_its_name(tmp_path: Path) -> None:
    made = ready(tmp_path, validation_sets={"news": news(tmp_path)}, eval_max_bytes=40)
    assert made.ids is not None
    raw = made.storage.repo.get(made.ids.beside_raw["news"])
    assert (raw.stage, raw.split) == ("raw", "validation")
    assert [(row["src"], row["tgt"]) for row in raw.rows] == NEWS
    counts = made.split_counts("news")
    assert (counts["num_pairs"], counts["dropped_length"], counts["truncated"]) == (4, 2, 0)
    assert made.lengths("news").target.tolist() == [5, 5, 180, 180]
    loader = made.val_dataloader()
    assert rows(loader) == [0, 1]
    assert made.num_target_bytes(torch.tensor([1, 0]), "news").tolist() == [4, 4]
    again = ready(tmp_path, validation_sets={"news": news(tmp_path)}, eval_max_bytes=40)
    assert again.ids is not None
    assert again.ids.built == []


def test_no_source_of_a_set_is_trained_on(tmp_path: Path) -> None:
    made = ready(tmp_path, n=10, validation_sets={"news": news(tmp_path)})
    assert made.ids is not None
    trained = sources(made, made.ids.filtered["train"])
    assert trained == [f"train {i}" for i in range(10) if i != 3]
    assert made.storage.repo.manifest(made.ids.filtered["train"]).metrics["dropped"] == {"in_held_out": 1}


def test_sets_change_nothing_about_the_training_set_where_leaks_are_kept(tmp_path: Path) -> None:
    without = ready(tmp_path, n=10, drop_leaks=False)
    made = ready(tmp_path, n=10, drop_leaks=False, validation_sets={"news": news(tmp_path)})
    assert made.ids is not None
    assert without.ids is not None
    assert made.ids.encoded == without.ids.encoded


def test_a_set_makes_no_other_of_the_sources_own_splits(tmp_path: Path) -> None:
    without = ready(tmp_path, n=10, validation=4)
    made = ready(tmp_path, n=10, validation=4, validation_sets={"news": news(tmp_path)})
    assert made.ids is not None
    assert without.ids is not None
    assert made.ids.filtered["validation"] == without.ids.filtered["validation"]
    assert made.ids.filtered["train"] != without.ids.filtered["train"]


def test_a_checkpoint_is_refused_with_the_set_that_was_added(tmp_path: Path) -> None:
    before = ready(tmp_path, n=10)
    before.train_dataloader()
    state = before.state_dict()
    made = ready(tmp_path, n=10, validation_sets={"news": news(tmp_path)})
    with pytest.raises(ConfigError, match=r"kept_apart.news was None and is 'raw-validation-"):
        made.load_state_dict(state)


@pytest.mark.parametrize(
    "override",
    [
        ["+datamodule.validation_sets.news={path}"],
        ["+datamodule.validation_sets.news.path={path}", "+datamodule.validation_sets.news.n=3"],
        ["datamodule.validation_sets={{news: {path}}}"],
        [
            "+datamodule.validation_sets.news._target_=mtx.infra.dataset.sources.local.LocalDownloader",
            "+datamodule.validation_sets.news.path={path}",
        ],
    ],
)
def test_sets_are_named_on_the_command_line(tmp_path: Path, override: list[str]) -> None:
    path = str(news(tmp_path))
    made = compose_datamodule([text.format(path=path) for text in override])
    found = made.recipe.validation_sets["news"]
    assert isinstance(found, LocalDownloader)
    assert found.path == path


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ({"train": "a.tsv"}, r"must not be train or validation or test or predict, but one is 'train'"),
        (
            {"../up": "a.tsv"},
            r"must start with a letter and contain only letters, digits, _ and -.*but one is '\.\./up'",
        ),
        (
            {"": "a.tsv"},
            r"but one is ''\. Choose another name, for example \+datamodule\.validation_sets\.newstest=FILE",
        ),
        ({"val/x": "a.tsv"}, r"but one is 'val/x'"),
        (
            {"news": 3},
            r"datamodule\.validation_sets\.news must be a file, options of downloader=local, or a downloader",
        ),
        (
            {"news": {"pat": "a"}},
            r"datamodule\.validation_sets\.news\.pat is not an option of downloader=local\. Options: path, ",
        ),
        ({"news": {}}, r"'news': set either datamodule\.validation_sets\.news\.path=FILE, or both"),
        (["a.tsv"], r"datamodule\.validation_sets is a file, or settings, for each name.*but is \['a\.tsv'\]"),
    ],
)
def test_sets_that_make_no_sense_are_refused_at_once(sets: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        validation_downloaders(sets)


def test_a_set_that_is_no_mapping_is_refused_with_its_key() -> None:
    from mtx.app.command import compose

    with pytest.raises(ConfigError, match=r"datamodule\.validation_sets is a mapping, or null, but is 'a\.tsv'"):
        check_config(compose(["datamodule.validation_sets=a.tsv"]))


def test_errors_of_a_sets_source_name_the_set_and_its_keys(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the validation set 'news': there is no file .*sets\.news\.path=FILE"):
        ready(tmp_path, validation_sets={"news": tmp_path / "gone.tsv"})
    bad = tmp_path / "bad.tsv"
    bad.write_bytes(b"src\ttgt\nfine\tfein\n\xff\xfe\tx\n")
    with pytest.raises(MalformedPairError, match=r"'news': .*line 3.*sets\.news\.on_error=skip"):
        ready(tmp_path, validation_sets={"news": bad})


def test_a_set_of_the_other_direction_is_refused(tmp_path: Path) -> None:
    path = news(tmp_path, [("eins", "one")])
    sides = {"path": path, "source_column": "tgt", "target_column": "src"}
    turned = {**sides, "source_language": "de", "target_language": "en"}
    with pytest.raises(ConfigError, match=r"languages are de to en, but those of counted are en to de\. Swap"):
        ready(tmp_path, validation_sets={"news": turned})


def test_a_set_without_pairs_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"'none': counted has no pair\. Name another with"):
        ready(tmp_path, validation_sets={"none": Counted(n=0)})


def test_an_unknown_name_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    made = ready(tmp_path, validation_sets={"news": news(tmp_path)})
    with pytest.raises(DataError, match=r"there is no olds split; there are: train, news"):
        made.lengths("olds")
