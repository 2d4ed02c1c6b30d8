"""What a trained model says: which sentences, how they are scored, and how they look on a terminal."""

import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warm_process
from command_line import Mtx
from rich.cells import cell_len
from rich.console import Console

import mtx
from mtx.errors import ConfigError
from mtx.experiment import bleu_tokenizers
from mtx.experiment import translations as module
from mtx.experiment.bleu_tokenizers import bleu_assumption, bleu_tokenizer
from mtx.experiment.fit import fit
from mtx.experiment.run_context import Run
from mtx.experiment.translations import (
    Translation,
    evenly_spaced_rows,
    labelled_text,
    print_translations,
    score_samples,
    translate_held_out,
    translation_scores,
    translation_statistics,
)

SMALL = ["downloader.n=600", "tokenizer.vocab_size=400", "datamodule.validation=30", "datamodule.test=null"]


class Parrot(torch.nn.Module):
    """Says the source's ids again, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int, int]] = []

    def translate(self, batch: dict[str, torch.Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        self.asked.append((*batch["encoder_input_ids"].shape, max_tokens))
        self.beam = beam
        masks = batch["encoder_attn_mask"]
        return [ids[mask][:-1].tolist() for ids, mask in zip(batch["encoder_input_ids"], masks, strict=True)]


@pytest.fixture(scope="module")
def data() -> Any:
    made = mtx.compose_datamodule(SMALL)
    made.prepare_data()
    made.setup("fit")
    return made


class FakeRun:
    def __init__(self, datamodule: Any, width: int = 80) -> None:
        self.datamodule = datamodule
        self.out = io.StringIO()
        self.console = Console(file=self.out, width=width)


def of(datamodule: Any, model: Any, **options: int) -> tuple[dict[str, Any], str]:
    run = FakeRun(datamodule)
    defaults = {"shown": 2, "scored": 5, "beam": 1}
    found, statistics = score_samples(run, model, torch.device("cpu"), **{**defaults, **options})  # type: ignore[arg-type]
    assert (statistics is None) == (found.scores is None)
    return found.model_dump(mode="json", exclude_unset=True), run.out.getvalue()


def test_a_sample_is_spread_evenly_and_in_order() -> None:
    rows = np.array([9, 3, 1, 0, 2, 8, 7, 6, 5, 4])
    assert evenly_spaced_rows(rows, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced_rows(rows, 1).tolist() == [0]
    assert evenly_spaced_rows(rows, 99).tolist() == list(range(10))
    assert evenly_spaced_rows(rows, 0).tolist() == []


def test_each_output_stands_beside_its_own_source_and_reference(data: Any) -> None:
    model = Parrot()
    found = translate_held_out(data, model, num_sentences=7, beam=3)
    pairs = data.storage.repo.get(data.ids.filtered["validation"]).data
    num_served = sum(len(batch["row_ids"]) for batch in data.val_dataloader())
    assert [t.row for t in found] == np.linspace(0, num_served - 1, 7).round().astype(int).tolist()
    assert [(t.source, t.reference) for t in found] == [(pairs[t.row]["src"], pairs[t.row]["tgt"]) for t in found]
    assert [t.output for t in found] == [t.source for t in found]
    assert model.beam == 3


def test_sentences_come_in_bounded_batches_of_like_length(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SENTENCES_PER_BATCH", 4)
    model = Parrot()
    translate_held_out(data, model, num_sentences=10, beam=1)
    assert [num for num, _, _ in model.asked] == [4, 4, 2]
    widths = [width for _, width, _ in model.asked]
    assert widths == sorted(widths)
    assert [limit for _, _, limit in model.asked] == [width * 3 // 2 + 10 for width in widths]


def test_the_report_has_what_was_shown_and_the_scores(data: Any) -> None:
    report, out = of(data, Parrot(), beam=2)
    assert out.startswith("translations of held-out sentences, beam size 2:\nsource     ")
    assert out.count("reference  ") == len(report["translations"]) == 2
    assert report["beam"] == 2
    assert report["scores"]["num_sentences"] == 5
    assert "tok:char" in report["scores"]["bleu_signature"]  # Japanese, without a dictionary
    assert json.loads(json.dumps(report)) == report


def test_nothing_is_shown_where_nothing_is_asked_for(data: Any) -> None:
    assert of(data, Parrot(), shown=0, scored=0) == ({}, "")
    assert of(data, torch.nn.Linear(1, 1)) == ({}, "")
    assert of(object(), Parrot()) == ({}, "")
    report, out = of(data, Parrot(), shown=0)
    assert (report["translations"], out) == ([], "")
    report, _ = of(data, Parrot(), scored=0)
    assert report["scores"] is None
    without = mtx.compose_datamodule([*SMALL, "datamodule.validation=null"])
    without.prepare_data()
    without.setup("fit")
    assert of(without, Parrot()) == ({}, "")


def test_without_sacrebleu_a_line_says_what_to_install(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    report, out = of(data, Parrot(), shown=0)
    assert report["scores"] is None
    assert out == 'BLEU and chrF need sacrebleu. Install it: pip install "mtx[scores]"\n'


def test_scores_are_those_of_sacrebleu_with_its_signatures() -> None:
    same = [Translation(row=0, source="", reference="the cat sat on the mat", output="the cat sat on the mat")]
    statistics = translation_statistics(same, "en")
    assert statistics is not None
    found = translation_scores(statistics)
    assert (found.bleu, found.chrf, found.num_sentences) == (100.0, 100.0, 1)
    assert "tok:13a" in str(found.bleu_signature)
    assert "nc:6" in str(found.chrf_signature)
    dogs = [Translation(row=0, source="", reference="the cat sat on the mat", output="dogs")]
    other = translation_statistics(dogs, "en")
    assert other is not None
    assert translation_scores(other).bleu == 0.0


@pytest.mark.parametrize(
    ("language", "expected"),
    [("de", "13a"), ("ja", "char"), ("jpn_Jpan", "char"), ("zh-TW", "zh"), ("ko", "char"), ("TH", "char"), ("", "13a")],
)
def test_bleu_counts_words_as_the_language_writes_them(
    language: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: None)
    assert bleu_tokenizer(language) == expected


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("de", None),
        ("pt-BR", None),
        ("ja", "counts characters as words .* the dictionary for 'ja' .* pip install 'sacrebleu\\[ja\\]'"),
        ("zh-TW", "tokenizer zh, because the target language is 'zh-TW'"),
        (
            "th",
            "counts characters as words .* known for 'th'. .* flores200: type pip install sentencepiece",
        ),
        ("tgt", "tokenizer 13a.* 'tgt' is no known code of a language.* set downloader.target_language=NAME"),
        ("Deutsch", "'Deutsch' is no known code"),
        ("xx", "'xx' is no known code.* set downloader.target_language=NAME"),
        ("", "'' is no known code"),
        ("und", "'und' is no known code"),
        ("mul", "'mul' is no known code"),
        ("sr-Latn", None),
        ("ckb", None),
        ("dz", "counts characters as words .* known for 'dz'"),
        ("lzh", "tokenizer zh"),
        ("yue_Hant", "tokenizer zh"),
        ("kor_Hang", "dictionary for 'kor_Hang'.* 'sacrebleu\\[ko\\]'"),
    ],
)
def test_what_bleu_assumes_about_words_is_told_where_it_matters(
    language: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: None)
    found = bleu_assumption(language)
    assert found is None if told is None else re.search(told, found or "")


def test_japanese_is_cut_into_words_where_its_dictionary_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: object())
    assert bleu_tokenizer("ja") == "ja-mecab"
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: object() if name == "MeCab" else None)
    assert bleu_tokenizer("ja") == "char"


def test_pieces_of_flores_are_used_if_their_model_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bleu_tokenizers, "find_spec", lambda name: object() if name == "sentencepiece" else None)
    monkeypatch.setenv("SACREBLEU", str(tmp_path))
    assert bleu_tokenizer("th") == "char"
    model = tmp_path / "models" / "flores200sacrebleuspm"
    assert f"copy its model, which sacrebleu downloads, to {model}" in str(bleu_assumption("lo"))
    with pytest.raises(ConfigError, match=r"task\.bleu_tokenizer=flores200 cannot be used: copy its model"):
        bleu_tokenizers.check_bleu_tokenizer("flores200")
    with pytest.raises(ConfigError, match=r"ja-mecab cannot be used: type pip install 'sacrebleu\[ja\]'\. Or set"):
        bleu_tokenizers.check_bleu_tokenizer("ja-mecab")
    model.parent.mkdir()
    model.touch()
    assert bleu_tokenizer("th") == "flores200"
    assert "flores200, because the target language is 'km'" in str(bleu_assumption("km"))
    bleu_tokenizers.check_bleu_tokenizer("flores200")
    bleu_tokenizers.check_bleu_tokenizer("intl")


def test_wide_characters_are_wrapped_by_the_room_they_take() -> None:
    lines = labelled_text("output", "神の言葉" * 30, Console(width=80)).split("\n")
    assert len(lines) == 4
    assert all(cell_len(line) <= 80 for line in lines)
    assert all(line.startswith(" " * 11) for line in lines[1:])
    assert "".join(line[11:] for line in lines) == "神の言葉" * 30


def test_a_line_from_right_to_left_is_isolated_from_its_label() -> None:
    lines = labelled_text("source", "שלום עולם " * 20, Console(width=80)).split("\n")
    assert len(lines) > 1
    assert all(line[11] == "\u2068" and line[-1] == "\u2069" for line in lines)
    assert "\u2068" not in labelled_text("source", "hello", Console(width=80))


def test_texts_cannot_control_the_terminal() -> None:
    assert labelled_text("output", "a\x1b[31mb\u202ec\u2066d\te\nf", Console(width=80)) == "output     a�[31mb�c�d e f"
    out = io.StringIO()
    print_translations(
        [Translation(row=1, source="[bold]x[/bold]", reference="", output="y")], Console(file=out, width=80)
    )
    assert out.getvalue() == "source     [bold]x[/bold]\nreference  \noutput     y\n\n"


def test_a_beam_below_one_is_refused_before_any_work(tmp_path: Path) -> None:
    from mtx.errors import ConfigError

    with pytest.raises(ConfigError, match=r"task.beam is an integer of at least 1, but is 0"):
        fit(Run({}, output_dir=tmp_path), beam=0)


DYING = """
import os, signal
from mtx.training.reference.transformer import TransformerTranslator

