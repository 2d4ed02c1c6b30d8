"""What names a component: its kind, its version and its options; a user's own code by a digest of it."""

import importlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import warm_process
import yaml

from mtx.app.command import compose
from mtx.components.check_and_build import build, build_multiple
from mtx.components.identity import JSON, LATER, class_identity, digest, identity
from mtx.data.filter.default import DefaultFilter
from mtx.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
GOLDEN = Path(__file__).parent / "golden_ids.json"
GROUPS = ("downloader", "normalise", "score", "filter", "tokenizer", "sampler")
OPTIONS = sorted(f"{group}/{path.stem}" for group in GROUPS for path in (CONF / group).glob("*.yaml"))
NEEDED = {
    "downloader/back_translation": ["downloader.ckpt=de-en.ckpt", "downloader.text=news.de"],
    "downloader/hf": ["downloader.dataset=some/name", "downloader.language=de-en"],
    "downloader/local": ["downloader.path=corpus.jsonl"],
    "downloader/mixture": ["downloader.sources={news: news.tsv, web: web.tsv}"],
    "score/given": ["score.given.column=quality"],
    "score/embeddings": [
        "score.embeddings.encoder={_target_: mtx.data.score.text_encoder.SentenceTransformersEncoder, folder: LaBSE}"
    ],
    "tokenizer/pretrained": ["tokenizer.filepath=tokenizer.json"],
    "tokenizer/sentencepiece": ["tokenizer.filepath=spm.model"],
    "tokenizer/vocabulary_file": ["tokenizer.filepath=dict.txt"],
    "filter/opusfilter": [f"filter.path={CONF.parent / 'tests/data/filter/opusfilter_config.yaml'}"],
}


def described(option: str) -> dict[str, JSON]:
    """Return the identity of an option with its defaults, without what lies in files."""
    group, name = option.split("/")
    config = compose([f"{group}={name}", *NEEDED.get(option, [])])
    made = build_multiple(config, group)[name] if group == "score" else build(config, group)
    if option in ("downloader/mixture", "score/embeddings"):  # their parts have identities of their own
        return class_identity(type(made))
    return identity(made, exclude=("filepath",))


@pytest.mark.parametrize("option", OPTIONS)
def test_ids_stay_wherever_the_code_lies(option: str) -> None:
    """`MTX_WRITE_GOLDEN=1 scripts/test tests/components/test_identity.py` writes them anew."""
    found = described(option)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("MTX_WRITE_GOLDEN"):
        golden[option] = {"identity": found, "digest": digest(found)}
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert {"identity": found, "digest": digest(found)} == golden[option]
    assert found["kind"] == option
    assert "mtx." not in json.dumps(found), "no path of a module is part of an id"


def test_the_golden_file_has_no_option_that_is_gone() -> None:
    assert sorted(json.loads(GOLDEN.read_text())) == OPTIONS


@pytest.mark.parametrize("option", OPTIONS)
def test_every_kind_names_its_option(option: str) -> None:
    target = yaml.safe_load((CONF / f"{option}.yaml").read_text())["_target_"]
    module, _, name = target.rpartition(".")
    assert vars(getattr(importlib.import_module(module), name))["kind"] == option


# A user's own code


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a filter of a user's, in a module that imports another, and that one a third inside a function."""
    (tmp_path / "own_filter.py").write_text(
        "from dataclasses import dataclass\nfrom mtx.data.filter.default import DefaultFilter\n"
        "import own_rules\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass OwnFilter(DefaultFilter):\n    limit: int = own_rules.LIMIT\n"
    )
    (tmp_path / "own_rules.py").write_text(
        "LIMIT = 3\n\ndef rule():\n    from own_lists import words\n    return words\n"
    )
    (tmp_path / "own_lists").mkdir()
    (tmp_path / "own_lists" / "__init__.py").write_text("words = ['a']\n")
    return tmp_path


def identity_in_a_new_process(folder: Path, target: str = "own_filter.OwnFilter") -> Any:
    code = (
        "import json, pkgutil; from mtx.components.identity import class_identity;"
        f"print(json.dumps(class_identity(pkgutil.resolve_name({target!r}))))"
    )
    done = warm_process.run("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("edited", ["own_filter.py", "own_rules.py", "own_lists/__init__.py"])
def test_an_edit_of_a_users_module_or_of_one_it_imports_is_another_version(own: Path, edited: str) -> None:
    before = identity_in_a_new_process(own)
    assert before["kind"] == "OwnFilter"
    assert before["version"].startswith("code:")
    assert identity_in_a_new_process(own) == before
    (own / "not_imported.py").write_text("x = 1\n")
    assert identity_in_a_new_process(own) == before
    (own / edited).write_text((own / edited).read_text() + "# another line\n")
    assert identity_in_a_new_process(own)["version"] != before["version"]


def test_a_version_of_its_own_stands_for_the_code(own: Path) -> None:
    text = (
        (own / "own_filter.py").read_text().replace("    limit", "    kind = 'filter/own'\n    version = 7\n    limit")
    )
    (own / "own_filter.py").write_text(text)
    assert identity_in_a_new_process(own) == {"kind": "filter/own", "version": 7}
    (own / "own_rules.py").write_text("LIMIT = 4\n")
    assert identity_in_a_new_process(own) == {"kind": "filter/own", "version": 7}


def test_a_subclass_does_not_pass_for_its_parent() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(DefaultFilter):
        pass

    assert identity(Mine())["kind"] != "filter/default"
    assert str(identity(Mine())["version"]).startswith("code:")


def test_a_module_that_is_moved_into_a_package_with_relative_imports_is_followed(tmp_path: Path) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cleaning.py").write_text("from . import lists\nfrom .lists import words\n\nclass Own:\n    pass\n")
    (package / "lists.py").write_text("words = 1\n")
    before = identity_in_a_new_process(tmp_path, "mine.cleaning.Own")
    (package / "lists.py").write_text("words = 2\n")
    assert identity_in_a_new_process(tmp_path, "mine.cleaning.Own") != before


def test_code_without_a_file_has_to_say_its_version() -> None:
    names: dict[str, Any] = {"__name__": "notebook"}
    exec("class Own: pass", names)
    with pytest.raises(ConfigError, match=r"Own has no source file, so .* or set version = 1 in the class"):
        class_identity(names["Own"])
    exec("class Named:\n    version = 2", names)
    assert class_identity(names["Named"]) == {"kind": "notebook.Named", "version": 2}


def test_an_option_that_came_later_is_no_part_of_an_id_at_its_default() -> None:
    @dataclass(frozen=True)
    class Component:
        kind = "filter/x"
        version = 1

        first: int = 1
        later: str = field(default="none", metadata=LATER)

    assert identity(Component()) == {"kind": "filter/x", "version": 1, "first": 1}
    assert identity(Component(later="all")) == {"kind": "filter/x", "version": 1, "first": 1, "later": "all"}
