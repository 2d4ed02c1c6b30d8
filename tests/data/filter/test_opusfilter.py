"""Configs of OpusFilter and OpusCleaner: what is read, in which order it applies, and what is refused."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.components.identity import identity
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.filter.opusfilter import OpusFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.errors import ConfigError

PAIRS = pa.table(
    {
        "src": pa.array(["One.", "one!", "a b c", "", "one"], pa.large_string()),
        "tgt": pa.array(["Eins.", "eins", "a", "x", "eins"], pa.large_string()),
        "number": [0, 1, 2, 3, 4],
    }
)
STEPS = """
common:
  output_directory: work
  constants: {most: 2, raw: corpus}
steps:
  - type: opus_read
    parameters: {corpus_name: X, src_output: corpus.en, tgt_output: corpus.de}
  - type: remove_duplicates
    parameters:
      inputs: [!varstr "{raw}.en", !varstr "{raw}.de"]
      outputs: [unique.en, unique.de]
      letters_only: true
      lowercase: true
      hash: xxh64
  - type: filter
    parameters:
      inputs: [unique.en, unique.de]
      outputs: [kept.en, kept.de]
      filters:
        - LengthRatioFilter: {threshold: !var most}
        - LengthFilter: {name: short}
        - LengthFilter:
"""


def made(tmp_path: Path, text: str, name: str = "config.yaml", **options: Any) -> OpusFilter:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return OpusFilter(path=str(path), **options)


def one_step(filters: str, **parameters: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in parameters.items())
    return f"steps:\n  - {{type: filter, parameters: {{inputs: [a, b], outputs: [c, d], filters: [{filters}]{more}}}}}"


def kept(keeper: OpusFilter, pairs: Any = PAIRS) -> tuple[list[int], dict[str, int]]:
    dropped: dict[str, int] = {}
    return [row for batch in keeper.apply(pairs, dropped) for row in batch["number"].to_pylist()], dropped


def test_the_steps_apply_in_their_order_and_each_drop_counts_once(tmp_path: Path) -> None:
    assert kept(made(tmp_path, STEPS)) == (
        [0],
        {"remove_duplicates": 2, "LengthRatioFilter": 2},  # "one!" and "one" equal "One."; an empty side, 3 to 1 words
    )


def test_the_chunks_of_the_stream_do_not_matter(tmp_path: Path) -> None:
    keeper = made(tmp_path, STEPS)
    assert kept(keeper, iter(PAIRS.to_batches(max_chunksize=1))) == kept(keeper)
    assert kept(keeper, PAIRS.slice(0, 0)) == ([], {})


def test_duplicates_are_judged_among_the_pairs_that_the_rules_before_keep(tmp_path: Path) -> None:
    text = (
        one_step("{LengthFilter: {unit: char, min_length: 4}}")
        + """
  - {type: remove_duplicates, parameters: {inputs: [c, d], outputs: [e, f], compare: [1], lowercase: true}}
