"""From how a call failed to the error that is raised: what happened, to which call, what to do."""

from __future__ import annotations

import signal

from tvm_dnnfusion.devices.sessions.channel import Refused
from tvm_dnnfusion.devices.sessions.errors import (
    CallError,
    CrashError,
    DeadlineError,
    DeviceMemoryError,
    LibraryError,
    LostError,
    SessionError,
)
from tvm_dnnfusion.devices.sessions.meaning import Meaning, essence, meaning

_OF_THE_CODE = {
    signal.SIGILL: "an illegal instruction: the library was compiled for another CPU than the "
    "device has; mend mcpu and mattr of its target",
    signal.SIGSEGV: "an access to memory that is not there",
    signal.SIGBUS: "an access to memory that is not there, or not aligned",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGABRT: "an abort, as failed checks in native code raise",
    signal.SIGTRAP: "a trap",
}
_FROM_OUTSIDE = {
    signal.SIGKILL: "it was killed, by the system for want of memory or by somebody",
    signal.SIGTERM: "it was told to end",
    signal.SIGHUP: "its terminal was closed",
    signal.SIGINT: "it was interrupted",
}


def ended(error: Refused) -> bool:
    """Whether the session is over after this answer."""
    return meaning(error.kind, error.text) in (Meaning.DIED, Meaning.EXPIRED)


def expired(error: Refused) -> bool:
    """Whether the server ended the session because its time was over."""
    return meaning(error.kind, error.text) is Meaning.EXPIRED


def refused(place: str, operation: str, error: Refused) -> SessionError:
    """The device answered that it cannot; the session goes on."""
    said = essence(error.text)
    kind = meaning(error.kind, error.text)
    if kind is Meaning.MEMORY:
        return DeviceMemoryError(
            f"{place} is out of memory during {operation}: a smaller model, or less beside it"
        )
    if kind is Meaning.LIBRARY:
        return LibraryError(
            f"{place} cannot load the library: {said}. It may be for another machine or system, "
            "or need libraries that are not there"
        )
    if kind is Meaning.CALL:
        return CallError(f"{place} refused {operation}: {said}")
    return SessionError(f"{place} failed at {operation}: {error.kind}: {said}")


def late(place: str, operation: str, limit_s: float) -> SessionError:
    """No answer within the limit."""
    return DeadlineError(
        f"{place} gave no answer to {operation} within {limit_s:g} s: it is frozen, the link is "
        "lost, or the work takes longer; then give a higher limit"
    )


def over_time(place: str, operation: str, session_s: float) -> SessionError:
    """The server's own limit for the session."""
    return LostError(
        f"{place} ended the session during {operation}: it was open for its limit of "
        f"{session_s:g} s"
    )


def not_back(place: str, operation: str, reason: Exception) -> SessionError:
    """The session died and no new one can be had."""
    return LostError(f"{place} was lost during {operation}, and is not back: {reason}")


def ended_with(place: str, operation: str, code: int | None, said: str = "") -> SessionError:
    """The session's process ended with an exit code, None where nobody knows it."""
    extra = f" ({said})" if said else ""
    if code is None:
        return LostError(
            f"the session at {place} ended during {operation}: the code crashed it, or it was "
            "killed; the server's log says which. `python -m tvm_dnnfusion.devices.server` in its "
            "place would tell"
        )
    number = -code
    for cause, words in _OF_THE_CODE.items():
        if number == cause:
            return CrashError(
                f"{operation} crashed the session at {place}: {words} (signal {number}, "
                f"{cause.name})",
                number,
            )
    for cause, words in _FROM_OUTSIDE.items():
        if number == cause:
            return LostError(
                f"the session at {place} ended during {operation}: {words} ({cause.name})"
            )
    return LostError(f"the session at {place} ended during {operation} with code {code}{extra}")
