"""`RayEngine`, which runs the tasks of a stage as tasks of Ray Core: https://docs.ray.io."""

import logging
import os
import platform
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from mtx.components.checked_options import Count, Seconds, component
from mtx.container_limits import quota_cores
from mtx.data.cluster_engine import ClusterEngine, host_and_port
from mtx.data.cluster_worker import Answer, WorkerSetup, run_task
from mtx.data.process_pool_engine import default_workers
from mtx.data.task_cluster import WAIT_S, ClusterLostError, TaskCluster, WorkersEndedError
from mtx.errors import ConfigError, StoreError
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    from ray import ObjectRef

SILENT = logging.CRITICAL + 1
STORE_BYTES = 100 << 20  # Ray's memory for objects: tasks and results are small, since the data is in files
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # skips all lines about workers, which Ray prints to standard output
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of tasks that were cancelled
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns about a later version
    "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",  # as mtx compares versions of Python
}
VERSIONS = re.compile(r"(Ray|Python): (\S+)")
LONGEST_FOLDER = 40  # characters; Ray adds 65 for its sockets, whose paths have at most 107


@component("engine", frozen=False, eq=False)
class RayEngine(ClusterEngine):
    """Runs tasks as tasks of Ray Core, on this machine or on a running cluster. Results do not depend on the workers.

    If a worker ends, another worker repeats its task. All machines must see the store at the same path.

    Args:
        workers: number of worker processes; with `address`, the number of tasks that are submitted at once. null: as
            with `engine=local`; with `address`, two for each CPU of the cluster.
        address: address of a running cluster, as `HOST:PORT`, or `auto` for the one that this machine belongs to; null:
            workers are started on this machine.
        timeout_s: seconds to wait for the cluster.
    """

    kind: ClassVar[str] = "engine/ray"
    version: ClassVar[int] = 1
    library: ClassVar[str] = "ray"
    extra: ClassVar[str] = "ray-core"
    package: ClassVar[str] = "ray"
    start_hint: ClassVar[str] = (
        "a cluster with ray start --head --port=6379, further machines with ray start --address=HOST:6379, and this "
        "process on one of them"
    )

    workers: Count | None = None
    address: str | None = None
    timeout_s: Seconds = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        is_plain = self.address is None or "://" not in self.address
        if self.address is not None and self.address != "auto" and not (is_plain and host_and_port(self.address)):
            raise ConfigError(
                "engine.address is HOST:PORT of a running cluster of Ray, or auto, but is "
                f"{self.address!r}. Set engine.address=HOST:6379"
            )

    def check_reachable(self) -> None:
        """Check that a server of Ray listens at the address. Raises ConfigError within `timeout_s`."""
        super().check_reachable()
        place = None if self.address is None else host_and_port(self.address)
        if place is None or self._cluster is not None or os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        if not _speaks_http2(place, self.timeout_s):  # Ray itself would wait for minutes
            raise self._unreachable("what listens there is no cluster of Ray")

    def _connected(self) -> TaskCluster:
        logging.getLogger("ray").setLevel(SILENT)
        environment = _set_environment(ENVIRONMENT if self.address else {**ENVIRONMENT, **_private_cluster()})
        import ray

        if ray.is_initialized():  # as in a job of launcher=ray, whose cluster is the only one for this process
            return RayCluster(environment, is_own=False, is_connected_here=False)
        quiet = {"log_to_driver": False, "logging_level": SILENT, "configure_logging": False, "include_dashboard": None}
        try:
            with _handlers_kept():
                if self.address is None:
                    return _started_cluster(self.workers or default_workers(), environment, quiet)
                ray.init(address=self.address, **quiet)
        except RuntimeError as error:  # another version of Ray or Python; the text is the only place with the versions
            found = ", ".join(f"{name} {value}" for name, value in VERSIONS.findall(str(error))[:2])
            own = f"Ray {ray.__version__}, Python {platform.python_version()}"
            _set_environment(environment)
            raise self._unreachable(
                f"it has other versions ({found or 'not known'}) than this process ({own})"
            ) from error
        except Exception as error:
            _set_environment(environment)
            if self.address is None:
                raise StoreError(
                    f"the workers of engine=ray cannot be started: {library_reason(error)}. Set engine=local"
                ) from error
            token = "" if os.environ.get("RAY_AUTH_MODE") else ", or it needs a token: type export RAY_AUTH_MODE=token"
            raise self._unreachable(f"no cluster of Ray answers: {library_reason(error)}{token}") from error
        return RayCluster(environment, is_own=False)