"""
    )
    assert kept(made(tmp_path, text)) == ([0, 1], {"LengthFilter": 3})  # row 4 would be a duplicate, but is too short


def test_the_funnel_says_what_each_rule_drops_alone(tmp_path: Path) -> None:
    counts = DropCounts()
    list(made(tmp_path, one_step("{LengthFilter: {}}, {LengthRatioFilter: {}}")).apply(PAIRS, counts))
    assert counts.funnel is not None
    rules: Any = counts.funnel.as_json()["rules"]
    assert {name: (rule["dropped_in_order"], rule["dropped_alone"]) for name, rule in rules.items()} == {
        "LengthFilter": (1, 1),
        "LengthRatioFilter": (1, 2),  # the empty side has the ratio infinity, and 3 words to 1 are not below 3
    }
    assert rules["LengthRatioFilter"]["criteria"] == {"threshold": 3, "unit": "word"}


def test_drops_are_counted_by_source_and_the_names_of_rules_are_known(tmp_path: Path) -> None:
    keeper, counts = made(tmp_path, STEPS), DropCounts(2)
    pairs = PAIRS.append_column("source", pa.array([0, 0, 1, 1, 1], pa.uint16()))
    list(keeper.for_mixture(["news", "web"]).apply(pairs, counts))
    assert counts.funnel is not None
    parts: Any = counts.funnel.as_json()["parts"]
    assert parts["source"]["news"] == {"num_pairs": 2, "num_kept": 1, "dropped": {"remove_duplicates": 1}}
    assert {"remove_duplicates", "LengthRatioFilter"} < set(keeper.reasons)
    rules = {"LengthRatioFilter": {"column": "source_chars", "max": 9}}
    with pytest.raises(ConfigError, match=r"filter\.rules\.LengthRatioFilter and filter\.before both count dropped"):
        SelectionFilter(before=keeper, rules=rules)


def test_the_identity_is_that_of_the_rules_and_not_of_the_file(tmp_path: Path) -> None:
    first = made(tmp_path, one_step("{LengthFilter: {max_length: .inf}}"), "a.yaml")
    same = made(tmp_path, "# moved\n" + one_step("{LengthFilter: {max_length: .inf, min_length: 1}}"), "b.yaml")
    assert identity(first) == identity(same) == identity(pickle.loads(pickle.dumps(first)))
    json.dumps(identity(first), allow_nan=False)
    assert identity(first) != identity(made(tmp_path, one_step("{LengthFilter: {max_length: 5}}"), "c.yaml"))


def test_a_selection_can_follow(tmp_path: Path) -> None:
    keeper = SelectionFilter(before=made(tmp_path, STEPS), rules={"source_chars": {"min": 5}})
    dropped: dict[str, int] = {}
    list(keeper.apply(PAIRS, dropped))
    assert dropped == {"remove_duplicates": 2, "LengthRatioFilter": 2, "source_chars": 1}


def test_a_pipeline_of_opuscleaner_is_read(tmp_path: Path) -> None:
    filters = [
        {"filter": "remove_empty_lines", "parameters": {}, "language": None},
        {"filter": "opus.LengthRatioFilter", "parameters": {"threshold": 3, "unit": "word"}},
        {"filter": "src_trg_ratio", "parameters": {"RATIO": 0.6, "LOG": False}},
        {"filter": "opus.AverageWordLengthFilter", "parameters": {}},
    ]
    text = json.dumps({"version": 1, "files": ["x.en.gz"], "filters": filters})
    keeper = made(tmp_path, text, "x.filters.json")
    assert kept(keeper) == ([0, 1, 4], {"remove_empty_lines": 1, "LengthRatioFilter": 1})
    assert identity(keeper)["rules"][3] == [  # type: ignore[index]  # a list
        "AverageWordLengthFilter",
        {"min_length": 1, "max_length": 100, "pass_empty": False},  # OpusCleaner's defaults
    ]


UNSUPPORTED = (
    one_step("{LangidFilter: {languages: [en, de]}}, {LengthFilter: {}}, {Mine: {}, module: os}")
    + """
  - {type: preprocess, parameters: {inputs: [c, d], outputs: [e, f]}}
  - {type: filter, parameters: {inputs: [e, f], outputs: [g, h], filterfalse: true, filters: [{LengthFilter: {}}]}}
  - {type: "head\\e[31m", parameters: {}}
