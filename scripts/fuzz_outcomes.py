"""Run one input of a fuzzer within a time limit, and count what came of it."""

import faulthandler
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Generic, TypeVar

SECONDS_AT_MOST = 10.0  # limit of the CPU time of one input
WAIT_FACTOR = 30.0  # elapsed time is at most this multiple of the CPU time, since other processes may use the cores

Input = TypeVar("Input")


@dataclass
class Outcome(Generic[Input]):
    """Results of the inputs of one parser or one kind of option.

    Attributes:
        read: number of inputs that were accepted.
        refused: number of inputs that were refused with an error of mtx.
        slowest: CPU time of the slowest input, in seconds.
        kinds: number of refusals by the class of the error.
        failures: each input that failed, and why.
    """

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Input, str]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """Number of inputs that were run."""
        return self.read + self.refused + len(self.failures)

    def add(self, other: "Outcome[Input]") -> None:
        """Add the counts and the failures of other inputs."""
        self.read += other.read
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.kinds += other.kinds
        self.failures += other.failures


class TooSlowError(BaseException):
    """An input exceeded the time limit; no subclass of Exception, so that no parser catches it as a file error."""


def run_input(
    outcome: Outcome[Input],
    given: Input,
    call: Callable[[], object],
    *,
    read_problem: Callable[[], str | None] = lambda: None,
    refusal_problem: Callable[[str], str | None] = lambda message: None,
    seconds: float = SECONDS_AT_MOST,
) -> None:
    """Call `call` within the time limit, and add the result to `outcome`.

    An input fails if `call` raises anything but an error of mtx, or exceeds the time limit. The judgement of the result
    is within the limit. The process ends with a trace if native code does not end in twice the limit.

    Args:
        outcome: the counts, which are changed.
        given: the input, which is kept if it fails.
        call: runs the input.
        read_problem: returns why an accepted input fails anyway, or None.
        refusal_problem: returns why a refused input fails anyway, from the message of the refusal, or None.
        seconds: limit of the CPU time; `WAIT_FACTOR` times as much is the limit of the elapsed time.
    """
    from mtx.errors import MtxError

    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGPROF, _too_slow)
    started = time.process_time()
    refusal = problem = None
    try:
        try:
            _set_time_limit(seconds)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()
            problem = read_problem()
        except MtxError as error:
            refusal, problem = type(error).__name__, refusal_problem(str(error))
        finally:
            _set_time_limit(0.0)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a compiled parser does not derive from Exception
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        _set_time_limit(0.0)  # if the limit was exceeded while it was lifted
    outcome.slowest = max(outcome.slowest, time.process_time() - started)
    if problem is not None:
        outcome.failures.append((given, problem))
    elif refusal is not None:
        outcome.refused += 1
        outcome.kinds[refusal] += 1
    else:
        outcome.read += 1


def _set_time_limit(seconds: float) -> None:
    """Limit the CPU time of what follows to `seconds`, and the elapsed time to a multiple; 0: no limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAIT_FACTOR * seconds)
    if seconds:
        faulthandler.dump_traceback_later(2 * WAIT_FACTOR * seconds, exit=True, file=sys.__stderr__ or 2)
    else:
        faulthandler.cancel_dump_traceback_later()


def _too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError("the input exceeded the time limit")
