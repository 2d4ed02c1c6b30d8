"""`ClusterEngine`: what engines have in common whose workers a library manages, such as Dask or Ray.

A library is one `TaskCluster`, which submits tasks and returns answers. `ClusterEngine` keeps the order of the results,
bounds the number of submitted tasks, and checks the workers before the first task.
"""

import logging
import secrets
import socket
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from mtx.data.cluster_worker import Answer, WorkerSetup, own_versions
from mtx.data.cluster_worker_checks import check_store, check_versions
from mtx.data.engine_map_call import MAX_DEATHS, MapCall
from mtx.data.engine_protocol import Engine, InProcessEngine
from mtx.data.task_cluster import ClusterLostError, TaskCluster, WorkersEndedError
from mtx.errors import ConfigError, StoreError
from mtx.infra.dal.atomic_file import make_folder
from mtx.library_errors import library_reason

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

NO_WORKER_S = 60.0  # seconds that a stage waits for a worker


@dataclass(kw_only=True)
class _ClusterCall(MapCall):
    """What a cluster adds to a call of `map`: the submitted tasks."""

    setup: WorkerSetup
    running: dict[Any, int] = field(default_factory=dict)  # numbers of items by handle
    last_worker_s: float = field(default_factory=time.monotonic)  # when there was a worker