def _speaks_http2(place: tuple[str, int], timeout_s: float) -> bool:
    """Return whether the server at a host and port speaks HTTP/2, which gRPC and thus Ray uses (RFC 9113, 3.4)."""
    settings = b"\0\0\0\4\0\0\0\0\0"
    try:
        with socket.create_connection(place, timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            return connection.recv(4)[3:] == settings[3:4]
    except OSError:
        return False


@cache
def _private_cluster() -> dict[str, str]:
    """Return variables with a token, without which nobody can connect; Ray reads it once in a process."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _set_environment(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set environment variables, and remove those that are None; return the former values."""
    former = {name: os.environ.get(name) for name in variables}
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return former


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Undo that Ray handles SIGTERM by an exit, which hides the signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _started_cluster(workers: int, environment: dict[str, str | None], quiet: dict[str, Any]) -> "RayCluster":
    """Start Ray with worker processes on this machine."""
    import ray

    folder = TemporaryDirectory(prefix="mtx-ray-", ignore_cleanup_errors=True)
    place = {"_temp_dir": folder.name} if len(folder.name) <= LONGEST_FOLDER else {}
    try:
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=STORE_BYTES,
            _node_ip_address="127.0.0.1",
            # A worker that the operating system kills for lack of memory counts as one that has ended.
            _system_config={"memory_monitor_refresh_ms": 0},
            **{**quiet, "include_dashboard": False},
            **place,
        )
    except BaseException:
        folder.cleanup()
        raise
    return RayCluster(environment, is_own=True, folder=folder, num_threads=max(1, quota_cores() // workers))


class RayCluster:
    """The connection of this process to a cluster of Ray.

    Args:
        environment: former values of environment variables, which `close` sets again.
        is_own: whether this process has started the cluster.
        is_connected_here: whether mtx has connected this process; False: it stays connected.
        folder: temporary files of the cluster.
        num_threads: threads of each library in a worker.
    """

    def __init__(
        self,
        environment: dict[str, str | None],
        *,
        is_own: bool,
        is_connected_here: bool = True,
        folder: "TemporaryDirectory[str] | None" = None,
        num_threads: int = 1,
    ) -> None:
        import ray

        self.is_own = is_own
        self._environment = environment
        self._is_connected_here = is_connected_here
        self._folder = folder
        self._num_threads = num_threads
        self._run = ray.remote(run_task).options(num_cpus=1, max_retries=0)
        self._payload: tuple[bytes, Any] | None = None  # the last task, and where Ray keeps it

    def num_workers(self) -> int:
        """Return the number of CPUs of the cluster, at least 1."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def submit(self, payload: bytes, item: bytes, setup: WorkerSetup) -> "ObjectRef[Any]":
        """Submit a task."""
        import ray

        if self._payload is None or self._payload[0] is not payload:
            self._payload = payload, ray.put(payload)
        # Ray redirects the standard output of its workers by itself, but a task goes on if Ray is killed.
        setup = replace(setup, num_threads=self._num_threads, is_own=False, ends_with_parent=self.is_own)
        reference: ObjectRef[Any] = self._run.remote(self._payload[1], item, setup)
        return reference

    def wait(self, handles: Collection["ObjectRef[Any]"]) -> Collection["ObjectRef[Any]"]:
        """Wait until a task has finished or failed, at most `WAIT_S`."""
        import ray

        done, rest = ray.wait(list(handles), num_returns=1, timeout=WAIT_S)
        if done and rest:
            done += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return list(done)

    def answer(self, handle: "ObjectRef[Any]") -> Answer:
        """Return the answer of a finished task. Raises WorkersEndedError or ClusterLostError."""
        import ray

        try:
            answer: Answer = ray.get(handle)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            raise WorkersEndedError(1) from error
        except Exception as error:
            raise ClusterLostError(library_reason(error)) from error
        return answer

    def run_on_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Run a function on each machine, by its address."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        run = ray.remote(function)
        found: dict[str, Any] = {}
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            there = run.options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            try:
                found[node["NodeManagerAddress"]] = ray.get(there.remote(*arguments))
            except ray.exceptions.RayTaskError as error:
                found[node["NodeManagerAddress"]] = error.cause
            except Exception as error:
                found[node["NodeManagerAddress"]] = error
        return found

    def close(self) -> None:
        """Leave the cluster, and end its processes if this process has started them."""
        import ray

        self._payload = None
        if self._is_connected_here:
            with _handlers_kept(), suppress(Exception):
                ray.shutdown()
        if self._folder is not None:
            self._folder.cleanup()
        _set_environment(self._environment)
