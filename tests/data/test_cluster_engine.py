"""Engines on the workers of a library: the contract of an engine, deaths of workers, and checks of the workers."""

import importlib.metadata
import logging
import os
import pickle
import platform
import socket
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mtx.data import cluster_engine, cluster_worker
from mtx.data.cluster_engine import ClusterEngine, host_and_port
from mtx.data.cluster_worker import Answer, WorkerSetup, own_versions, run_task
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.task_cluster import ClusterLostError, WorkersEndedError
from mtx.errors import ConfigError, MtxError, StoreError


class FakeCluster:
    """Runs each task when its answer is read, the later of two first. `deaths` counts down those at an item."""

    def __init__(self, *, deaths: dict[int, int] | None = None, is_own: bool = True) -> None:
        self.is_own = is_own
        self.deaths = deaths or {}
        self.submitted: list[int] = []
        self.most = self.unfinished = 0
        self.answers: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None
        self.workers = 2
        self.is_closed = False

    def num_workers(self) -> int:
        return self.workers

    def submit(self, payload: bytes, item: bytes, setup: WorkerSetup) -> tuple[int, bytes, bytes, WorkerSetup]:
        self.submitted.append(pickle.loads(item))
        self.unfinished += 1
        self.most = max(self.most, self.unfinished)
        return len(self.submitted), payload, item, setup

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        return sorted(handles, reverse=True)

    def answer(self, handle: Any) -> Answer:
        _, payload, item, setup = handle
        self.unfinished -= 1
        number = pickle.loads(item)
        if self.error is not None:
            raise self.error
        if self.deaths.get(number, 0) > 0:
            self.deaths[number] -= 1
            raise WorkersEndedError(1)
        return run_task(payload, item, replace(setup, is_own=False))

    def run_on_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        found = {}
        for worker, given in (self.answers or {"here": {}}).items():
            name = arguments[0] if function is importlib.metadata.version else function.__name__
            try:
                found[worker] = given[name] if name in given else function(*arguments)
            except Exception as error:
                found[worker] = error
        return found

    def close(self) -> None:
        self.is_closed = True


class FakeEngine(ClusterEngine):
    library: ClassVar[str] = "fake"
    extra: ClassVar[str] = "fake"
    package: ClassVar[str] = "json"
    start_hint: ClassVar[str] = "a cluster with fake start"

    def __init__(self, cluster: FakeCluster, address: str | None = None, workers: int | None = None) -> None:
        self.workers, self.address, self.timeout_s = workers, address, 0.5
        self.fake = cluster
        self.__post_init__()

    def check_reachable(self) -> None:
        if self.address != "here:1":
            super().check_reachable()

    def _connected(self) -> FakeCluster:
        return self.fake


@pytest.fixture(scope="module")
def dask_threads() -> Iterator[Engine]:
    """An engine of Dask whose workers are threads of this process, so that they start at once."""
    distributed = pytest.importorskip("distributed", reason="NOT TRIED: distributed is not installed")
    from mtx.data.dask_engine import DaskCluster, DaskEngine

    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}
    with distributed.LocalCluster(n_workers=2, **options) as cluster:
        engine = DaskEngine()
        engine._cluster = DaskCluster(distributed.Client(cluster, set_as_default=False))
        yield engine
        engine.close()