class Dying(TransformerTranslator):
    def on_train_batch_start(self, batch, batch_idx):
        if os.environ.get("DIE_AT") == str(self.global_step):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_run_that_is_repeated_ends_in_the_same_numbers(
    tmp_path: Path, mtx: Mtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dying.py").write_text(DYING)

    def command(name: str, *more: str) -> list[str]:
        small = ["+model.d_model=16", "+model.num_heads=2", "+model.dim_feedforward=16", "+model.dropout=0.1"]
        steps = ["trainer=cpu", "trainer.max_steps=24", "trainer.val_check_interval=8", "sampler.max_tokens=512"]
        options = ["task=fit", "task.scored_sentences=5", "model._target_=dying.Dying", *SMALL, *small, *steps, *more]
        return [*options, f"hydra.run.dir=outputs/day/{name}"]

    killed = warm_process.run("-m", "mtx", *command("killed"), env={**os.environ, "DIE_AT": "13"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for ended in (mtx(*command("again", "ckpt=last")), mtx(*command("whole"))):
        assert ended.code == 0, ended.err
    outputs = tmp_path / "outputs" / "day"
    again, whole = (json.loads((outputs / name / "report.json").read_text()) for name in ("again", "whole"))
    same = ("bits_per_byte", "train_loss", "train_loss_first", "num_target_tokens", "scores", "ended_by")
    assert {name: again[name] for name in same} == {name: whole[name] for name in same}
    for report in (again, whole):
        assert all(look.pop("seconds") >= 0 for look in report["validations"])
        report["spent"].pop("seconds")
    assert (again["validations"], again["spent"]) == (whole["validations"], whole["spent"])
    assert again["translations"] == whole["translations"]
    weights = [torch.load(outputs / name / "checkpoints" / "last.ckpt")["state_dict"] for name in ("again", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
