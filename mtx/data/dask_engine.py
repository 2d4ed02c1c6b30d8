"""`DaskEngine`, which runs the tasks of a stage on workers of Dask: https://distributed.dask.org."""

import logging
import os
import signal
import time
from asyncio import CancelledError
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from mtx.components.checked_options import Count, Seconds, component
from mtx.container_limits import quota_cores
from mtx.data.cluster_engine import ClusterEngine, host_and_port
from mtx.data.cluster_worker import Answer, WorkerSetup, forget_task, run_task
from mtx.data.process_pool_engine import default_workers
from mtx.data.task_cluster import WAIT_S, ClusterLostError, TaskCluster, WorkersEndedError
from mtx.data.worker_process import thread_variables
from mtx.errors import ConfigError, StoreError
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

log = logging.getLogger(__name__)

START_S = 120.0  # seconds that workers of a busy machine may take to start
PAUSE_S = 0.05  # between two looks at tasks that cannot be waited for
CLOSE_S = 3.0  # seconds that workers of this process have to end, before they are killed
SILENT = logging.CRITICAL + 1
TLS_OPTIONS = ("tls_ca_file", "tls_client_cert", "tls_client_key")  # names of distributed.Security


@component("engine", frozen=False, eq=False)
class DaskEngine(ClusterEngine):
    """Runs tasks on workers of Dask, on this machine or on a running cluster. Results do not depend on the workers.

    If a worker ends, another worker repeats its task. All workers must see the store at the same path.

    Args:
        workers: number of worker processes; with `address`, the number of tasks that are submitted at once. null: as
            with `engine=local`; with `address`, two for each worker.
        address: address of a running scheduler, such as `tcp://host:8786`; null: workers are started on this machine.
        timeout_s: seconds to wait for the scheduler and for its first worker.
        tls_ca_file: file with the certificate of the authority, for an address that begins with `tls://`.
        tls_client_cert: file with the certificate of this process.
        tls_client_key: file with the key of this process.
    """

    kind: ClassVar[str] = "engine/dask"
    version: ClassVar[int] = 1
    library: ClassVar[str] = "dask"
    extra: ClassVar[str] = "dask"
    package: ClassVar[str] = "distributed"
    start_hint: ClassVar[str] = (
        "a scheduler with dask scheduler --port 8786, and workers with dask worker HOST:8786 --nworkers 2 --nthreads 1"
    )

    workers: Count | None = None
    address: str | None = None
    timeout_s: Seconds = 10.0
    tls_ca_file: str | None = field(default=None, repr=False)
    tls_client_cert: str | None = field(default=None, repr=False)
    tls_client_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {name: value for name in TLS_OPTIONS if (value := getattr(self, name)) is not None}
        is_tls = (self.address or "").startswith("tls://")
        if self.address is not None and (
            host_and_port(self.address) is None or not self.address.startswith(("tcp://", "tls://"))
        ):
            raise ConfigError(
                "engine.address is tcp://HOST:PORT or tls://HOST:PORT of a scheduler of Dask, but is "
                f"{self.address!r}. Set engine.address=tcp://HOST:8786"
            )
        if is_tls and len(given) < len(TLS_OPTIONS):
            missing = [f"engine.{name}=FILE" for name in TLS_OPTIONS if name not in given]
            raise ConfigError(f"engine.address={self.address} needs three files for TLS. Set {' '.join(missing)}")
        if given and not is_tls:
            raise ConfigError(
                f"engine.{next(iter(given))} needs an address that begins with tls://, but engine.address is "
                f"{self.address!r}. Set engine.address=tls://HOST:8786"
            )
        for name, value in given.items():
            if not expanded_path(value).is_file():
                raise ConfigError(f"engine.{name} is a file, but {value} does not exist. Set engine.{name}=FILE")

    def _connected(self) -> TaskCluster:
        _silence()
        if self.address is None:
            try:
                return _started_cluster(self.workers or default_workers())
            except Exception as error:  # of the operating system, or of Dask if it refuses too many processes
                raise StoreError(
                    f"the workers of engine=dask cannot be started: {library_reason(error)}. Set engine=local"
                ) from error
        import dask
        from distributed import Client, Security

        files = {name: str(expanded_path(value)) for name in TLS_OPTIONS if (value := getattr(self, name)) is not None}
        security = Security(require_encryption=True, **files) if files else None
        try:
            with dask.config.set({"distributed.comm.timeouts.connect": f"{self.timeout_s}s"}):
                client = Client(self.address, timeout=self.timeout_s, security=security, set_as_default=False)
        except Exception as error:  # of the network, of TLS, or of a server that is no scheduler
            raise self._unreachable("no scheduler of Dask accepts the connection") from error
        try:
            client.wait_for_workers(1, timeout=self.timeout_s)
        except Exception as error:
            client.close()
            raise self._unreachable(f"its scheduler has no workers after {self.timeout_s:g} s") from error
        if (threads := max(client.nthreads().values(), default=1)) > 1:
            log.warning(
                "workers of engine=dask have %d threads, but run one task at a time; start them with --nthreads 1",
                threads,
            )
        return DaskCluster(client)


