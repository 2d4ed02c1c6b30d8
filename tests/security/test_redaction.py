"""Foreign text on terminals and in logs: no controls, no markup, no credentials; through the real command line."""

import json
import logging
import re
from pathlib import Path

import pytest
from command_line import Mtx
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.app.override_errors import check_no_secret
from mtx.errors import ConfigError, MtxError, NotStoredError, SourceError
from mtx.experiment.run_context import Run
from mtx.progress.literal_console import PlainConsole
from mtx.redaction_and_escaping import (
    HIDDEN_TEXT,
    INVISIBLE,
    PlainFormatter,
    redacted_json,
    redacted_text,
    visible_text,
)

CLEAR = "\x1b[2J"
TITLE = "\x1b]0;owned\x07"
C1 = "\x9b31m"
TURNED = "\u202egnp.exe"
HOSTILE = f"{CLEAR}{TITLE}{C1}{TURNED}\u2066\u2028\r\x00\x7f\x08[red]x[/red][link=http://evil]y[/link]:smile:"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "store"))


def controls(text: str) -> set[str]:
    """Hostile controls in a text. The tool's own colours are no such: they are the digits and `m` of SGR."""
    return set(INVISIBLE.findall(re.sub(r"\x1b\[[0-9;]*m", "", text)))


def test_controls_become_visible_and_letters_stay() -> None:
    assert visible_text("a\x1b[31mb\x9bc\u202ed\r\x00") == "a\\x1b[31mb\\x9bc\\u202ed\\x0d\\x00"
    kept = "ä e\u0301 \u200d \u200f ש ع 日本 👩\u200d👩\u200d👧 \t\n\ufeff"
    assert visible_text(kept) == kept
    assert visible_text("\ud800") == "\\ud800"


@settings(deadline=None)
@given(st.text(alphabet=st.characters()))
def test_whatever_comes_what_is_shown_can_be_printed(text: str) -> None:
    told = visible_text(text)
    told.encode()
    assert not INVISIBLE.search(told)
    assert visible_text(told) == told


@pytest.mark.parametrize("kind", [MtxError, SourceError, ConfigError, NotStoredError])
def test_the_message_of_every_error_is_safe_to_print(kind: type[MtxError]) -> None:
    told = str(kind(f"there is no column {HOSTILE} at https://me:pass/word@host"))
    assert not INVISIBLE.search(told)
    assert "[red]x" in told
    assert "pass/word" not in told


def test_logs_hold_no_controls_and_no_credentials() -> None:
    record = logging.LogRecord("x", 20, "f", 1, "the %s split at %s", (HOSTILE, "s3://key:se/cret@b"), None)
    told = PlainFormatter("%(message)s").format(record)
    assert not INVISIBLE.search(told)
    assert f"s3://{HIDDEN_TEXT}@b" in told


def test_tables_titles_and_lines_show_markup_and_controls_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    console = PlainConsole(force_terminal=True, width=200)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    console.print(HOSTILE, highlight=False)
    out = capsys.readouterr().out
    assert controls(out) == set()
    assert out.count("[link=http://evil]") == 4
    assert out.count(":smile:") == 4
    assert "\x1b]8;" not in out


