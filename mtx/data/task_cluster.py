"""Protocol of the workers that a library manages, such as Dask or Ray, as `ClusterEngine` uses them."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from mtx.data.cluster_worker import Answer, WorkerSetup

WAIT_S = 1.0  # seconds after which the number of workers is read again, since a worker may have joined


class WorkersEndedError(Exception):
    """The worker of a task has ended, or several one after the other: as many as the argument says."""


class ClusterLostError(Exception):
    """The cluster does not answer any more; the argument says why."""


class TaskCluster(Protocol):
    """Workers of a library, to which this process is connected. Not thread-safe.

    Attributes:
        is_own: whether the workers are child processes of this process, which `close` ends.
    """

    is_own: bool

    def num_workers(self) -> int:
        """Return the number of workers now, each of which runs one task at a time. It is 0 while all start again."""

    def submit(self, payload: bytes, item: bytes, setup: WorkerSetup) -> Any:
        """Submit `run_task` with these arguments, and return a hashable handle."""

    def wait(self, handles: Collection[Any]) -> Collection[Any]:
        """Wait until a task has finished or failed, at most `WAIT_S`, and return the handles of all that have."""

    def answer(self, handle: Any) -> Answer:
        """Return the answer of a finished task. Raises WorkersEndedError or ClusterLostError."""

    def run_on_all(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Run a function of the standard library on each worker or machine: by its name, the result or the error."""

    def close(self) -> None:
        """Cancel all tasks, and end the connection and the processes that it has started."""