"""
)


def test_what_mtx_does_not_have_is_listed_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        made(tmp_path, UNSUPPORTED)
    said = str(error.value).splitlines()
    assert said[0].endswith("config.yaml has 5 rules or steps that mtx does not apply:")
    assert said[1:-1] == [
        "  step 1 (filter): LangidFilter: 'score=[language]' with filter=selection judges the languages",
        "  step 1 (filter): Mine: mtx imports no module that a config names; write a rule with @mtx.rule",
        "  step 2 (preprocess): preprocess: normalise=steps changes texts",
        "  step 3 (filter): filter: mtx does not have its parameter filterfalse",
        "  step 4 ('head\\x1b[31m'): 'head\\x1b[31m': mtx has no such step",
    ]
    assert said[-1] == "To leave them out, set filter.unsupported=skip"


def test_what_mtx_does_not_have_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        keeper = made(tmp_path, UNSUPPORTED, unsupported="skip")
    assert "5 rules or steps that mtx does not apply, and 1 that it applies:" in caplog.text
    assert kept(keeper) == ([0, 1, 2, 4], {"LengthFilter": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "is not valid YAML: "),
        ("a: !!python/object/apply:os.system [id]", "is not valid YAML: the error is at line 1, column 4"),
        ("[1]", "is no config of OpusFilter, which is a mapping with a list under the key steps"),
        ("steps: [1]", "step 1 of"),
        ("steps: [{type: filter, parameters: {filters: 3}}]", "filters must be a list of mappings"),
        ("steps: [{type: filter, parameters: {filters: [{A: {}, B: {}}]}}]", "with one key, but one has 2"),
        ("steps: [{type: filter, parameters: {filters: [{A: !var b}]}}]", "uses the constant 'b', which the config"),
        (one_step("{LengthFilter: {maxlength: 3}}"), "step 1 (filter): LengthFilter.maxlength is not a parameter of"),
        (
            one_step("{LengthFilter: {max_length: long}}"),
            "LengthFilter.max_length is a number or a list, but is 'long'",
        ),
        (one_step("{LengthFilter: {max_length: [1, 2, 3]}}"), "LengthFilter.max_length has 3 values, but a pair has"),
        (one_step("{LengthFilter: [1]}"), "the parameters of LengthFilter must be a mapping"),
        (one_step("{CharacterScoreFilter: {}}"), "CharacterScoreFilter.scripts is required"),
        (one_step("{LengthFilter: {name: 'a b'}}"), "the name must have at most 60 letters"),
        ("x" * (1 << 18) + "x", "has more than 262,144 bytes"),
        ("[" * 100_000, "is not valid YAML: "),
    ],
)
def test_an_invalid_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        made(tmp_path, text)
    assert message in str(error.value)
    assert len(str(error.value)) < 600


def test_nested_aliases_are_bounded(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    text = "\n".join(lines) + "\nsteps: [{type: filter, parameters: {filters: *a11}}]"
    with pytest.raises(ConfigError, match="has more than 10000 values"):
        made(tmp_path, text)
    merged = ["b0: &b0 {x: 1}"] + [f"b{k}: &b{k} {{<<: [{', '.join([f'*b{k - 1}'] * 10)}]}}" for k in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 10000 keys"):
        made(tmp_path, "\n".join(merged) + "\nsteps: []")


def test_steps_that_form_no_chain_are_refused_and_can_be_chosen(tmp_path: Path) -> None:
    text = (
        one_step("{LengthFilter: {min_length: 2}}")
        + """
  - {type: filter, parameters: {inputs: [a, b], outputs: [e, f], filters: [{LengthRatioFilter: {}}]}}
"""
    )
    with pytest.raises(ConfigError) as error:
        made(tmp_path, text)
    assert "step 2 reads text that no step has filtered, not the output of step 1" in str(error.value)
    assert "'filter.steps=[2]'" in str(error.value)
    assert kept(made(tmp_path, text, steps=[2]))[1] == {"LengthRatioFilter": 2}
    with pytest.raises(ConfigError, match="has the steps 1 to 2"):
        made(tmp_path, text, steps=[3])


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"filter.path=.*none.yaml cannot be read: No such file"):
        OpusFilter(path=str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        OpusFilter(path=str(tmp_path))
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        OpusFilter(path=str(tmp_path / "x.yaml"))
    with pytest.raises(ConfigError, match=r"filter.steps chooses steps of OpusFilter"):
        made(tmp_path, '{"filters": []}', "x.json", steps=[1])
