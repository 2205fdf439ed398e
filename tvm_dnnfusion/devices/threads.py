"""How many threads TVM uses on this machine, and saying so.

TVM sizes its pool to half of the hardware threads, which on a guest with two vCPUs is one. The pool
belongs to the calling thread, is made at its first use, and never grows; `TVM_NUM_THREADS` is read
at that moment and at no other. So `configure` has the pool made with room for every processor, then
limits it to the count asked for. More threads than processors are refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tvm_dnnfusion import settings
from tvm_dnnfusion.devices import cpu

T = TypeVar("T")
_BIG_CORES_FIRST = 1
"""Affinity mode of `runtime.config_threadpool`: fill the fastest cores first."""


class ThreadError(ValueError):
    """A number of threads that cannot be had."""

    exit_code = 2


class ThreadSettingError(ThreadError):
    """The environment asks for a number of threads that cannot be had."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """Threads in force in the calling thread.

    `count` is what TVM itself reports, `how` where the number comes from ("asked",
    "DNNFUSION_THREADS", "TVM_NUM_THREADS", "cores"), `why` a sentence for the user.
    """

    count: int
    how: str
    why: str


@dataclass(slots=True)
class _Exported:
    """What this file wrote to TVM_NUM_THREADS, and what the user had asked for before."""

    count: int | None = None
    before: settings.Settings | None = None


_exported = _Exported()
_export_lock = threading.Lock()


def default_count() -> tuple[int, str]:
    """Threads used where nobody asks for a number, with the reason.

    Physical cores; every vCPU on a guest that hides which of them share a core; no more than the
    control group's quota.
    """
    seen = cpu.topology()
    if not seen.known:
        count, why = seen.logical, f"{seen.logical} processors; the system hides their cores"
    elif seen.physical == seen.logical and seen.guest:
        count, why = seen.logical, f"{seen.logical} vCPUs of a guest that shows no shared cores"
    else:
        count, why = seen.physical, f"{seen.physical} physical cores, {seen.logical} processors"
    if seen.quota is not None and seen.quota < count:
        return seen.quota, f"the control group grants {seen.quota} of {count} processors"
    return max(1, count), why


def configure(n: int | None = None) -> ThreadReport:
    """Put `n` threads in force for the calling thread, and say which.

    Parameters
    ----------
    n : int or None
        Number of threads; None takes the environment's (see `settings`), else `default_count()`.

    Returns
    -------
    ThreadReport
        `count` is less than what was asked for only where this thread had used TVM's pool before,
        with fewer threads; `why` then says so, and `call_with` gives a way round.

    Raises
    ------
    ThreadError
        For a count below one, or above the number of processors; ThreadSettingError where the
        environment asks for it.
    """
    asked, how, why = _wanted(n)
    _check(asked, how)
    in_force = _apply(asked)
    if in_force != asked:
        why = (
            f"{asked} asked for, but this thread's pool was made with {in_force} before; "
            f"set TVM_NUM_THREADS={asked} before TVM runs anything"
        )
    return ThreadReport(in_force, how, why)


def call_with(n: int | None, task: Callable[[ThreadReport], T]) -> T:
    """Run `task(report)` with `n` threads in force (None: as `configure` chooses).

    Where the pool of the calling thread is too small, the task runs in a fresh thread, which gets a
    pool of its own; exceptions come back as they are.
    """
    report = configure(n)
    asked = _wanted(n)[0]
    if report.count == asked:
        return task(report)
    done: list[T] = []
    failed: list[BaseException] = []

    def body() -> None:
        try:
            done.append(task(configure(n)))
        except BaseException as error:  # carried to the caller, who knows what to do with it
            failed.append(error)

    worker = threading.Thread(target=body, name="dnnfusion-run")
    worker.start()
    worker.join()
    if failed:
        raise failed[0]
    return done[0]


def at_most_all(n: int | None) -> int | None:
    """A count that was recorded on another machine, as far as this one has processors for it."""
    return None if n is None else min(n, cpu.processors())


def _check(asked: int, how: str) -> None:
    """Refuse what cannot be had: TVM's pool spins, and more threads than processors stall it."""
    if asked < 1:
        raise ThreadError(f"{asked} threads: at least one is needed")
    have = cpu.processors()
    if asked <= have:
        return
    most = f"{have} processor{'s' * (have > 1)}; ask for {have} at most"
    if how == "asked":
        raise ThreadError(f"{asked} threads asked for, but this process may use {most}")
    raise ThreadSettingError(f"{how}={asked}: this process may use {most}")


def users_environment() -> dict[str, str]:
    """The environment for a child that makes a pool of its own: with the user's count, not ours."""
    return settings.environment(_users())


def _users() -> settings.Settings:
    """The settings as the user made them, without what this file exported."""
    found = settings.read()
    return _exported.before if _is_ours(found) and _exported.before is not None else found


def _is_ours(found: settings.Settings) -> bool:
    """Whether the count in force is what this file exported."""
    return found.threads_source == "TVM_NUM_THREADS" and found.threads == _exported.count


def in_force() -> int:
    """Threads that TVM uses in the calling thread. Makes the pool where there is none yet."""
    import tvm

    return int(tvm.get_global_func("runtime.NumThreads")())


def _apply(count: int) -> int:
    """Make the pool with room for every processor, limit it to `count`, return what TVM says."""
    import tvm

    room = cpu.processors()
    with _export_lock:
        _remember(room)
        in_force()
        tvm.get_global_func("runtime.config_threadpool")(_BIG_CORES_FIRST, count)
        _remember(count)
    return in_force()


def _remember(count: int) -> None:
    """Export a count; the user's own setting is kept aside the first time."""
    found = settings.read()
    if not _is_ours(found):
        _exported.before = found
    settings.export_threads(count)
    _exported.count = count


def _wanted(n: int | None) -> tuple[int, str, str]:
    """The count to use, where it comes from, and the reason in words."""
    if n is not None:
        return n, "asked", f"{n} asked for"
    found = _users()
    if found.threads is not None and found.threads_source is not None:
        return found.threads, found.threads_source, f"{found.threads_source}={found.threads}"
    count, why = default_count()
    return count, "cores", why
