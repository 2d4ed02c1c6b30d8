"""How a fit shows itself while it works: in a log, on terminals of several widths, and when it is stopped."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fit_runs import FakeRun, alone, restored_sigint, started
from rich.cells import cell_len
from terminal_runs import in_terminal

import mtx.experiment.fit as fit_module
from mtx.experiment.fit_opening_and_summary import MAX_ROWS, METRIC, validation_rows
from mtx.training.progress_log_callback import TrainingLines

MTX = ("-m", "mtx", "task=fit")
SMALL = (
    *("downloader.n=300", "tokenizer.vocab_size=300", "datamodule.validation=8", "datamodule.test=5"),
    *("model.d_model=16", "model.num_heads=2", "model.num_encoder_layers=1", "model.num_decoder_layers=1"),
    *("model.dim_feedforward=16", "sampler.max_tokens=256", "trainer.accelerator=cpu", "trainer.val_check_interval=5"),
    *("task.scored_sentences=8", "task.translations=0"),
)
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"storage.root={tmp_path_factory.mktemp('progress')}/store"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_log_tells_all_of_a_fit_and_nothing_else_is_printed(tmp_path: Path, store: str) -> None:
    environment = {**os.environ, "MPLCONFIGDIR": f"{tmp_path}/empty", "OMP_NUM_THREADS": "1"}  # no cache of fonts
    done = subprocess.run(
        [sys.executable, *MTX, *SMALL, store, "budget.steps=12"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/*/*/mtx.log")
    assumed = [line for line in done.stdout.splitlines() if line.startswith("assumed: ")]
    assert "validation and test are neither filtered nor deduplicated" in assumed[0]
    log = path.read_text().splitlines(keepends=True)
    assert done.stderr == "".join(line for line in log if "assumed: " not in line)
    assert done.stderr.isascii()
    lines = done.stderr.splitlines()
    assert all(re.match(STAMP + r"(start|prepare|train|validate|translate|end) ", line) for line in lines)
    events = [re.sub(STAMP, "", line) for line in lines]
    folder = path.parent.relative_to(tmp_path)
    assert re.fullmatch(rf"start     mtx \S+ task=fit downloader.n=300 .* budget.steps=12 folder={folder}", events[0])
    (begin,) = [event for event in events if event.startswith("train     begin")]
    expected = r"model=TransformerTranslator parameters=\d+ device=cpu threads=1 pairs=\d+ budget.steps=12"
    assert re.fullmatch(rf"train     begin {expected}", begin)
    validations = [event.removesuffix(" best") for event in events if event.startswith("validate")]
    updates = [
        re.fullmatch(r"validate  update=(\d+) tokens=\d+ bits_per_byte=\d\.\d{3}", event) for event in validations
    ]
    assert [found and found[1] for found in updates] == ["0", "5", "10", "12"]
    assert any(
        re.fullmatch(r"train     done update=12 tokens=\d+ loss=\d\.\d{3} .*s=\d+\.\d", event) for event in events
    )
    assert next(event for event in events if event.startswith("translate")) == "translate 0/8"
    assert re.fullmatch(r"translate 8/8 bleu=[\d.]+ chrf=[\d.]+ s=\d+\.\d", events[-2])
    value = r"bits_per_byte=\d\.\d{3} report=" + str(folder / "report.json")
    assert re.fullmatch(rf"end       completed ended_by=budget.steps=12 {value} s=\d+\.\d", events[-1])
    labels = [line[:10].strip() for line in done.stdout.splitlines() if line not in assumed]
    assert [label for label in labels if label] == [
        *("data", "tokenizer", "batches", "model", "training", "result", "ended by", "kept", "continue", "report"),
        "page: " + done.stdout.rpartition("page: ")[2][:4],
    ]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("columns", [80, 100])
def test_a_budget_fills_a_bar_that_fits_the_terminal(tmp_path: Path, store: str, columns: int) -> None:
    code, lines, _ = in_terminal([*MTX, *SMALL, store, "budget.seconds=1"], columns=columns, folder=tmp_path)
    assert code == 0, lines
    assert not [line for line in lines if re.match(STAMP, line)]  # the log has these
    bars = [line for line in lines if "━" in line]
    assert all(cell_len(line) <= columns for line in bars)
    cells = {80: 10, 100: 20}[columns]
    training = [re.fullmatch(rf"training [━╸╺]{{{cells}}}  (\d)/1 s  (\S+) left(  .*)?", line) for line in bars]
    found = [match for match in training if match]
    assert len(found) == sum(line.startswith("training") for line in bars)
    done = [int(match[1]) for match in found]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 1)
    assert found[-1][2] == "0:00"
    assert re.match(r"  loss \d\.\d{3}  [\d.]+( k)? tokens/s", found[-1][3])
    assert any(re.fullmatch(r"translating ━+  8/8 sentences  0:00 left.*", line) for line in bars)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ctrl_c_leaves_no_bar_and_the_log_says_what_ended_it(tmp_path: Path, store: str) -> None:
    sent = []

    def stop(process: int, written: str) -> None:
        if not sent and "loss" in written:
            sent.append(True)
            os.kill(process, signal.SIGINT)

    code, lines, written = in_terminal(
        [*MTX, *SMALL, store, "budget.seconds=600"], columns=80, folder=tmp_path, watch=stop
    )
    assert code == 130
    (path,) = tmp_path.glob("outputs/*/*/mtx.log")
    stopped, end = re.sub(STAMP, "", path.read_text()).splitlines()[-2:]
    assert re.fullmatch(r"train     stopped by=KeyboardInterrupt update=\d+ tokens=\d+", stopped)
    assert re.fullmatch(r"end       interrupted by=KeyboardInterrupt s=\d+\.\d", end)
    after = written[written.rindex("━") :]
    assert "\x1b[2K" in after  # the bar is cleared
    assert "mtx: stopped." in lines[-1]


@pytest.fixture
def alone_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from alone(monkeypatch, tmp_path)


@pytest.mark.usefixtures("alone_here")
def test_a_run_that_fails_says_so_in_its_last_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "mtx.progress")
    with restored_sigint(), pytest.raises(KeyboardInterrupt):
        started(FakeRun(tmp_path / "out", model={"_target_": "fit_runs.Interrupted"}))
    told = [record.getMessage() for record in caplog.records if record.name == "mtx.progress"]
    assert told[-1] == "train     stopped by=KeyboardInterrupt update=3 tokens=46"


@pytest.mark.usefixtures("alone_here")
def test_training_has_a_line_whenever_the_time_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "mtx.progress")
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(
        fit_module,
        "TrainingLines",
        lambda record, metric: TrainingLines(record, metric=metric, every_s=1, clock=lambda: float(next(seconds))),
    )
    started(
        FakeRun(
            tmp_path / "out",
            budget={"real_tokens": 70},
            trainer={"max_steps": -1, "max_epochs": -1, "val_check_interval": 100},
        )
    )
    told = [record.getMessage() for record in caplog.records if record.name == "mtx.progress"]
    shares = [re.match(r"train     (\d+)% update=(\d+) tokens=(\d+) loss=", line) for line in told]
    done = [tuple(map(int, match.groups())) for match in shares if match]
    assert done == [(21, 1, 15), (46, 2, 32), (66, 3, 46), (89, 4, 62), (100, 5, 80)]
    assert all(
        "tokens_per_s=" in line and "padding=" in line and "left_s=" in line
        for line, match in zip(told, shares, strict=True)
        if match
    )


def test_the_table_of_validations_has_few_rows_with_the_first_the_best_and_the_last() -> None:
    values = [5.0 - 0.01 * step for step in range(90)] + [4.5] * 10
    validations = [{"step": i, "real_tokens": 10 * i, "seconds": i, METRIC: value} for i, value in enumerate(values)]
    header, *rows = validation_rows(validations, [[10, 6.0], [50, 5.5]])
    steps = [int(row[0]) for row in rows]
    assert len(rows) <= MAX_ROWS
    assert steps == sorted(set(steps))
    assert {0, 89, 99} <= set(steps)
    assert [row[0] for row in rows if row[-1] == "best"] == ["89"]
    assert max(b - a for a, b in pairwise(steps)) <= 6
    assert [row[3] for row in rows if int(row[0]) in (0, 99)] == ["-", "5.500"]
    assert len({len(row) for row in [header, *rows]}) == 1


def test_without_validations_there_is_no_table() -> None:
    assert validation_rows([], []) == []
    assert validation_rows([{"step": 0, "val/other": 1.0}], []) == []
