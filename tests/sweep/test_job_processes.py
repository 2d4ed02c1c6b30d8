"""A job whose process dies is noted as failed, and the other jobs of the sweep run."""

import faulthandler
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mtx.app.search_launch import recorded_launch
from mtx.errors import ConfigError, JobFailedError
from mtx.process_group import end_group, interrupt_group
from mtx.records.job_status import LOCK_FILE, JobStatus, read_status, write_status
from mtx.sweep import job_processes
from mtx.sweep.job_processes import DIED, ProcessDiedError, has_died, in_child, launch_jobs


def begin(folder: Path) -> JobStatus:
    folder.mkdir(exist_ok=True)
    status = JobStatus.begin("hash", overrides=[], choices={})
    write_status(folder, status)
    return status


def complete(folder: Path) -> None:
    write_status(folder, begin(folder).end("completed", seconds=1.0))


def abort() -> None:
    os.abort()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def out_of_cpu_time() -> None:
    os.kill(os.getpid(), signal.SIGXCPU)


def exits() -> None:
    os._exit(3)


DEATHS = {abort: "SIGABRT", killed: "SIGKILL", segfault: "SIGSEGV", terminated: "SIGTERM", out_of_cpu_time: "SIGXCPU"}
DEATHS |= {exits: "itself, with exit code 3"}


def launcher(folders: Sequence[Path], deaths: dict[int, Callable[[], None]], log: Path) -> Any:
    """Return a launch that completes jobs one after the other, except for those that die."""

    def launch(rows: Sequence[Sequence[str]], first: int) -> list[Any]:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in range(first, first + len(rows)):
            with log.open("a") as file:
                file.write(f"{number} ")
            folder = folders[number]
            begin(folder)
            with FileLock(folder / LOCK_FILE):
                deaths.get(number, lambda: None)()
                complete(folder)
        return [None] * len(rows)

    return launch


def states(folders: Sequence[Path]) -> str:
    return " ".join(status.state if (status := read_status(folder)) else "missing" for folder in folders)


