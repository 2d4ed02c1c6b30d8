"""A checkpoint translates alone: as the trained model does, whatever the text, and it never runs code."""

import math
import pickle
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))

import tiny_checkpoint

import mtx
from mtx.assumption_log import collected_assumptions
from mtx.data.normalise import DefaultNormaliser
from mtx.errors import ConfigError, DataError
from mtx.evaluation.beam_search import n_best_search
from mtx.exhausted_resources import PANIC_MODULE
from mtx.training.checkpoint_likelihood import target_nats
from mtx.training.checkpoint_translator import SearchOptions, batches_by_length, load_translator
from mtx.training.own_model_from_checkpoint import own_model
from mtx.training.reference.incremental_decoding import search_translations
from mtx.training.reference.network import Transformer
from mtx.training.reference.network_from_checkpoint import _check_bytes
from mtx.training.reference.transformer import TransformerTranslator
from mtx.training.weight_misfit import misfit_reason

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")

TEXTS = ["train 3", "", "e\u0301 مرحبا 日本語", "a\x00b", "train 12", "   "]


@pytest.fixture(scope="module")
def trained() -> tuple[Path, Any, Any]:
    return tiny_checkpoint.shared()


def content_of(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def test_keys_and_values_that_are_kept_change_no_translation() -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 2, "dim_feedforward": 16}
    vocabulary: dict[str, Any] = {"source_vocab_size": 30, "target_vocab_size": 30, "joint_vocabulary": True}
    options: dict[str, Any] = {"dropout": 0.5, "activation": "gelu", "max_positions": 64}
    network = Transformer(**vocabulary, **sizes, **options).eval()
    ids = torch.randint(4, 30, (5, 7))
    mask = torch.arange(7) < torch.tensor([[7], [3], [0], [5], [1]])
    limits = torch.tensor([40, 33, 40, 1, 40])  # beyond the first room of the cache
    with torch.inference_mode():
        memory = network.encode(ids, mask)

        def at_each_step(tokens: Tensor, sentences: Tensor) -> Tensor:
            return network.logits(network.decode(tokens, memory[sentences], mask[sentences])[:, -1])

        special: dict[str, Any] = {"bos_id": 1, "eos_id": 2}
        slow = n_best_search(at_each_step, max_tokens=limits, beam=3, n_best=3, never=[0, 1], **special)
    fast = search_translations(network, ids, mask, max_tokens=limits, pad_id=0, beam=3, n_best=3, **special)
    assert [[each.ids for each in of] for of in fast] == [[each.ids for each in of] for of in slow]
    scores = [[each.score for each in of] for of in fast]
    assert scores == [pytest.approx([each.score for each in of], abs=1e-5) for of in slow]
    assert scores == [sorted(of, reverse=True) for of in scores]


