"""A process that does what may kill it: builds and times candidates, each within a wall limit."""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

START_S = 120.0
"""Wall limit of a child's start, which imports TVM: 2 s, on a loaded machine many times that."""

HEADER = struct.Struct("<Q")
_CODE = "import sys; sys.path[:0] = {path!r}; from tvm_dnnfusion.tuning.worker import main; main()"


class Silent(Exception):
    """The child gave no answer; the message says why."""


class RunnerError(RuntimeError):
    """The device cannot be used at all; the message says what to do."""

    exit_code = 3


class Child:
    """The process, started when it is first asked and again after it has died.

    It leads a group of its own, so that a Ctrl-C is the parent's to handle and that ending the
    group leaves nothing behind.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: tuple[Any, ...], timeout_s: float) -> Any:
        """The answer to a request (see `worker`). Raises Silent where there is none in time."""
        process = self._started()
        try:
            _send(process, pickle.dumps(request))
            return _receive(process, timeout_s)
        except BaseException:  # also Ctrl-C: the request under way is lost, its process ends
            self.close()
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            root = str(Path(__file__).parents[2])
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(path=[root])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                _receive(self._process, START_S)
            except Silent as silent:
                self.close()
                raise RunnerError(f"the measuring process did not start: {silent}") from silent
            except BaseException:
                self.close()
                raise
        return self._process

    def close(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(HEADER.pack(len(data)) + data)
        process.stdin.flush()
    except BrokenPipeError:
        raise Silent(_ended(process)) from None


def _receive(process: subprocess.Popen[bytes], timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    (size,) = HEADER.unpack(_read(process, HEADER.size, deadline, timeout_s))
    return pickle.loads(_read(process, size, deadline, timeout_s))


def _read(process: subprocess.Popen[bytes], size: int, deadline: float, timeout_s: float) -> bytes:
    assert process.stdout is not None
    handle, out = process.stdout.fileno(), b""
    while len(out) < size:
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise Silent(f"no answer within {timeout_s:g} s")
        piece = os.read(handle, size - len(out))
        if not piece:
            raise Silent(_ended(process))
        out += piece
    return out


def _ended(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    return f"the process ended with code {code}"