@pytest.fixture(params=["fake", "dask", "in_process"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine; `engine=local` has tests of its own, and scripts/bench_engines tries `engine=ray`."""
    if request.param == "dask":
        made: Engine = request.getfixturevalue("dask_threads")
        return made
    return FakeEngine(FakeCluster()) if request.param == "fake" else InProcessEngine()


def squared(number: int) -> int:
    if number == 7:
        logging.getLogger("a.task").warning("seven")
    if number < 0:
        raise ValueError(f"negative: {number}")
    return number**2


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_engine_yields_results_in_order_raises_errors_and_can_be_cancelled(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert list(engine.map(squared, range(9))) == [number**2 for number in range(9)]
    assert "seven" in caplog.messages
    assert list(engine.map(squared, [])) == []
    results = engine.map(squared, [1, 2, -3, 4])
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(ValueError, match="negative: -3"):
        next(results)
    done = []
    for result in engine.map(squared, range(30)):
        done.append(result)
        engine.cancel()
    assert 1 <= len(done) < 10
    assert done == [number**2 for number in range(len(done))]
    assert list(engine.map(squared, range(3))) == [0, 1, 4], "a cancelled engine runs the next stage"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_dask_waits_for_a_task_instead_of_asking_again_and_again(
    dask_threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.data.dask_engine.WAIT_S", 60)
    cluster = dask_threads._cluster
    future = cluster._client.submit(time.sleep, 0.2, pure=False)
    assert cluster.wait([future]) == [future]


def test_each_worker_has_one_task_and_after_an_error_no_later_task_starts() -> None:
    cluster = FakeCluster()
    assert list(FakeEngine(cluster).map(squared, range(20))) == [number**2 for number in range(20)]
    assert cluster.most == 2
    with pytest.raises(ValueError, match="negative: -1") as raised:
        list(FakeEngine(cluster := FakeCluster()).map(squared, [5, -1, *range(20)]))
    assert len(cluster.submitted) < 5
    assert cluster.unfinished == 0
    assert "The task ran in a worker of engine=fake" in raised.value.__notes__[0]
    shared = FakeCluster(is_own=False)
    list(FakeEngine(shared, "here:1").map(squared, range(20)))
    assert shared.most == 4, "two for each worker"
    shared.most = 0
    list(FakeEngine(shared, "here:1", workers=3).map(squared, range(20)))
    assert shared.most == 3


def test_the_task_of_a_worker_that_ends_is_repeated_three_times_at_most(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(deaths={3: 2, 5: 1})
    assert list(FakeEngine(cluster).map(squared, range(8))) == [number**2 for number in range(8)]
    assert sorted(cluster.submitted) == [0, 1, 2, 3, 3, 3, 4, 5, 5, 6, 7]
    assert caplog.messages.count("a worker of engine=fake has ended; another one repeats its task") == 3
    with pytest.raises(StoreError, match=r"3 workers of engine=fake ended at the same task\. .* set engine\.workers=1"):
        list(FakeEngine(FakeCluster(deaths={3: 3})).map(squared, range(8)))


def test_a_cluster_that_ends_is_an_error_that_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    cluster.error = ClusterLostError("the connection is closed")
    with pytest.raises(StoreError, match=r"engine=fake has ended during a stage: the connection is closed\. .* again"):
        list(FakeEngine(cluster).map(squared, range(8)))
    assert cluster.is_closed
    monkeypatch.setattr(cluster_engine, "NO_WORKER_S", 0.0)
    cluster = FakeCluster()
    cluster.workers = 0
    with pytest.raises(StoreError, match=r"all workers of engine=fake have ended, and none has started for 0 s\. Type"):
        list(FakeEngine(cluster).map(squared, range(8)))


def test_when_the_caller_stops_early_the_cluster_is_closed() -> None:
    engine = FakeEngine(cluster := FakeCluster())
    results = engine.map(squared, range(8))
    next(results)
    results.close()
    assert cluster.is_closed
    assert engine._cluster is None


def pid_of(*given: object) -> str:
    return str(os.getpid())


def generator_of(number: int) -> object:
    return (line for line in [str(number)])


def test_what_cannot_be_sent_runs_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(FakeCluster())
    unsendable = generator_of(1)
    assert list(engine.map(partial(pid_of, unsendable), [1, 2])) == [str(os.getpid())] * 2
    assert list(engine.map(pid_of, [1, unsendable])) == [str(os.getpid())] * 2
    assert [next(each) for each in engine.map(generator_of, [1, 2])] == ["1", "2"]
    lines = [line.split(":")[0] for line in caplog.messages]
    end = "runs in this process, because it cannot be sent to or from a worker of engine=fake"
    assert lines == [f"a stage {end}", *[f"a task {end}"] * 3]


def test_workers_with_other_versions_are_named_before_a_task_runs(tmp_path: Path) -> None:
    cluster = FakeCluster(is_own=False)
    cluster.answers = {
        "one:1": {},
        "two:1": {"numpy": "1.0", "python_version": "3.9.1"},
        "two:2": {"numpy": "1.0", "python_version": "3.9.1"},
        "three:1": {"tokenizers": importlib.metadata.version("pytest")},
    }
    ours = own_versions()
    assert ours["python"] == ".".join(platform.python_version().split(".")[:2])
    with pytest.raises(ConfigError) as raised:
        FakeEngine(cluster, "here:1").check_workers(tmp_path / "scratch")
    text = str(raised.value)
    assert f"each of 2 workers, such as two:1, has python 3.9 instead of {ours['python']}, numpy 1.0 instead of" in text
    assert f"three:1 has tokenizers {importlib.metadata.version('pytest')} instead of {ours['tokenizers']}" in text
    assert "one:1" not in text
    assert f"pip install numpy=={ours['numpy']} pyarrow==" in text
    assert cluster.submitted == []


def test_a_worker_that_does_not_see_the_store_is_named(tmp_path: Path) -> None:
    cluster = FakeCluster(is_own=False)
    cluster.answers = {"one:1": {}, "two:1": {"read_text": FileNotFoundError(2, "No such file or directory")}}
    engine = FakeEngine(cluster, "here:1")
    with pytest.raises(
        ConfigError, match=r"two:1, does not see the store's folder .*scratch: No such file or directory"
    ):
        engine.check_workers(tmp_path / "scratch")
    cluster.answers = {"two:1": {"read_text": "another"}}
    with pytest.raises(ConfigError, match=r"two:1, .* it is another folder there\. Mount the store at the same path"):
        engine.check_workers(tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == [], "no file stays"


def test_a_worker_that_joins_later_checks_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(FakeCluster(is_own=False), "here:1")
    engine.check_workers(tmp_path)
    (token,) = tmp_path.iterdir()
    assert list(engine.map(squared, range(3))) == [0, 1, 4]
    assert list(tmp_path.iterdir()) == []
    engine.check_workers(tmp_path)
    for path in tmp_path.iterdir():
        path.write_text("another")
    with pytest.raises(ConfigError, match="a worker that joined the cluster later does not see the store"):
        list(engine.map(squared, range(3)))
    monkeypatch.setattr(cluster_worker, "own_versions", lambda: {"python": "3.9"})
    engine.check_workers(tmp_path)
    with pytest.raises(ConfigError, match=r"joined the cluster later has python 3\.9 instead of"):
        list(engine.map(squared, range(3)))
    assert not token.exists()


def test_workers_of_this_machine_are_not_checked(tmp_path: Path) -> None:
    FakeEngine(cluster := FakeCluster()).check_workers(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert cluster.submitted == []


def test_an_address_at_which_nothing_listens_is_named_with_what_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        FakeEngine(FakeCluster(), f"127.0.0.1:{port}").check_reachable()
    with pytest.raises(ConfigError) as raised:
        list(FakeEngine(FakeCluster(), f"tcp://127.0.0.1:{port}").map(squared, range(2)))
    assert str(raised.value) == (
        f"engine.address=tcp://127.0.0.1:{port} cannot be reached: Connection refused. Start a cluster with fake "
        "start. Or set engine=local, which needs no address"
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://host:8786", ("host", 8786)),
        ("host:1", ("host", 1)),
        ("[::1]:5", ("::1", 5)),
        ("auto", None),
        ("host", None),
        ("host:x", None),
        ("host:99999", None),
        ("", None),
        ("tcp://", None),
    ],
)
def test_the_host_and_port_of_an_address(address: str, expected: object) -> None:
    assert host_and_port(address) == expected


DASK, RAY = "mtx.data.dask_engine.DaskEngine", "mtx.data.ray_engine.RayEngine"


def made(target: str, **options: Any) -> Any:
    module, name = target.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**options)


@pytest.fixture
def every_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_engine, "find_spec", lambda name: name)


@pytest.mark.parametrize(("target", "extra"), [(DASK, "dask"), (RAY, "ray-core")])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, target: str, extra: str) -> None:
    monkeypatch.setattr(cluster_engine, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf'not installed\. Run pip install "mtx\[{extra}\]", or set engine=local'):
        made(target)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (DASK, {"address": "host:8786"}, r"engine\.address is tcp://HOST:PORT .* but is 'host:8786'"),
        (DASK, {"address": "tcp://host"}, r"Set engine\.address=tcp://HOST:8786"),
        (
            DASK,
            {"address": "tls://host:1"},
            r"three files for TLS\. Set engine\.tls_ca_file=FILE engine\.",
        ),
        (DASK, {"tls_ca_file": "ca.pem"}, r"engine\.tls_ca_file needs an address that begins with tls://"),
        (
            DASK,
            {"address": "tls://host:1", "tls_ca_file": "no", "tls_client_cert": "no", "tls_client_key": "no"},
            r"engine\.tls_ca_file is a file, but no does not exist",
        ),
        (DASK, {"workers": 0}, r"engine\.workers"),
        (RAY, {"address": "ray://host:10001"}, r"engine\.address is HOST:PORT .* or auto, but is 'ray://host:10001'"),
        (RAY, {"address": "host"}, r"Set engine\.address=HOST:6379"),
    ],
)
@pytest.mark.usefixtures("every_package_is_found")
def test_options_that_do_not_fit_are_refused(target: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MtxError, match=message):
        made(target, **options)


@pytest.mark.usefixtures("every_package_is_found")
def test_a_server_that_is_no_cluster_of_ray_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        engine = made(RAY, address=f"127.0.0.1:{server.getsockname()[1]}", timeout_s=0.1)
        with pytest.raises(
            ConfigError, match=r"what listens there is no cluster of Ray\. Start a cluster with ray start"
        ):
            engine.check_reachable()


@pytest.mark.usefixtures("every_package_is_found")
def test_an_engine_is_pickled_by_its_options() -> None:
    engine = made(DASK, workers=3)
    engine._cluster = FakeCluster()  # type: ignore[assignment]
    copy = pickle.loads(pickle.dumps(engine))
    assert (copy.workers, copy.address, copy._cluster) == (3, None, None)