def test_a_corpus_with_a_hostile_name_is_prepared_and_listed_without_its_controls(mtx: Mtx, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = [{"src": f"line {i} is a sentence", "tgt": f"Zeile {i} ist ein Satz"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    name = f"news{CLEAR}[red]{TURNED}"
    corpus = ["downloader=local", f"downloader.path={path}", "tokenizer=byte", f'downloader.name="{name}"']
    made = mtx("task=prepare", "datamodule.validation=0.2", *corpus)
    assert made.code == 0, made.err
    listed = mtx("task=show")
    assert listed.code == 0, listed.err
    for out in (made.out, made.err, listed.out, listed.err):
        assert controls(out) == set()
        assert CLEAR not in out
    assert "[red]" in made.out.replace("\n", "")


@pytest.mark.parametrize("column", [f"{CLEAR}src", "[link=http://evil]src[/link]", TURNED])
def test_column_names_in_a_refusal_are_shown_not_run(mtx: Mtx, tmp_path: Path, column: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({column: "a", "b": "c"}) + "\n")
    told = mtx("downloader=local", f"downloader.path={path}")
    assert told.code == 1
    assert "present: " in told.err
    assert controls(told.err) == set()
    assert CLEAR not in told.err
    assert visible_text(column) in told.err


def test_corpus_text_in_a_refusal_is_shown_not_run(mtx: Mtx, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"src": "a", "tgt": "b"}\n' + HOSTILE.replace("\n", "").encode() + b"\n")
    told = mtx("downloader=local", f"downloader.path={path}")
    assert told.code == 1
    assert "line 2" in told.err
    assert controls(told.err) == set()


def test_an_override_that_cannot_be_parsed_is_shown_not_run(mtx: Mtx) -> None:
    told = mtx(f"sampler=bu{CLEAR}cket")
    assert told.code == 1
    assert CLEAR not in told.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://me:pass@host/x", f"https://{HIDDEN_TEXT}@host/x"),
        ("s3://AKIAABCDEFGHIJKLMNOP:ab/cd+ef@bucket/x", f"s3://{HIDDEN_TEXT}@bucket/x"),
        ("git+https://token@host/x", f"git+https://{HIDDEN_TEXT}@host/x"),
        ("http://localhost:8080/repo@main", "http://localhost:8080/repo@main"),
        ("https://host/name@example.org", "https://host/name@example.org"),
        ("token hf_abcdefghijklmnopqrstuv rest", f"token {HIDDEN_TEXT} rest"),
        ("AKIAABCDEFGHIJKLMNOP", HIDDEN_TEXT),
        ("secret=abc next", f"secret={HIDDEN_TEXT} next"),
        ("+model.api_key=${oc.env:KEY} next", "+model.api_key=${oc.env:KEY} next"),
        ('"password": "abc", "n": 1', f'"password": "{HIDDEN_TEXT}", "n": 1'),
        ("Authorization: Bearer abcdefgh12345", f"Authorization: Bearer {HIDDEN_TEXT}"),
        ("https://b/x?X-Amz-Signature=abc&y=1", f"https://b/x?X-Amz-Signature={HIDDEN_TEXT}&y=1"),
        ("tokenizer.pad_token=<PAD> sampler.max_tokens=4096", "tokenizer.pad_token=<PAD> sampler.max_tokens=4096"),
        ("mail a@b.c, storage.root=s3://bucket/a", "mail a@b.c, storage.root=s3://bucket/a"),
    ],
)
def test_credentials_are_hidden_and_what_is_none_stays(text: str, told: str) -> None:
    assert redacted_text(text) == told
    assert redacted_text(told) == told


def test_values_of_secret_variables_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "value-of-it/9")
        assert redacted_text("x=value-of-it/9!") == f"x={HIDDEN_TEXT}!"
        monkeypatch.delenv(name)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "value-of-it/9")
    monkeypatch.setenv("HF_TOKEN", "short")
    assert redacted_text("value-of-it/9 short") == "value-of-it/9 short"


def test_a_report_holds_no_credentials(tmp_path: Path) -> None:
    report = {"store": "s3://key:secret@bucket", "n": [1, None, {"a": "https://u:p@h"}], "password": None}
    run = Run({"seed": 0}, output_dir=tmp_path)
    written = json.loads(run.write_report(report).read_text())
    hidden = {
        "store": f"s3://{HIDDEN_TEXT}@bucket",
        "n": [1, None, {"a": f"https://{HIDDEN_TEXT}@h"}],
        "password": None,
    }
    assert written == {"report_version": 2, **hidden}
    assert redacted_json(report) == hidden


@pytest.mark.parametrize("override", ["+downloader.url=s3://key:se/cret@bucket", "+x=hf_abcdefghijklmnopqrstuv"])
def test_an_override_with_a_credential_is_refused_before_anything_is_written(
    mtx: Mtx, tmp_path: Path, override: str
) -> None:
    told = mtx(override)
    assert told.code == 1
    assert "contains a credential, at ***. Overrides are stored" in told.err
    for secret in ("se/cret", "hf_abc"):
        assert secret not in told.err + told.out
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="such as HF_TOKEN, AWS_ACCESS_KEY_ID"):
        check_no_secret([override])