@pytest.mark.parametrize("death", DEATHS)
def test_the_other_jobs_run_after_a_death(death: Callable[[], None], tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    told: list[Path] = []
    launch = in_child(launcher(folders, {1: death}, tmp_path / "log"))
    launch_jobs(launch, [[]] * 4, folders, told=told.append)
    assert states(folders) == "completed failed completed completed"
    assert (tmp_path / "log").read_text() == "0 1 2 3 "
    assert told == [folders[1]]
    status = read_status(folders[1])
    assert has_died(status)
    assert str(status and status.error).startswith(f"{DIED}{DEATHS[death]}, often for lack of memory")
    assert not has_died(read_status(folders[0]))


@pytest.mark.parametrize("dying", [{0}, {3}, {0, 1}, {1, 3}, {0, 1, 2, 3}])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_any_jobs_may_die(dying: set[int], size: int | None, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    launch = in_child(launcher(folders, dict.fromkeys(dying, abort), tmp_path / "log"))
    launch_jobs(launch, [[]] * 4, folders, size=size)
    assert states(folders) == " ".join("failed" if number in dying else "completed" for number in range(4))


def test_jobs_that_are_passed_over_are_not_launched(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    launch_jobs(launcher(folders, {}, tmp_path / "log"), [[]] * 4, folders, passed_over={1})
    assert states(folders) == "completed missing completed completed"


def test_jobs_beside_one_that_broke_a_pool_run_again_alone(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    launches: list[tuple[int, int]] = []

    def pool(rows: Sequence[Sequence[str]], first: int) -> list[Any]:
        launches.append((first, len(rows)))
        if first == 0 and len(rows) == 4:  # job 1 dies, and takes job 2 with it
            complete(folders[0])
            begin(folders[1])
            begin(folders[2])
            raise BrokenProcessPool("a worker was terminated")
        if first == 1:
            begin(folders[1])
            raise BrokenProcessPool("a worker was terminated")
        for number in range(first, first + len(rows)):
            complete(folders[number])
        return []

    launch_jobs(pool, [[]] * 4, folders)
    assert launches == [(0, 4), (3, 1), (1, 1), (2, 1)]
    assert states(folders) == "completed failed completed completed"


@pytest.mark.parametrize("error", [ConfigError("no such key"), SystemExit(4), KeyboardInterrupt(), ValueError("x")])
def test_what_the_child_raises_is_raised(error: BaseException, tmp_path: Path) -> None:
    def launch(rows: Sequence[Sequence[str]], first: int) -> list[Any]:
        raise error

    with pytest.raises(type(error)) as raised:
        launch_jobs(in_child(launch), [[]], [tmp_path / "0"])
    assert raised.value.args == error.args


def test_an_exception_of_another_package_is_told_by_name(tmp_path: Path) -> None:
    class ForeignError(Exception):
        pass

    def launch(rows: Sequence[Sequence[str]], first: int) -> list[Any]:
        raise ForeignError("words")

    with pytest.raises(JobFailedError, match="ForeignError: words"):
        in_child(launch)([[]], 0)


@pytest.mark.parametrize(("name", "ended"), [("KeyboardInterrupt", [7]), ("SystemExit", [7]), ("ConfigError", [])])
def test_workers_of_the_launcher_end_with_a_sweep_that_is_stopped(
    name: str, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    monkeypatch.setattr(job_processes, "end_group", groups.append)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (pid, 0))
    with pytest.raises(BaseException) as raised:  # noqa: PT011  # the class is compared
        job_processes._result_of(7, io.BytesIO(json.dumps([name, []]).encode()), lambda: None)
    assert type(raised.value).__name__ == name
    assert groups == ended


def test_a_death_before_any_job_ends_the_sweep(tmp_path: Path) -> None:
    def launch(rows: Sequence[Sequence[str]], first: int) -> list[Any]:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()

    with pytest.raises(ProcessDiedError, match="SIGABRT"):
        launch_jobs(in_child(launch), [[]], [tmp_path / "0"])


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at the death of the parent is Linux's")
def test_a_child_dies_with_its_parent_and_ctrl_c_reaches_it(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path.cwd())!r})
from mtx.sweep.job_processes import in_child
def launch(rows, first):
    open({str(tmp_path / "pid")!r} + ".tmp", "w").write(str(os.getpid()))
    os.rename({str(tmp_path / "pid")!r} + ".tmp", {str(tmp_path / "pid")!r})
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        open({str(tmp_path / "stopped")!r}, "w").write("by Ctrl-C")
        raise
in_child(launch)([[]], 0)
"""
    for number in (signal.SIGINT, signal.SIGKILL):
        parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while not (tmp_path / "pid").exists():
            assert parent.poll() is None
        pid = int((tmp_path / "pid").read_text())
        (tmp_path / "pid").unlink()
        parent.send_signal(number)
        assert parent.wait(20) != 0
        while is_alive(pid):
            pass
    assert (tmp_path / "stopped").read_text() == "by Ctrl-C"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_search_is_given_what_the_jobs_recorded(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    told: list[Path] = []
    launch = in_child(launcher(folders, {1: abort}, tmp_path / "log"))
    search = recorded_launch(launch, lambda number: folders[number], told.append)
    first, second = search([["a=1"], ["a=2"]], 0)
    (third,) = search([["a=3"]], 2)
    assert [first.return_value, third.return_value] == [None, None]
    with pytest.raises(JobFailedError, match=f"{DIED}SIGABRT"):
        _ = second.return_value
    assert told == [folders[1]]
    write_status(folders[0], begin(folders[0]).end("completed", seconds=1.0, objectives={"loss": 0.5, "size": 2.0}))
    assert recorded_launch(lambda rows, at: [], lambda number: folders[0], told.append)([[]], 0)[0].return_value == (
        0.5,
        2.0,
    )


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs the list of processes in /proc")
def test_ctrl_c_reaches_the_jobs_of_a_group_but_not_a_process_that_waits_for_one() -> None:
    named = "echo; exec -a 'python -m submitit.local._local' sleep 60"
    with subprocess.Popen(["bash", "-c", named], process_group=0, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        with subprocess.Popen(["sleep", "60"], process_group=waiting.pid) as job:
            waiting.stdout.readline()
            interrupt_group(waiting.pid)
            assert job.wait(10) == -signal.SIGINT
        assert waiting.poll() is None
        end_group(waiting.pid)
        assert waiting.wait(10) == -signal.SIGTERM
