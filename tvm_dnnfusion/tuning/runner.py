"""Runners: what a candidate costs, in a process that may die of it.

The local one keeps a child process that builds and times one candidate after the other; a candidate
that crashes it, or takes longer than the wall limit, costs that limit and a new child.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tvm

from tvm_dnnfusion.profile.measure import Limits
from tvm_dnnfusion.profile.trials import TIME

TIMEOUT_S = 30.0
"""Wall limit of one candidate: building takes up to some seconds, timing up to `LIMITS.wall_s`."""
START_S = 60.0
"""Wall limit of a child's start, which imports TVM."""
LIMITS = Limits(spread=0.03, wall_s=1.5)
"""How long a candidate is timed: shorter than for the profile, there are many of them."""

HEADER = struct.Struct("<Q")
_CODE = "import sys; sys.path[:0] = {path!r}; from tvm_dnnfusion.tuning.worker import main; main()"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate cost in the runner's unit; None with a message where it failed."""

    cost: float | None
    spread: float = 0.0
    samples: int = 0
    message: str = ""


class Runner(Protocol):
    """Runs scheduled functions. `unit` is that of its outcomes."""

    unit: str

    def measure(self, func: Any) -> Outcome:
        """What a function costs. Never raises for a function that is at fault itself."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class LocalRunner:
    """This machine, in a child process.

    Parameters
    ----------
    target : the TVM target as a dictionary.
    threads : threads to time with; None: as the library chooses.
    timeout_s : wall limit of a candidate, in seconds.
    """

    unit = TIME

    def __init__(
        self,
        target: Mapping[str, object],
        threads: int | None = None,
        timeout_s: float = TIMEOUT_S,
        limits: Limits = LIMITS,
    ) -> None:
        self._target, self._threads = dict(target), threads
        self._timeout_s, self._limits = timeout_s, limits
        self._child: subprocess.Popen[bytes] | None = None

    def measure(self, func: Any) -> Outcome:
        """Build and time a function in the child."""
        child = self._started()
        request = (tvm.ir.save_json(func), self._target, self._threads, self._limits)
        try:
            _send(child, pickle.dumps(request))
            answer = _receive(child, self._timeout_s)
        except _Silent as silent:
            self.close()
            return Outcome(None, message=str(silent))
        except BaseException:  # Ctrl-C: the candidate in flight is lost, its process ends
            self.close()
            raise
        return Outcome(*answer)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            root = str(Path(__file__).parents[2])
            self._child = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(path=[root])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                _receive(self._child, START_S)
            except _Silent as silent:
                self.close()
                raise RunnerError(f"the measuring process did not start: {silent}") from silent
            except BaseException:
                self.close()
                raise
        return self._child

    def close(self) -> None:
        """End the child, whatever it is doing."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


class RunnerError(RuntimeError):
    """The device cannot be used at all; the message says what to do."""

    exit_code = 3


class _Silent(Exception):
    """The child gave no answer; the message says why."""


def _send(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(HEADER.pack(len(data)) + data)
        child.stdin.flush()
    except BrokenPipeError:
        raise _Silent(_ended(child)) from None


def _receive(child: subprocess.Popen[bytes], timeout_s: float) -> Any:
    """The child's next answer; raises _Silent where it dies or is late."""
    deadline = time.monotonic() + timeout_s
    (size,) = HEADER.unpack(_read(child, HEADER.size, deadline, timeout_s))
    return pickle.loads(_read(child, size, deadline, timeout_s))


def _read(child: subprocess.Popen[bytes], size: int, deadline: float, timeout_s: float) -> bytes:
    assert child.stdout is not None
    handle, out = child.stdout.fileno(), b""
    while len(out) < size:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise _Silent(f"no answer within {timeout_s:g} s")
        piece = os.read(handle, size - len(out))
        if not piece:
            raise _Silent(_ended(child))
        out += piece
    return out


def _ended(child: subprocess.Popen[bytes]) -> str:
    code = child.wait()
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with code {code}"
