"""What can go wrong between us and a device, as typed errors that each end within a deadline.

The command line prints the message and leaves with `exit_code`: 2 for what the user gave (an
address, a library for another machine), 3 for a device that is absent, busy, lost or crashed.
"""

from __future__ import annotations


class SessionError(RuntimeError):
    """Base of this room's errors; the message names the device and the way out."""

    exit_code = 3


class AddressError(SessionError):
    """A text that is no address of a device."""

    exit_code = 2


class UnreachableError(SessionError):
    """No session could be had: nobody listens, wrong key, no tracker, all devices busy."""


class LostError(SessionError):
    """The device stopped answering, or its session ended, during a call.

    The work of that call is lost, nothing else: the session opens again at its next use. `samples`
    are the microseconds per run that a timing had taken before.
    """

    samples: tuple[float, ...] = ()


class TimingInterrupt(KeyboardInterrupt):
    """The user's interrupt during a timing; `samples` as LostError has them."""

    def __init__(self, samples: tuple[float, ...]) -> None:
        super().__init__()
        self.samples = samples


def is_interrupt(error: BaseException) -> bool:
    """Whether it is the user's interrupt, which TVM hands on as an error of its own."""
    return isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error)


class DeadlineError(LostError):
    """A call took longer than its limit: the device is frozen, the link is gone, or it is slow."""


class CrashError(SessionError):
    """The code that was run killed the session's process; running it again would do so again.

    `signal` is the number of the signal, for instance 4 for an illegal instruction.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class DeviceMemoryError(SessionError):
    """The device has too little memory for a call; the session goes on."""


class LibraryError(SessionError):
    """A library that the device cannot take: of another machine, or no library at all."""

    exit_code = 2


class CallError(SessionError):
    """The device refused a call: arguments that do not fit, a function that is not there."""

    exit_code = 2