class ClusterEngine(Engine):
    """Runs tasks on the workers of a `TaskCluster`. Subclasses are components with the fields `workers` and `address`.

    A stage with one task runs in this process, and so does what cannot be pickled. The workers are started at the first
    stage with several tasks, and are used by all later stages until `close`.
    """

    library: ClassVar[str]  # name of the option of the group `engine`
    extra: ClassVar[str]  # name of the extra with its packages
    package: ClassVar[str]  # name of the module that must be installed
    start_hint: ClassVar[str]  # how a cluster is started, for messages

    workers: int | None
    address: str | None
    timeout_s: float

    _cluster: TaskCluster | None = None
    _is_cancelled = False
    _setup: WorkerSetup = WorkerSetup()

    def __post_init__(self) -> None:
        """Check that the library is installed. Raises ConfigError."""
        if find_spec(self.package) is None:
            raise ConfigError(
                f"engine={self.library} needs the {self.package} package, which is not installed. "
                f'Run pip install "mtx[{self.extra}]", or set engine=local'
            )
        self._here = InProcessEngine()

    @abstractmethod
    def _connected(self) -> TaskCluster:
        """Connect to the cluster at `address`, or start one. Raises ConfigError if that fails."""

    def check_reachable(self) -> None:
        """Check that something listens at the address. Raises ConfigError within `timeout_s`."""
        if self.address is None or self._cluster is not None or (place := host_and_port(self.address)) is None:
            return
        try:
            socket.create_connection(place, timeout=self.timeout_s).close()
        except OSError as error:
            raise self._unreachable(library_reason(error)) from error

    def check_workers(self, folder: Path) -> None:
        """Check that the workers have the versions of this process, and see `folder`. Raises ConfigError.

        Only a cluster that this process has not started is checked. A file in `folder` stays until the end of `map`.
        """
        if self.address is None:
            return
        cluster = self._open_cluster()
        name = f"engine={self.library}"
        if not self._setup.versions:
            self._setup = replace(self._setup, versions=tuple(check_versions(cluster, name, own_versions()).items()))
        token = secrets.token_hex()
        path = make_folder(folder) / f".token-{token[:8]}"
        path.write_text(token)
        self._setup = replace(self._setup, token_path=path, token=token)
        try:
            check_store(cluster, name, path, token)
        except BaseException:
            self._remove_token()
            raise

    def map(self, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Run the task for each item, and yield the results in the order of the items.

        Raises:
            ConfigError: the cluster cannot be reached.
            StoreError: the workers of an item ended repeatedly, as for lack of memory, or the cluster has ended.
        """
        self._is_cancelled = False
        try:
            payload = None if len(items) < 2 else self._pickled(task, "a stage")
            if payload is None:
                yield from self._here.map(task, items)
                return
            cluster = self._open_cluster()
            setup = replace(self._setup, is_own=cluster.is_own)
            call = _ClusterCall(task=task, payload=payload, items=items, setup=setup)
            try:
                yield from self._results(cluster, call)
            except Exception:
                self._finish_running(cluster, call)
                raise
        except Exception:
            raise
        except BaseException:  # Ctrl-C, or the caller stops early: the workers have items of this task
            self.close()
            raise
        finally:
            self._remove_token()

    def cancel(self) -> None:
        """Start no further task, and let the running tasks finish."""
        self._is_cancelled = True
        self._here.cancel()

    def close(self) -> None:
        """Leave the cluster, and end all processes that this engine has started. A later stage connects again."""
        cluster, self._cluster = self._cluster, None
        self._setup = WorkerSetup()
        if cluster is not None:
            cluster.close()

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_cluster", "_setup", "_here", "_is_cancelled")
        return {name: value for name, value in vars(self).items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._here = InProcessEngine()

    def _open_cluster(self) -> TaskCluster:
        if self._cluster is None:
            self.check_reachable()
            self._cluster = self._connected()
        return self._cluster

    def _unreachable(self, reason: str) -> ConfigError:
        return ConfigError(
            f"engine.address={self.address} cannot be reached: {reason}. Start {self.start_hint}. "
            "Or set engine=local, which needs no address"
        )

    def _results(self, cluster: TaskCluster, call: _ClusterCall) -> Iterator[Any]:
        for number in range(len(call.items)):
            while number not in call.results:
                self._submit(cluster, call)
                if call.here and not self._is_cancelled:
                    call.run_here(call.here.popleft())
                elif not call.running and (self._is_cancelled or not call.waiting):
                    return  # cancelled
                else:
                    self._take_finished(cluster, call)
            self._submit(cluster, call)  # the workers go on while the caller uses the result
            is_result, content = call.results.pop(number)
            if not is_result:
                raise content
            yield content

    def _submit(self, cluster: TaskCluster, call: _ClusterCall) -> None:
        """Submit tasks until each worker has one, and on a cluster with other users a second one that waits."""
        if self._is_cancelled or not call.waiting:
            return
        limit = cluster.num_workers() if cluster.is_own else self.workers or 2 * max(1, cluster.num_workers())
        while call.waiting and len(call.running) < limit:
            number = call.waiting.popleft()
            if (item := self._pickled(call.items[number], "a task")) is None:
                call.here.append(number)
            else:
                call.running[cluster.submit(call.payload, item, call.setup)] = number

    def _take_finished(self, cluster: TaskCluster, call: _ClusterCall) -> None:
        """Wait for a task, and keep the outcomes of all that have finished."""
        finished = cluster.wait(call.running)
        if finished or cluster.num_workers():
            call.last_worker_s = time.monotonic()
        elif time.monotonic() - call.last_worker_s > NO_WORKER_S:
            call.running.clear()
            self.close()
            raise StoreError(
                f"all workers of engine={self.library} have ended, and none has started for {NO_WORKER_S:g} s. Type "
                "the same command again, with engine.workers=1 if memory is short; the finished tasks are kept"
            )
        for handle in finished:
            number = call.running.pop(handle)
            try:
                self._take(cluster.answer(handle), number, call)
            except WorkersEndedError as error:
                self._repeat(number, int(error.args[0]), call)
            except ClusterLostError as error:
                call.running.clear()
                self.close()
                raise StoreError(
                    f"the cluster of engine={self.library} has ended during a stage: {error}. Type the same command "
                    "again; the finished tasks are kept"
                ) from error

    def _repeat(self, number: int, deaths: int, call: _ClusterCall) -> None:
        """Give the item of a worker that has ended to another one. Raises StoreError after several deaths."""
        call.deaths[number] += deaths
        if call.deaths[number] >= MAX_DEATHS:
            raise StoreError(
                f"{call.deaths[number]} workers of engine={self.library} ended at the same task. If memory is short, "
                "set engine.workers=1, or engine=local; the finished tasks are kept"
            )
        log.warning("a worker of engine=%s has ended; another one repeats its task", self.library)
        call.waiting.appendleft(number)

    def _take(self, answer: Answer, number: int, call: _ClusterCall) -> None:
        what, content, warnings = answer
        for name, level, text in warnings:
            logging.getLogger(name).log(level, "%s", text)
        reason = call.take(number, what, content, where=f"a worker of engine={self.library}")
        if reason is not None:
            self._warn_unsendable("a task", reason)

    def _finish_running(self, cluster: TaskCluster, call: _ClusterCall) -> None:
        """Wait for the tasks that the workers still have, so that none writes while another stage runs."""
        while call.running and self._cluster is not None:
            try:
                self._take_finished(cluster, call)
            except StoreError:
                return

    def _pickled(self, value: Any, what: str) -> bytes | None:
        """Return a task or an item as a worker receives it; None: it cannot be pickled."""
        import cloudpickle  # a dependency of both libraries, which also pickles what a script defines

        try:
            payload = cloudpickle.dumps(value)
        except Exception as error:  # whatever the code of a class raises
            self._warn_unsendable(what, library_reason(error))
            return None
        assert isinstance(payload, bytes)
        return payload

    def _warn_unsendable(self, what: str, reason: object) -> None:
        log.warning(
            "%s runs in this process, because it cannot be sent to or from a worker of engine=%s: %s",
            what,
            self.library,
            reason,
        )

    def _remove_token(self) -> None:
        if self._setup.token_path is not None:
            self._setup.token_path.unlink(missing_ok=True)
            self._setup = replace(self._setup, token_path=None, token="")


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return the host and the port of an address such as `tcp://host:8786` or `host:8786`; None: it has none."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        return None if parts.hostname is None or parts.port is None else (parts.hostname, parts.port)
    except ValueError:  # the port is no number, or too large
        return None
