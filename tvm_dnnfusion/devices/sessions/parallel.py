"""Jobs on several devices at once: one session per device of a tracker's key.

The tracker hands out the devices, as it does for every program that asks it; here are only the
threads that ask, and what happens to a job whose device is lost: it goes back and another takes it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tvm_dnnfusion.devices.sessions import address as forms
from tvm_dnnfusion.devices.sessions import tracker
from tvm_dnnfusion.devices.sessions.address import Address, parse
from tvm_dnnfusion.devices.sessions.errors import LostError, SessionError, UnreachableError
from tvm_dnnfusion.devices.sessions.records import LIMITS, Limits
from tvm_dnnfusion.devices.sessions.session import Session

T = TypeVar("T")
Job = Callable[[Session], T]
ATTEMPTS = 2
"""A job that loses two devices is not given a third."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of a job: its value, or the error that ended it."""

    value: T | None = None
    error: SessionError | None = None


def devices(address: Address | str, limits: Limits = LIMITS) -> int:
    """Devices behind an address: those under a tracker's key, else one.

    Raises UnreachableError where the tracker, or its key, is not there.
    """
    place = parse(address) if isinstance(address, str) else address
    return tracker.check(place, limits.connect_s).devices if place.kind == forms.TRACKER else 1


def run_jobs(
    address: Address | str,
    jobs: Sequence[Job[T]],
    *,
    limits: Limits = LIMITS,
    workers: int | None = None,
    threads: int | None = None,
    cluster: str = "all",
) -> list[Outcome[T]]:
    """Run jobs on all devices behind an address, each job on one; outcomes in the jobs' order.

    Parameters
    ----------
    jobs : sequence of callables
        Each gets an open session. What it raises of `SessionError` is its outcome; after a
        `LostError` it is run once more, on whichever device is free. Other exceptions are raised.
    workers : int or None
        Sessions at once; None for `devices(address)`.
    threads, cluster :
        As `Session` takes them.

    Raises UnreachableError where no device can be had from the start; later, it is the outcome of
    the jobs that were left.
    """
    count = min(workers or devices(address, limits), len(jobs))
    board = _Board(jobs)
    first_error: list[UnreachableError] = []

    def work() -> None:
        session = Session(address, limits=limits, threads=threads, cluster=cluster)
        try:
            with session:
                board.work(session)
        except UnreachableError as error:
            first_error.append(error)
        except BaseException as error:
            board.stop(error)

    crew = [threading.Thread(target=work, name=f"device-{i}", daemon=True) for i in range(count)]
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            thread.join()
    except BaseException:
        board.stop(KeyboardInterrupt())
        raise
    return board.outcomes(first_error[0] if first_error else None)


class _Board(Generic[T]):
    """Jobs that wait, and outcomes; shared by the threads."""

    def __init__(self, jobs: Sequence[Job[T]]) -> None:
        self._jobs = jobs
        self._waiting = deque((i, 1) for i in range(len(jobs)))
        self._done: dict[int, Outcome[T]] = {}
        self._running = 0
        self._fault: BaseException | None = None
        self._changed = threading.Condition()

    def work(self, session: Session) -> None:
        """Take jobs until none is left, or the device is lost for good.

        Raises UnreachableError in that case, with the job back among those that wait.
        """
        while (taken := self._take()) is not None:
            number, attempt = taken
            try:
                self._put(number, Outcome(value=self._jobs[number](session)))
            except LostError as error:
                self._lost(number, attempt, error)
                session.wait_until_back()
            except UnreachableError:
                self._lost(number, attempt - 1, None)
                raise
            except SessionError as error:
                self._put(number, Outcome(error=error))

    def stop(self, fault: BaseException) -> None:
        """Give out no more jobs; `outcomes` raises the fault."""
        with self._changed:
            self._fault = self._fault or fault
            self._waiting.clear()
            self._changed.notify_all()

    def outcomes(self, missing: SessionError | None) -> list[Outcome[T]]:
        """All outcomes; `missing` is that of jobs which nobody could take."""
        if self._fault is not None:
            raise self._fault
        if missing is not None and not self._done:
            raise missing
        return [self._done.get(i, Outcome(error=missing)) for i in range(len(self._jobs))]

    def _take(self) -> tuple[int, int] | None:
        """The next job; what others run may still come back. None: no more."""
        with self._changed:
            while not self._waiting:
                if not self._running or self._fault is not None:
                    return None
                self._changed.wait()
            self._running += 1
            return self._waiting.popleft()

    def _put(self, number: int, outcome: Outcome[T]) -> None:
        with self._changed:
            self._done[number] = outcome
            self._running -= 1
            self._changed.notify_all()

    def _lost(self, number: int, attempt: int, error: LostError | None) -> None:
        if error is not None and attempt >= ATTEMPTS:
            self._put(number, Outcome(error=error))
            return
        with self._changed:
            self._waiting.appendleft((number, attempt + 1))
            self._running -= 1
            self._changed.notify_all()
