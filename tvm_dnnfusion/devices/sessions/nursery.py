"""Where the children of sessions come from: a process that has loaded TVM and forks them.

Loading TVM takes 3 s of a core, a fork takes 10 ms, and a child is needed anew after every crash
and every deadline. One such process serves all sessions of a program; it ends with the program.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from tvm_dnnfusion.devices import threads

START_S = 90.0
"""Loading TVM takes 3 s, on a loaded machine many times that."""
FORK_S = 30.0
_PACKAGE = Path(__file__).resolve().parents[3]


class NurseryError(RuntimeError):
    """TVM could not be loaded; the message is the last that the process wrote."""


class _Nursery:
    """The parent's end. Raises NurseryError where the process does not start."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        code = (
            f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); "
            "from tvm_dnnfusion.devices.sessions import nursery, worker; "
            f"nursery.serve({theirs.fileno()}, worker.main)"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=threads.users_environment(),
            )
        self._line = ours
        self._read(START_S)

    @property
    def alive(self) -> bool:
        """Whether it can fork, for the process that asks."""
        return self.owner == os.getpid() and self._process.poll() is None

    def fork(self, *descriptors: int) -> int:
        """A child with copies of the descriptors (pipe, messages, exit code); its process id."""
        try:
            socket.send_fds(self._line, [b"f"], descriptors)
        except OSError as error:
            raise NurseryError(self._last_words()) from error
        return self._read(FORK_S)

    def _read(self, seconds: float) -> int:
        self._line.settimeout(seconds)
        try:
            answer = self._line.recv(4)
        except OSError as error:
            self._process.kill()
            raise NurseryError(f"loading TVM took more than {seconds:g} s") from error
        if len(answer) < 4:
            raise NurseryError(self._last_words())
        return int(struct.unpack("<i", answer)[0])

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"it ended with {self._process.poll()}"


_lock = threading.Lock()
_current: list[_Nursery] = []


def fork(*descriptors: int) -> int:
    """A child that runs a worker; see `_Nursery.fork`. Raises NurseryError."""
    with _lock:
        if not _current or not _current[0].alive:
            _current[:] = [_Nursery()]
        return _current[0].fork(*descriptors)


def serve(descriptor: int, work: Callable[[int], None]) -> None:
    """The process itself: load TVM, then fork a child per request until the parent is gone.

    An exit code, negative for a signal, is written to the child's third descriptor.
    """
    line = socket.socket(fileno=descriptor)
    importlib.import_module("tvm.rpc")  # what all children need
    waking, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    line.sendall(struct.pack("<i", 0))
    codes: dict[int, int] = {}
    while True:
        ready = select.select([line, waking], [], [])[0]
        if waking in ready:
            os.read(waking, 4096)
            _reap(codes)
        if line in ready:
            data, fds, _, _ = socket.recv_fds(line, 1, 3)
            if not data:
                os._exit(0)
            pipe, said, code = fds
            child = os.fork()
            if child == 0:
                _become(line, (waking, wake, code, *codes.values()), said)
                work(pipe)
            codes[child] = code
            os.close(pipe)
            os.close(said)
            line.sendall(struct.pack("<i", child))


def _become(line: socket.socket, others: tuple[int, ...], said: int) -> None:
    """In the child: a group of its own, its own messages, nothing of the nursery's."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    line.close()
    for descriptor in others:
        os.close(descriptor)
    os.dup2(said, 2)
    os.close(said)


def _reap(codes: dict[int, int]) -> None:
    """Pass on the exit codes of all children that have ended."""
    while codes:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        code = codes.pop(child)
        with contextlib.suppress(OSError):  # nobody may want to know any more
            os.write(code, struct.pack("<i", os.waitstatus_to_exitcode(status)))
        os.close(code)
