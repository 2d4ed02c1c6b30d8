"""Nothing that is stored, imported or resumed from is ever unpickled."""

import ast
import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.demos.boring_classes import BoringModel

from mtx.components.identity import JSON
from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.errors import ConfigError, DamagedError, MtxError, TokenizerError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.training.checkpoint_selection import weight_shapes

PACKAGE = Path(__file__).parents[2] / "mtx"
# Modules and calls that run what they read. `pickle` may be imported for the name of its error.
LOADERS = {"dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "_pickle", "cPickle"}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_ATTRIBUTES = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("pd", "read_pickle"),
    ("pandas", "read_pickle"),
    ("os", "system"),
    ("os", "popen"),
    ("torch", "hub"),
}

# Modules that unpickle what a process of the same run has sent: through a socket that only the two processes have, or
# through a cluster that the user has chosen.
BETWEEN_OWN_PROCESSES = {
    *("data/engine_map_call.py", "data/engine_worker.py", "data/cluster_worker.py"),
}


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A file that is there only where a hostile pickle was run."""
    path = tmp_path / "was-run"
    yield path
    assert not path.exists()


def tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def found_in(module: ast.AST) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in LOADERS)
            if isinstance(node, ast.ImportFrom) and node.module == "pickle":
                yield "from pickle import"
        elif isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in CALLS:
                yield function.id
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                where = (function.value.id, function.attr)
                if where == ("torch", "load") and "weights_only" not in given:
                    yield "torch.load without weights_only"
                own = node.args and ast.unparse(node.args[0]).startswith("pickle.dumps(")  # what was made right there
                if where in UNSAFE_ATTRIBUTES and not (where == ("pickle", "loads") and own):
                    yield ".".join(where)
            for name in ("allow_pickle", "trust_remote_code", "shell"):
                value = given.get(name)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    yield f"{name}={ast.unparse(value)}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_calls_what_runs_what_it_reads(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    allowed = {"pickle.loads"} if name in BETWEEN_OWN_PROCESSES else set()
    if name == "data/cluster_engine.py":
        allowed.add("cloudpickle")  # which only pickles here: tasks for the workers of the user's cluster
    assert set(found_in(tree(path))) == allowed


@pytest.mark.parametrize(
    "source",
    [
        "import dill",
        "from joblib import load",
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "eval('1')",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "load_dataset(name, trust_remote_code=True)",
        "subprocess.run(x, shell=True)",
        "yaml.load(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(found_in(ast.parse(source))) != []


def test_a_pickle_in_place_of_a_tokenizer_is_no_tokenizer(tmp_path: Path, trap: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(pickle.dumps(Touches(trap)))
    for kind in (BPETokenization, PretrainedTokenization):
        with pytest.raises(TokenizerError, match="is not a tokenizer file"):
            kind(filepath=path).load()


@pytest.mark.parametrize("suffix", ["", ".db", ".dat", ".pag"])
def test_a_pickle_in_place_of_the_shelf_is_never_read(tmp_path: Path, trap: Path, suffix: str) -> None:
    (tmp_path / f"manifests{suffix or '.json'}").write_bytes(pickle.dumps({"raw-train-1": Touches(trap)}))
    layer = ObjectAccessLayer(location=tmp_path)
    if suffix:
        assert layer.get_all_names() == []
        return
    with pytest.raises(DamagedError, match="cannot be read"):
        layer.get_all_names()


def test_a_pickle_in_place_of_the_database_is_damaged(tmp_path: Path, trap: Path) -> None:
    (tmp_path / "manifests.sqlite").write_bytes(pickle.dumps(Touches(trap)) * 300)
    with pytest.raises(MtxError):
        SQLiteObjectLayer(location=tmp_path).get_all_names()


@pytest.mark.parametrize(("kind", "suffix"), [(ArrowFileLayer, ".arrow"), (FileAccessLayer, ".jsonl")])
def test_a_pickle_in_place_of_the_rows_is_damaged(tmp_path: Path, trap: Path, kind: Any, suffix: str) -> None:
    layer = kind(location=tmp_path)
    layer.create("raw-train-1", [{"src": "a", "tgt": "b"}])
    for path in tmp_path.glob("raw-train-1*"):
        path.write_bytes(pickle.dumps(Touches(trap)))
    with pytest.raises(DamagedError):
        layer.read("raw-train-1")


def test_what_a_manifest_says_is_data(tmp_path: Path, trap: Path) -> None:
    """Keys that other tools make objects of: Hydra's, jsonpickle's, PyYAML's."""
    said: dict[str, JSON] = {
        "_target_": "os.system",
        "py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {trap}"]}],
        "!!python/object/apply:os.system": [f"touch {trap}"],
    }
    repo = DatasetRepo(fal=ArrowFileLayer(location=tmp_path / "s"), oal=ObjectAccessLayer(location=tmp_path / "s"))
    rows = [{"src": "a", "tgt": "b"}]
    dataset = TranslationDataset(
        name="x", stage="raw", split="train", languages=("en", "de"), data=rows, provenance={"config": said}
    )
    stored = repo.add(dataset)
    assert stored.provenance == {"config": said}
    assert json.dumps(stored.to_manifest())