def _silence() -> None:
    """Keep log lines of Dask from the terminal. Errors reach mtx as exceptions."""
    import distributed  # noqa: F401  # which sets the levels of its loggers

    for name in ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(SILENT)


def _started_cluster(workers: int) -> "DaskCluster":
    """Start a scheduler and worker processes on this machine, which only this process can connect to."""
    import dask
    from distributed import Client, LocalCluster, Security

    num_threads = max(1, quota_cores() // workers)
    env = {**thread_variables(num_threads), "DASK_LOGGING__DISTRIBUTED": "critical"}
    # Without certificates, any user of the machine could let the workers run code.
    security = Security.temporary()
    settings = {
        "distributed.nanny.pre-spawn-environ": env,
        "distributed.scheduler.http.routes": [],  # pages without a password
        "distributed.worker.http.routes": [],
    }
    folder = TemporaryDirectory(prefix="mtx-dask-", ignore_cleanup_errors=True)
    with dask.config.set(settings):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls",
            security=security,
            dashboard_address="127.0.0.1:0",
            silence_logs=SILENT,
            local_directory=folder.name,
            memory_limit=0,  # it would count the mapped files of the store
            scheduler_kwargs={"allowed_failures": 0, "dashboard": False},
        )
    try:
        client = Client(cluster, timeout=START_S, set_as_default=False)
        client.wait_for_workers(workers, timeout=START_S)
    except BaseException:
        cluster.close(timeout=CLOSE_S)
        folder.cleanup()
        raise
    return DaskCluster(client, cluster, folder)


class DaskCluster:
    """A client of a scheduler, and the cluster that this process has started, if it has."""

    def __init__(
        self,
        client: "Client",
        cluster: "LocalCluster | None" = None,
        folder: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        self.is_own = cluster is not None
        self._client = client
        self._cluster = cluster
        self._folder = folder  # of the workers

    def num_workers(self) -> int:
        """Return the number of workers that the scheduler has now."""
        known = len(self._client.nthreads())
        if self._cluster is None:
            return known
        # Dask does not start a worker again that ends while it still starts.
        running: int = sum(worker.status.name == "running" for worker in self._cluster.workers.values())
        return min(known, running)

    def submit(self, payload: bytes, item: bytes, setup: WorkerSetup) -> "Future":
        """Submit a task."""
        return self._client.submit(run_task, payload, item, setup, pure=False)

    def wait(self, handles: Collection["Future"]) -> Collection["Future"]:
        """Wait until a task has finished, failed or was lost, at most `WAIT_S`."""
        from distributed import wait

        if not handles:
            time.sleep(WAIT_S)  # all workers start again
            return []
        try:
            with self._client.as_current():  # `wait` finds no other client
                wait(list(handles), timeout=WAIT_S, return_when="FIRST_COMPLETED")
        except (Exception, CancelledError):  # of tasks that were lost, which `answer` finds again, or a timeout
            time.sleep(PAUSE_S)
        return [future for future in handles if future.done()]

    def answer(self, handle: "Future") -> Answer:
        """Return the answer of a finished task. Raises WorkersEndedError or ClusterLostError."""
        from distributed import KilledWorker

        try:
            answer: Answer = handle.result()
        except KilledWorker as error:
            raise WorkersEndedError(error.allowed_failures + 1) from error
        except (Exception, CancelledError) as error:
            raise ClusterLostError(library_reason(error)) from error
        return answer

    def run_on_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Run a function on each worker, by its address."""
        return dict(self._client.run(function, *arguments, on_error="return"))

    def close(self) -> None:
        """Close the client, and end the workers if this process has started them."""
        for worker in () if self._cluster is None else self._cluster.workers.values():
            with suppress(OSError, AttributeError):  # it has ended, or has not started
                worker.close_gracefully()  # so that it is not started again
                os.kill(worker.pid, signal.SIGKILL)  # Dask would wait for a running task
        with suppress(Exception):  # the scheduler may have ended
            if self._cluster is None:
                self._client.run(forget_task, on_error="ignore")
            self._client.close(timeout=CLOSE_S)
        if self._cluster is not None:
            with suppress(Exception):
                self._cluster.close(timeout=CLOSE_S)
        if self._folder is not None:
            self._folder.cleanup()
