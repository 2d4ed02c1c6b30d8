"""`task=show dataset=… row=…`: one pair, from any stage back to its line, and on to the rule that drops it."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx

LINES = [("Ein  Haus.", "A house."), ("", "Nothing."), ("Wort \x1b[31m", "Word"), ("Ein  Haus.", "A house.")]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtx: Mtx) -> list[str]:
    """Prepare a corpus of 24 pairs, and return the arguments of the corpus. Its line 3 is blank."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))
    pairs = LINES + [(f"Satz {number}.", f"Sentence {number}.") for number in range(20)]
    lines = [json.dumps({"src": source, "tgt": target, "domain": "x"}) for source, target in pairs]
    Path("corpus.jsonl").write_text("\n".join([*lines[:2], "", *lines[2:]]))
    corpus = ["downloader=local", "downloader.path=corpus.jsonl", "downloader.columns=[domain]"]
    done = mtx(
        "task=prepare",
        *corpus,
        "tokenizer=byte",
        "score=[rules]",
        "filter=selection",
        "filter.rules.length_z.min=null",
        "filter.rules.digits.min=null",
        "+filter.rules.long.column=target_chars",
        "+filter.rules.long.max=11",
        "normalise=steps",
        "normalise.steps=[whitespace]",
    )
    assert done.code == 0, done.err
    assert done.report["changed_by_step"] == {"whitespace": 2}
    return corpus


def shown(mtx: Mtx, *arguments: str) -> dict[str, Any]:
    told = mtx("task=show", *arguments, "format=json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert isinstance(found, dict)
    return found


def test_a_row_is_followed_back_and_on(prepared: list[str], mtx: Mtx) -> None:
    first = shown(mtx, "dataset=corpus", "stage=text", "row=0", *prepared)
    assert (first["raw_row"], first["raw_source"], first["source"]) == (0, "Ein  Haus.", "Ein Haus.")
    assert first["columns"] == {"domain": "x"}
    assert first["origin"] == {"files": ["corpus.jsonl"], "line": 1}
    (scores,) = first["scores"].values()
    assert scores["rules.letters"] == pytest.approx(6 / 7)  # of "A house." and "Ein Haus."
    assert [name.partition("-")[0] for name in first["kept_in"]] == ["split", "filtered"]

    (filtered,) = [name for name in first["kept_in"] if name.startswith("filtered")]
    back = shown(mtx, f"dataset={filtered}", f"row={first['kept_in'][filtered]}")
    assert (back["raw_row"], back["kept_in"]) == (0, first["kept_in"])
    assert back["origin"]["reason"].startswith("no line is stored. To read the files again, add the downloader=…")

    reasons = [list(shown(mtx, "dataset=corpus", "stage=raw", f"row={row}")["dropped_in"].values()) for row in (1, 3)]
    assert reasons == [["empty_source"], ["duplicate"]]
    late = shown(mtx, "dataset=corpus", "stage=encoded", "row=23", *prepared)
    assert late["origin"]["line"] == 25
    assert list(late["dropped_in"].values()) == ["long"]

    told = mtx("task=show", "dataset=corpus", "stage=text", "row=2")
    assert "\\x1b[31m" in told.out
    assert "\x1b[31m" not in told.out

    for arguments, message in [
        (["dataset=corpus", "stage=text", "row=24"], "has no row 24. Its rows: 0 to 23. Set row=NUMBER"),
        (["dataset=corpos", "row=0"], "there is no dataset 'corpos'. There are: corpus, "),
        (["dataset=corpus", "row=0"], "datasets are called corpus. Give one of their ids with dataset=ID: encoded-"),
        (["row=0"], "task=show shows one row by both: mtx task=show dataset=ID row=0"),
        (["dataset=corpus", "row=-1"], "row is an integer of at least 0, or null, but is -1"),
    ]:
        told = mtx("task=show", *arguments)
        assert told.code == 1, arguments
        assert message in told.err
    other = shown(mtx, "dataset=corpus", "stage=raw", "row=0", *prepared, "downloader.n=5")
    assert other["origin"]["reason"].startswith("the downloader of this command reads other files")
