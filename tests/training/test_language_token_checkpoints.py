"""Models with directions and language tokens: what batches begin with, what counts, and what a checkpoint knows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_checkpoint
import torch
from rich.console import Console
from tokenizers import AddedToken

from mtx import compose_datamodule
from mtx.batches.collate_causal import prompt_inputs
from mtx.data.evaluation_texts import evaluation_texts
from mtx.data.normalise import DefaultNormaliser
from mtx.data.stage_runner import StageRunner
from mtx.data.tokenize.byte import byte_tokenizer
from mtx.errors import ConfigError
from mtx.evaluation.beam_search import n_best_search
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.evaluation.likelihood import without_first_labels
from mtx.experiment.contrastive_accuracy import _candidates
from mtx.experiment.evaluate import _of_set, check_languages
from mtx.experiment.held_out_slicings import held_out_slicings
from mtx.experiment.model_export import export_model
from mtx.experiment.named_set_scores import score_named_sets
from mtx.experiment.translations import score_samples
from mtx.records.report_record import Report
from mtx.training.back_translation import BackTranslationDownloader
from mtx.training.checkpoint_likelihood import target_nats
from mtx.training.checkpoint_translator import CheckpointTranslator, ModuleGenerator, SearchOptions, load_translator
from mtx.training.datamodule import TranslationDataModule
from mtx.training.reference.transformer import TransformerTranslator
from mtx.training.translation_state import translation_state

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning", "ignore:.*does not have many workers"
)

RUN: Any = SimpleNamespace(console=Console(quiet=True))


def data(folder: Path, *overrides: str) -> TranslationDataModule:
    corpus = folder / "both.tsv"
    if not corpus.exists():
        corpus.write_text("".join(f"line {n}\tZeile {n}\n" for n in range(60)))
        tokenizer = byte_tokenizer()
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("eng_Latn", "deu_Latn")])
        tokenizer.save(str(folder / "nllb.json"))
    made = compose_datamodule(
        [
            *("downloader=local", f"downloader.path={corpus}", "downloader.header=false", "sampler.max_tokens=512"),
            *("downloader.source_language=en", "downloader.target_language=de", f"storage.root={folder / 'store'}"),
            *("datamodule.directions=[en-de,de-en]", "datamodule.validation=12", "datamodule.test=8"),
            *(
                "datamodule.max_source_tokens=40",
                "datamodule.max_target_tokens=40",
                "datamodule.num_workers=0",
                *overrides,
            ),
        ]
    )
    made.prepare_data()
    made.setup("fit")
    return made


def trained(folder: Path, name: str, *overrides: str) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    return tiny_checkpoint.fitted(data(folder, *overrides), folder / f"{name}.ckpt")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    return trained(tmp_path_factory.mktemp("tagged"), "tagged", "tokenizer=byte")


@pytest.fixture(scope="module")
def forced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    folder = tmp_path_factory.mktemp("forced")
    tokens = ("tokenizer=pretrained", f"tokenizer.filepath={folder / 'nllb.json'}", "datamodule.language_tokens=auto")
    return trained(folder, "forced", *tokens)


@pytest.fixture(scope="module")
def suffixed(forced: tuple[Path, Any, Any]) -> tuple[Path, TransformerTranslator, TranslationDataModule]:
    folder = forced[0].parent  # whose encoded datasets are the same
    tokens = ("tokenizer=pretrained", f"tokenizer.filepath={folder / 'nllb.json'}", "datamodule.language_tokens=auto")
    return trained(folder, "suffixed", *tokens, "datamodule.language_token_position=suffix")


def test_prompts_of_a_decoder_only_checkpoint_end_with_the_language_of_the_target(tmp_path: Path) -> None:
    tokens = ("tokenizer=pretrained", f"tokenizer.filepath={tmp_path / 'nllb.json'}", "datamodule.language_tokens=auto")
    dm = data(tmp_path, *tokens, "datamodule.batch_format=causal")
    dm.train_dataloader()  # so that the state has tokenizers
    assert dm.facts()["forced_target_tokens"] == 1
    german = dm.tokenizers.target.token_to_id("deu_Latn")
    prompts: list[dict[str, torch.Tensor]] = []

    class Model:
        def translate(self, batch: dict[str, torch.Tensor], max_tokens: int, *, beam: int) -> list[list[int]]:
            prompts.append(prompt_inputs(batch, forced_target_tokens=1))
            return [[] for _ in batch["row_ids"]]

    state = translation_state({"dm": dm.state_dict()}, "x.ckpt").in_direction("en-de")
    translator = CheckpointTranslator(state, ModuleGenerator(Model()), torch.device("cpu"))
    translator.translate(["line 1", "a longer line"], beam=1)
    assert prompts[0]["input_ids"][:, -1].tolist() == [german] * 2
    assert (prompts[0]["input_ids"] == german).sum() == 2
    assert (prompts[0]["attention_mask"].sum(dim=1).diff() < 0).all(), "long texts come first"


def test_language_tokens_of_the_first_mbart_end_sources_and_start_the_decoder(
    forced: tuple[Path, Any, TranslationDataModule], suffixed: tuple[Path, Any, TranslationDataModule]
) -> None:
    path, model, dm = suffixed
    assert dm.ids.encoded == forced[2].ids.encoded  # type: ignore[union-attr]
    assert dm.facts()["forced_target_tokens"] == 0
    english, german = (dm.tokenizers.source.token_to_id(name) for name in ("eng_Latn", "deu_Latn"))
    batch = next(iter(dm.val_dataloader()))  # type: ignore[arg-type]
    lasts = batch["encoder_input_ids"].gather(1, batch["encoder_attn_mask"].sum(1, keepdim=True) - 1)[:, 0]
    starts = torch.stack([lasts, batch["decoder_input_ids"][:, 0]])
    assert {tuple(row) for row in starts.T.tolist()} == {(english, german), (german, english)}
    translator = load_translator(path, device="cpu", direction="en-de")
    assert translator.state.batch_format.language_token_position == "suffix"
    made = translator.batch_of(translator.encode(["ab"]), translator.encode(["c"], "target"))
    a, b, c = (dm.tokenizers.source.encode(text).ids[0] for text in "abc")
    eos = dm.facts()["eos_id"]
    assert made["encoder_input_ids"].tolist() == [[a, b, eos, english]]
    assert (made["decoder_input_ids"].tolist(), made["labels"].tolist()) == ([[german, c]], [[c, eos]])
    found = []
    for each in (translator, load_translator(path, device="cpu", direction="de-en")):
        batch = each.batch_of(each.encode(["line 3", "ab"]), each.state.encoded(["", ""], "target"))
        found.append(model.translate(batch, 20, beam=2))
        best = each.generator.generate(batch, torch.tensor([20, 20]), SearchOptions(beam=2))
        assert [hypotheses[0].ids for hypotheses in best] == found[-1]
    assert found[0] != found[1]  # the start of the decoder decides the language


def test_a_position_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"moves language tokens, but .* is null\. Set datamodule\.language_tokens=auto"
    ):
        data(tmp_path, "tokenizer=byte", "datamodule.language_token_position=suffix")


@pytest.mark.parametrize("kind", ["forced", "suffixed"])
def test_a_folder_of_transformers_has_the_language_tokens(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    path, model, _ = request.getfixturevalue(kind)
    with pytest.raises(ConfigError, match=r"several directions.*Choose one: task\.direction=en-de"):
        export_model(RUN, ckpt=str(path), to=str(tmp_path / "none"))
    translator = load_translator(path, device="cpu", direction="en-de")
    export_model(RUN, ckpt=str(path), to=str(tmp_path / "model"), direction="en-de")
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = ["line 3", "ab"]
    batch = translator.batch_of(translator.encode(texts), translator.state.encoded(["", ""], "target"))
    given = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    assert torch.equal(given["input_ids"], batch["encoder_input_ids"])
    with torch.inference_mode():
        ids = loaded.generate(**given, num_beams=1, max_new_tokens=9).tolist()
    assert {tuple(row[:2])[kind == "forced"] for row in ids} == {translator.state.leading_ids.target}  # type: ignore[union-attr]
    ours = model.translate(batch, 9 - (kind == "forced"), beam=1)
    begins = 1 + (kind == "forced")
    assert [row[begins : begins + len(mine)] for row, mine in zip(ids, ours, strict=True)] == ours


def test_batches_begin_with_the_tokens_of_the_languages(forced: tuple[Path, Any, TranslationDataModule]) -> None:
    dm = forced[2]
    english, german = (dm.tokenizers.source.token_to_id(name) for name in ("eng_Latn", "deu_Latn"))
    batch = next(iter(dm.val_dataloader()))  # type: ignore[arg-type]
    starts = torch.stack([batch["encoder_input_ids"][:, 0], batch["labels"][:, 0], batch["decoder_input_ids"][:, 1]])
    assert {tuple(row) for row in starts.T.tolist()} == {(english, german, german), (german, english, english)}
    assert dm.recipe.normalise.source_prefix == ""  # the tokens replace the tags
    rows: Any = dm.storage.repo.get(dm.ids.filtered["validation"]).rows  # type: ignore[union-attr]
    num_bytes = [len(row["tgt"]) for row in rows]
    assert dm.lengths("validation").target.tolist() == [number + 2 for number in num_bytes]  # the token, and EOS
    assert dm.num_target_bytes(torch.arange(12), "validation").tolist() == num_bytes


def test_given_labels_count_in_no_likelihood(forced: tuple[Path, Any, TranslationDataModule]) -> None:
    path, model, dm = forced
    batch = next(iter(dm.val_dataloader()))  # type: ignore[arg-type]
    nats, num_labels = model._pair_nll(batch)
    with torch.inference_mode():
        scores = torch.log_softmax(model(batch), -1).gather(2, batch["labels"][:, :, None])[:, :, 0]
    real = batch["decoder_attn_mask"].clone()
    real[:, 0] = False
    expected = -(scores * real).sum(1)
    assert nats.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert num_labels == int(real.sum())
    with torch.inference_mode():
        by_logits = pair_likelihood(batch, model(batch), forced_target_tokens=1)
    assert by_logits.nats.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert int(by_logits.num_labels.sum()) == num_labels
    rows = dm.storage.repo.get(dm.ids.filtered["validation"]).rows  # type: ignore[union-attr]
    first = int(batch["row_ids"][0])
    pair: Any = list(rows)[first]
    direction = "en-de" if pair["src"].startswith("line") else "de-en"
    translator = load_translator(path, direction=direction)
    encoded = translator.encode([pair["src"]]), translator.encode([pair["tgt"]], "target")
    found = target_nats(translator, *encoded, batch_tokens=512)
    assert found is not None
    assert found[0] == pytest.approx(float(expected[0]), rel=1e-4)


def test_first_labels_are_left_out_by_pair() -> None:
    values, labels, counts = without_first_labels(
        torch.arange(6.0), torch.tensor([9, 1, 2, 9, 3, 9]), torch.tensor([3, 2, 1])
    )
    assert (values.tolist(), labels.tolist(), counts.tolist()) == ([1, 2, 4], [1, 2, 3], [2, 1, 0])
    assert without_first_labels(values, labels, counts, 0)[0] is values


@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_is_forced_to_begin_with_a_token_of_probability_one(beam: int) -> None:
    logits = torch.tensor([0.0, -1.0, 3.0, 1.0, 2.0])  # EOS is 1

    def next_scores(tokens: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        scores = logits.repeat(len(tokens), 1)
        scores[tokens[:, -1] == 2, 1] = 9.0
        return scores

    found = n_best_search(
        next_scores, max_tokens=torch.tensor([4, 4]), bos_id=0, eos_id=1, beam=beam, first=torch.tensor([3, 4])
    )
    assert [each[0].ids for each in found] == [[3, 2], [4, 2]]
    free = n_best_search(next_scores, max_tokens=torch.tensor([4]), bos_id=0, eos_id=1, beam=beam)
    assert free[0][0].ids == [2]
    steps = logits.log_softmax(0)[2] + torch.tensor([0.0, 9.0, 3.0, 1.0, 2.0]).log_softmax(0)[1]
    assert found[0][0].score == pytest.approx(float(steps) / 3, rel=1e-4)  # three tokens, of which one is given


def test_a_checkpoint_translates_in_each_direction(
    tagged: tuple[Path, Any, Any], forced: tuple[Path, Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    state = load_translator(tagged[0]).state
    assert state.directions == (("en", "de"), ("de", "en"))
    one = load_translator(tagged[0], direction="eng-deu")
    assert (one.languages, one.state.normalise.source_prefix) == (("en", "de"), ">>de<< ")
    assert one.normalised(["line"]) == [">>de<< line"]
    load_translator(tagged[0]).normalised(["line"])
    assert "1 of 1 sources have none. Set task.direction=en-de" in caplog.text
    with pytest.raises(ConfigError, match=r"task\.direction=en-fr is no direction of the checkpoint, which has en-de"):
        load_translator(tagged[0], direction="en-fr")
    both = load_translator(forced[0])
    with pytest.raises(ConfigError, match=r"several directions.*task\.direction=en-de"):
        both.translate(["line"])
    german = load_translator(forced[0], direction="en-de")
    ids = german.state.leading_ids
    assert ids is not None
    assert german.encode(["a", ""])[0][0] == ids.source
    assert german.encode(["a", ""])[1] == []
    found = german.translate(["line 3", ""], beam=2)
    assert found[1] == ""
    assert "deu_Latn" not in found[0]


def test_a_checkpoint_without_directions_has_none_to_choose(forced: tuple[Path, Any, Any]) -> None:
    state = replace(load_translator(forced[0]).state, directions=(), languages=("en", "de"))
    with pytest.raises(ConfigError, match=r"needs a checkpoint that was trained with datamodule\.directions"):
        state.in_direction("en-de")


def test_held_out_pairs_of_each_direction_are_a_set(tagged: tuple[Path, Any, TranslationDataModule]) -> None:
    path, _, dm = tagged
    translator = load_translator(path)
    recipe = replace(dm.recipe, normalise=translator.state.normalise)
    found = evaluation_texts(recipe, StageRunner(dm.storage), trained_on=[translator.state.corpus])
    assert [(name, text.languages, len(text.sources)) for name, text in found.items()] == [
        ("test-en-de", ("en", "de"), 4),
        ("test-de-en", ("de", "en"), 4),
    ]
    assert all(source.startswith(">>en<< Zeile") for source in found["test-de-en"].sources)
    check_languages(found, [translator.state])
    of_set = _of_set(translator, "test-de-en", found["test-de-en"])
    assert of_set.state.normalise == DefaultNormaliser()  # the pairs have their tags
    other = replace(found["test-de-en"], is_of_training=False)
    assert _of_set(translator, "news", other).state.normalise.source_prefix == ">>en<< "
    with pytest.raises(ConfigError, match=r"set news translates en to fr, which is no direction of the training"):
        check_languages({"news": replace(other, languages=("en", "fr"))}, [translator.state])


def test_figures_of_a_training_by_direction(tagged: tuple[Path, Any, TranslationDataModule]) -> None:
    _, model, dm = tagged
    slicing = next(each for each in held_out_slicings(dm) if each.name == "direction")
    assert (slicing.labels, slicing.of_pair.tolist()) == (("en-de", "de-en"), [0] * 6 + [1] * 6)
    assert "mixture_source" not in [each.name for each in held_out_slicings(dm)]
    run: Any = SimpleNamespace(datamodule=dm, console=SimpleNamespace(print=lambda table: None))
    progress: Any = SimpleNamespace(validations=[])
    slices = {"direction": ({"name": "de-en", "num_pairs": 6, "nats": 80.0, "target_bytes": 40},)}
    report = Report.model_validate({"slices": slices})
    found = score_named_sets(run, model, torch.device("cpu"), progress, report, scored=3, beam=1)
    assert {name: (of.languages, of.num_pairs) for name, of in found.items()} == {
        "en-de": (("en", "de"), 3),
        "de-en": (("de", "en"), 3),
    }
    assert found["de-en"].bits_per_byte == pytest.approx(80 / 0.6931472 / 40)
    assert found["en-de"].bits_per_byte is None


def test_damaged_language_tokens_of_a_checkpoint_are_refused(forced: tuple[Path, Any, Any], tmp_path: Path) -> None:
    content = torch.load(forced[0], weights_only=True)
    stored = next(value for value in content.values() if isinstance(value, dict) and "translation" in value)
    for ids in ([[1, 2]], [[1, 10**6], [1, 2]]):
        stored["translation"]["language_token_ids"] = ids
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(ConfigError, match=r"invalid values for translation: language_token_ids"):
            load_translator(tmp_path / "x.ckpt")


def test_a_mixture_of_languages_has_a_direction_for_each_in_its_checkpoint(tmp_path: Path) -> None:
    tokens = ("eng_Latn", "deu_Latn", "fra_Latn")
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    tokenizer.save(str(tmp_path / "nllb.json"))
    for name in ("de", "fr"):
        (tmp_path / f"{name}.tsv").write_text("".join(f"line {n}\t{name} {n}\n" for n in range(20)))
    sources = ", ".join(
        f"{name}: {{path: '{tmp_path / name}.tsv', header: false, source_language: en, target_language: {name}}}"
        for name in ("de", "fr")
    )
    dm = compose_datamodule(
        [
            *("downloader=mixture", f"+downloader.sources={{{sources}}}", "downloader.languages=[en,mul]"),
            *("tokenizer=pretrained", f"tokenizer.filepath={tmp_path / 'nllb.json'}", f"storage.root={tmp_path / 's'}"),
            *("datamodule.language_tokens=auto", "datamodule.validation=4", "datamodule.test=null"),
            *("sampler.max_tokens=512", "datamodule.num_workers=0"),
        ]
    )
    dm.prepare_data()
    dm.setup("fit")
    dm.train_dataloader()
    stored = {"dm": dm.state_dict()}
    state = translation_state(stored, "x.ckpt")
    assert state.directions == (("en", "de"), ("en", "fr"))
    english, german, french = (dm.tokenizers.source.token_to_id(token) for token in tokens)
    assert [state.in_direction(name).leading_ids for name in ("en-de", "en-fr")] == [
        (english, german),
        (english, french),
    ]


def test_back_translation_takes_one_direction_of_a_checkpoint(
    tagged: tuple[Path, Any, Any], forced: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    text = tmp_path / "mono.txt"
    text.write_text("Zeile 3\nZeile 5\n")
    for path in (tagged[0], forced[0]):
        options: dict[str, Any] = {"ckpt": str(path), "text": str(text), "beam": 1}
        with pytest.raises(
            ConfigError, match=r"several directions: en-de, de-en\. Choose .*downloader\.direction=en-de"
        ):
            BackTranslationDownloader(**options).info()
        with pytest.raises(ConfigError, match=r"downloader\.direction=en-fr is no direction of the checkpoint"):
            BackTranslationDownloader(**options, direction="en-fr").info()
        source = BackTranslationDownloader(**options, direction="de-en")
        assert (source.info().languages, source.info().identity["direction"]) == (("en", "de"), "de-en")
        expected = load_translator(path, direction="de-en").translate(["Zeile 3", "Zeile 5"], beam=1)
        found = [row["src"] for batch in source.batches("train", {}) for row in batch.to_pylist()]
        assert found == [f"<BT> {each}" for each in expected if each]


def test_candidates_and_scores_keep_languages_apart(
    tagged: tuple[Path, TransformerTranslator, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dm = data(tmp_path, "tokenizer=byte", "datamodule.validation=40")
    rows: Any = list(dm.storage.repo.get(dm.ids.filtered["validation"]).rows)  # type: ignore[union-attr]
    found = _candidates(dm, "validation", np.arange(40), 12)
    assert len(found) == 12
    assert all(len({rows[row]["tgt"][:4] for row in line}) == 1 for line in found.tolist())
    run: Any = SimpleNamespace(datamodule=dm, console=SimpleNamespace(print=lambda *texts, **options: None))
    score_samples(run, tagged[1], torch.device("cpu"), shown=0, scored=2, beam=1)
    assert "BLEU and chrF in scores mix the target languages de, en" in caplog.text