def checkpoint(path: Path, **more: Any) -> Path:
    torch.save({"state_dict": BoringModel().state_dict(), "epoch": 0, **more}, path)
    return path


def test_a_checkpoint_with_weights_and_plain_values_is_read(tmp_path: Path) -> None:
    weight_shapes(checkpoint(tmp_path / "a.ckpt", hyper_parameters={"lr": 0.1, "layers": [1, 2]}))


def test_a_checkpoint_that_holds_objects_is_refused_unread_and_the_message_names_them(
    tmp_path: Path, trap: Path
) -> None:
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters={"x": Touches(trap)})
    with pytest.raises(ConfigError) as caught:
        weight_shapes(path)
    assert f"ckpt={path} holds Python objects other than tensors and plain values (" in str(caught.value)
    assert "getattr" in str(caught.value)
    assert "set task.trust_ckpt=true" in str(caught.value)


def test_no_environment_variable_of_torch_gets_round_it(
    tmp_path: Path, trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ConfigError, match="holds Python objects"):
        weight_shapes(checkpoint(tmp_path / "a.ckpt", x=Touches(trap)))


def test_a_user_who_trusts_a_checkpoint_says_so(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    weight_shapes(checkpoint(tmp_path / "a.ckpt", x=Touches(ran)), trusted=True)
    assert ran.exists()


def plain_pickle(trap: Path) -> bytes:
    return pickle.dumps({"state_dict": Touches(trap)}, protocol=2)  # as torch writes them


def zipped_pickle(trap: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", plain_pickle(trap))
        archive.writestr("archive/version", "3")
    return made.getvalue()


def legacy(trap: Path) -> bytes:
    made = io.BytesIO()
    torch.save({"state_dict": Touches(trap)}, made, _use_new_zipfile_serialization=False)
    return made.getvalue()


def no_mapping(trap: Path) -> bytes:
    made = io.BytesIO()
    torch.save([1, 2], made)
    return made.getvalue()


@pytest.mark.parametrize("content", [plain_pickle, zipped_pickle, legacy, no_mapping], ids=lambda f: f.__name__)
def test_other_files_in_place_of_a_checkpoint_are_refused_unread(tmp_path: Path, trap: Path, content: Any) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content(trap))
    with pytest.raises(ConfigError, match=r"ckpt=.*(holds Python objects|cannot be read as a checkpoint)"):
        weight_shapes(path)


@pytest.mark.parametrize(
    "said", [{"_instantiator": "os.system"}, {"_target_": "os.system", "_class_path": "os.system"}]
)
def test_what_a_checkpoint_says_of_itself_makes_nothing(tmp_path: Path, said: dict[str, str]) -> None:
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters=said, **{"pytorch-lightning_version": "2.6.0"})
    weight_shapes(path)
    if "_instantiator" in said:  # Lightning's own way to read a model, which mtx does not take
        with pytest.raises(ValueError, match="was blocked to prevent arbitrary code execution"):
            BoringModel.load_from_checkpoint(path)