def test_a_checkpoint_translates_as_the_model_that_wrote_it(trained: tuple[Path, Any, Any]) -> None:
    path, model, dm = trained
    translator = mtx.load_translator(path)
    assert translator.languages == ("en", "de")
    ids = dm.tokenizers.source.encode("train 3").ids
    batch = translator.batch_of([ids], [[]])
    (expected,) = model.translate(batch, (len(ids) + 1) * 3 // 2 + 10, beam=2)
    found = translator.translate(TEXTS, beam=2)
    assert found[0] == dm.tokenizers.target.decode(expected).strip()
    assert found[1] == found[5] == ""
    assert found == [translator.translate([text], beam=2)[0] for text in TEXTS]
    best = translator.n_best(TEXTS, beam=3, n_best=3)
    assert [len(each) for each in best] == [3, 1, 3, 3, 3, 1]
    assert [each[0].text for each in best] == translator.translate(TEXTS, beam=3)


def test_long_texts_are_truncated_and_counted(trained: tuple[Path, Any, Any]) -> None:
    translator = load_translator(trained[0])
    texts = ["x" * 100_000, "x" * 39, "x" * 40]
    assert translator.num_truncated([len(ids) for ids in translator.encode(texts)]) == 2
    long, fitting, cut = translator.translate(texts, beam=1)
    assert long == fitting == cut


def test_texts_that_cannot_be_encoded_are_refused(trained: tuple[Path, Any, Any]) -> None:
    translator = load_translator(trained[0])
    with pytest.raises(DataError, match="text 1 contains a lone surrogate"):
        translator.translate(["a", "\ud800"])
    with pytest.raises(DataError, match=r"texts are a list, but are one text. Write translate\(\['abc'\]\)"):
        translator.translate("abc")


def test_batches_have_similar_lengths_within_the_budget() -> None:
    options = SearchOptions(beam=2, batch_tokens=40)
    assert list(batches_by_length([3, 9, 0, 4, 30, 4], options)) == [[4], [1, 3], [5, 0]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beam": 0}, "task.beam must be at least 1, but is 0"),
        ({"beam": 2, "n_best": 3}, "task.n_best must be at most task.beam=2, but is 3. Set task.beam=3"),
        ({"batch_tokens": 0}, "task.batch_tokens must be at least 1"),
    ],
)
def test_search_options_are_checked(options: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SearchOptions(**options)


def test_the_likelihood_is_that_of_the_training_loss(trained: tuple[Path, Any, Any]) -> None:
    path, model, _ = trained
    translator = load_translator(path)
    sources, targets = translator.encode(["ab", "c" * 30]), translator.encode(["xyz", ""], "target")
    found = target_nats(translator, sources, targets, batch_tokens=8)
    assert found is not None
    for row in range(2):
        batch = translator.batch_of(sources[row : row + 1], targets[row : row + 1])
        logits = model(batch)[0].detach()
        assert found[row] == pytest.approx(
            float(nn.functional.cross_entropy(logits, batch["labels"][0], reduction="sum")), rel=1e-5
        )
    (too_long,) = target_nats(translator, [[5] * 64], [[5]], batch_tokens=8)  # type: ignore[misc]
    assert too_long != too_long  # NaN


class Own(nn.Module):
    """A user's own model, which says the source again."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        return None

    def translate(self, batch: dict[str, Tensor], max_tokens: int, *, beam: int = 1) -> list[list[int]]:
        return [row.tolist() for row in batch["encoder_input_ids"]]


def test_another_model_is_built_only_if_the_user_types_it(
    trained: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**content_of(trained[0]), "model_kind": "my.Model", "hyper_parameters": {"width": 8}}
    path = tmp_path / "own.ckpt"
    torch.save(content, path)
    with pytest.raises(
        ConfigError, match=r"not of mtx's reference model.*Type the class .*model._target_=MODULE.CLASS"
    ):
        load_translator(path)
    given: list[dict[str, Any]] = []

    def build(**options: Any) -> Own:
        given.append(options)
        return Own(**options)

    translator = load_translator(path, model=build)
    assert given == [{"width": 8}]
    assert translator.translate(["b", "", "abc"], beam=1) == ["b", "", "abc"]
    with pytest.raises(ConfigError, match=r"Own.translate gives one translation. Set task.n_best=1"):
        translator.n_best(["b"], beam=2, n_best=2)
    with pytest.raises(ConfigError, match=r"Own.translate has no length penalty. Set task.length_penalty=1"):
        translator.n_best(["b"], beam=2, length_penalty=0.5)
    monkeypatch.setattr(Own, "translate", lambda *_, **__: [[int(torch.is_inference_mode_enabled()) + ord("a")]])
    assert translator.translate(["b"]) == translator.translate(["x"])
    with pytest.raises(ConfigError, match="does not fit the typed model"):
        load_translator(path, model=nn.Linear)
    with pytest.raises(ConfigError, match=r"does not fit the typed model: it has no weight \w+\. Set model._target_"):
        load_translator(path, model=Wider)


def test_a_state_without_shapes_is_no_crash_of_the_reason() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lazy = nn.LazyLinear(3)
            self.inner = nn.Linear(2, 3)

        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 1}

        def set_extra_state(self, state: object) -> None:
            raise AssertionError

    model = Model()
    weights: dict[str, Any] = {**model.state_dict(), "_extra_state": 3}
    assert misfit_reason(KeyError("width"), weights, model) == "'width' is missing"
    weights["inner.weight"] = torch.zeros(3, 5)
    told = misfit_reason(KeyError("width"), weights, model)
    assert told == "inner.weight has shape (3, 5) in it and (3, 2) in the model"


class Wider(Own):
    """A user's own model with a weight more than the trained one."""

    def __init__(self, **hparams: Any) -> None:
        super().__init__(**hparams)
        self.wider = nn.Parameter(torch.zeros(2))

    def load_state_dict(self, *given: Any, **options: Any) -> Any:
        return nn.Module.load_state_dict(self, *given, **options)


def test_a_hyperparameter_without_its_secret_is_typed_again_or_told(tmp_path: Path) -> None:
    path, given = tmp_path / "own.ckpt", list[dict[str, Any]]()

    def build(**options: Any) -> Own:
        given.append(options)
        return Own()

    def built(model: Any = build, **said: Any) -> dict[str, Any]:
        own_model(model, {"hyper_parameters": said, "state_dict": {}}, path)
        return given[-1]

    with collected_assumptions() as told:
        assert built(api_key="***", width=8) == {"width": 8}
    assert len(told) == 1
    assert "api_key of the model: what the config or the class says" in told[0]
    assert told[0].endswith("type +model.api_key")
    nested = {"api_key": "***", "num_heads": 4}
    with pytest.raises(ConfigError, match=r"hyperparameter cfg without its secrets: .*'num_heads': 4.* \+model.cfg,"):
        built(cfg=nested)
    with pytest.raises(ConfigError, match=r"hyperparameter address without"):
        built(address="https://***@host")
    with collected_assumptions() as told:
        typed = partial(build, cfg={"num_heads": 2})
        assert built(typed, cfg=nested, width=8) == {"cfg": {"num_heads": 2}, "width": 8}
    assert not told
    with pytest.raises(ConfigError, match=r"does not fit .*Type the secrets .*: \+model.api_key. Set model"):
        built(lambda *, api_key: Own(), api_key="***")


class Scored(Own):
    """A user's own model that gives each target as many nats as it has labels, EOS included."""

    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["decoder_attn_mask"].sum(dim=1).double()


def test_the_likelihood_of_another_model_is_that_of_its_method(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "own.ckpt"
    torch.save({**content_of(trained[0]), "model_kind": "my.Model"}, path)
    rows = ([[5, 6], [7] * 100, [8]], [[9], [9], [9, 9, 9]])
    found = target_nats(load_translator(path, model=Scored), *rows, batch_tokens=8)
    assert found is not None
    assert [found[0], found[2]] == [2, 4]
    assert found[1] != found[1]  # NaN: longer than the maximum of the training
    assert target_nats(load_translator(path, model=Own), *rows, batch_tokens=8) is None


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


Change = Callable[[dict[str, Any]], None]


def stored(**values: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["TranslationDataModule"]["translation"].update(values)

    return change


def sizes(**values: Any) -> Change:
    return lambda content: content["hyper_parameters"].update(values)


def weights(name: str, tensor: Any) -> Change:
    return lambda content: content["state_dict"].update({name: tensor})


def diverge(content: dict[str, Any]) -> None:
    content["state_dict"] = {name: torch.full_like(each, torch.nan) for name, each in content["state_dict"].items()}


EMBEDDING = "network.target_embedding.weight"
OWN_STEPS = {"kind": "normalise/steps", "version": 1, "steps": [{"kind": "os.system", "version": 1}]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.update(bomb=Bomb()), r"Python objects other than tensors.*the file was not read"),
        (lambda content: content.pop("state_dict"), "it holds no state_dict of a model"),
        (lambda content: content.pop("TranslationDataModule"), "contains no tokenizers.*Train again: mtx task=fit"),
        (stored(format=3, mtx="9.1"), r"is of a newer version.* mtx 9\.1 wrote it.* Use a clone of mtx 9\.1$"),
        (stored(format=3, mtx="9;rm -rf"), r"is of a newer version.* cannot read\. Use a clone of a newer version$"),
        (
            stored(languages=["en"], mtx="0.0.1"),
            r"languages: .* mtx 0\.0\.1 wrote it.* Use a clone of mtx 0\.0\.1$",
        ),
        (
            lambda content: (stored(mtx="0.0.1")(content), weights("network.more", torch.zeros(1))(content)),
            r"the tensors differ: .*more.* mtx 0\.0\.1 wrote it, but this is mtx",
        ),
        (stored(format="1"), "invalid values for translation: format"),
        (stored(source_tokenizer="{}"), "a tokenizer is damaged"),
        (stored(source_ids=[0, 1, 2, 10**9]), "the special ids .* exceed a vocabulary"),
        (stored(languages=["en"]), "invalid values for translation: languages"),
        (stored(normalise=OWN_STEPS), "your own code 'normalise/steps' normalised.*Type the normalise=… options"),
        (stored(normalise={"kind": "my.Normaliser", "version": 1}), "your own code 'my.Normaliser'"),
        (stored(normalise={"kind": "normalise/none", "version": 7}), "another version of mtx normalised"),
        (stored(normalise={"kind": "normalise/default", "version": 1, "strip": 3}), "normalise: "),
        (sizes(d_model=0), "d_model is 0, but must be at least 1. Set ckpt="),
        (sizes(d_model="8"), "d_model is '8', but must be of another type"),
        (sizes(d_model=10**9), "does not describe a reference model"),
        (sizes(num_encoder_layers=10**9), "tensors are too few for its layers"),
        (sizes(max_positions=10**9), "max_positions is 1000000000, but must be at most 65536"),
        (sizes(num_heads=3), "model.d_model must be even"),
        (weights(EMBEDDING, torch.zeros(3, 8)), r"has the shape \(3, 8\), not "),
        (weights(EMBEDDING, torch.zeros(1).expand(264, 8)), "shape|repeats its values"),
        (weights(EMBEDDING, torch.zeros(264, 8, dtype=torch.int8)), "is no tensor of numbers"),
        (
            diverge,
            "weights that are not finite numbers, such as .* earlier",
        ),
        (weights("network.more", torch.zeros(1)), "the tensors differ: .*more"),
    ],
)
def test_a_hostile_checkpoint_is_refused_in_one_line(
    trained: tuple[Path, Any, Any], change: Change, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = content_of(trained[0])
    change(content)
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(ConfigError, match=told) as caught:
        load_translator(tmp_path / "hostile.ckpt")
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(
    trained: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    with zipfile.ZipFile(trained[0]) as old, zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ConfigError, match="in it is compressed, which torch never does"):
        load_translator(tmp_path / "a.ckpt")


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    values = torch.zeros(1000, dtype=torch.float16)
    torch.save(values, tmp_path / "a.ckpt")
    shared = {"source_embedding.weight": values, "target_embedding.weight": values}
    _check_bytes(shared, tmp_path / "a.ckpt", is_joint=True)
    with pytest.raises(ValueError, match=r"its tensors have 4,000 bytes, but the file \d,\d+"):
        _check_bytes(shared, tmp_path / "a.ckpt", is_joint=False)


def test_a_panic_of_the_tokenizer_is_an_error(trained: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    panic: Any = type("PanicException", (BaseException,), {"__module__": PANIC_MODULE})
    library = Mock(from_str=Mock(side_effect=panic("index out of range")))
    monkeypatch.setattr("mtx.data.tokenize.stored_tokenizer.Tokenizer", library)
    with pytest.raises(ConfigError, match=r"a tokenizer is damaged \(the library panics\)"):
        load_translator(trained[0])


def test_a_search_without_a_result_gives_an_empty_text(trained: tuple[Path, Any, Any]) -> None:
    translator = load_translator(trained[0])
    with torch.no_grad():
        translator.generator.network.target_embedding.weight.fill_(torch.nan)  # type: ignore[attr-defined]
    (found,) = translator.n_best(["a"])
    assert [each.text for each in found] == [""]
    assert math.isnan(found[0].score)


def test_only_the_reference_model_itself_has_its_kind(trained: tuple[Path, Any, Any]) -> None:
    class Mine(TransformerTranslator):
        pass

    model = Mine(source_vocab_size=9, target_vocab_size=9, pad_id=0, bos_id=1, eos_id=2, **tiny_checkpoint.SMALL)
    content: dict[str, Any] = {}
    model.on_save_checkpoint(content)
    assert content == {}
    trained[1].on_save_checkpoint(content)
    assert content == {"model_kind": "model/transformer"}


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Bomb()), b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("no.ckpt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read as a checkpoint.*Set ckpt= to another file"):
        load_translator("no.ckpt")
    assert not Path("exploded").exists()
    with pytest.raises(ConfigError, match=r"but \S+ does not exist. Set ckpt=FILE"):
        load_translator("missing.ckpt")
    with pytest.raises(ConfigError, match=r"is a folder"):
        load_translator(tmp_path)


def test_a_typed_normaliser_replaces_that_of_a_users_own_code(trained: tuple[Path, Any, Any], tmp_path: Path) -> None:
    content = content_of(trained[0])
    stored(normalise=OWN_STEPS)(content)
    torch.save(content, tmp_path / "own.ckpt")
    translator = load_translator(tmp_path / "own.ckpt", normalise=DefaultNormaliser(form="NFKC"))
    assert translator.normalised([" ﬁ "]) == ["fi"]
    tagged = load_translator(tmp_path / "own.ckpt", normalise=DefaultNormaliser(source_prefix=">>de<< "))
    assert tagged.normalised(["a", ""]) == [">>de<< a", ""]
    assert tagged.encode(["a"]) == translator.encode([">>de<< a"])
    assert tagged.encode(["a"], "target") == translator.encode(["a"], "target")


def test_devices_that_do_not_exist_are_refused(trained: tuple[Path, Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"task.device=nonsense is no device of torch here .*Set task.device=cpu"):
        load_translator(trained[0], device="nonsense")
