"""The parent's end of a session's child process: requests with a deadline, and an end by force."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START_S = 90.0
"""Loading TVM takes 2 s, on a loaded machine many times that."""
CLOSE_S = 2.0
_PACKAGE = Path(__file__).resolve().parents[3]


class Late(Exception):
    """No answer within the limit; the child has been ended."""


class Gone(Exception):
    """The child ended; `code` is its exit code, negative for a signal, `said` what it wrote."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


class Refused(Exception):
    """The child answered with an exception of that type name and message."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class Channel:
    """A child process with a `worker.Worker`; not to be shared between threads.

    The child is the leader of a group of its own, so that a Ctrl-C is the parent's to handle and
    that ending the group leaves nothing behind.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        code = (
            f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); "
            f"from tvm_dnnfusion.devices.sessions import worker; worker.main({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._pipe = Connection(ours.detach())
        self._started = False

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return not self._pipe.closed and self._process.poll() is None

    def start(self) -> None:
        """Wait until the child has loaded TVM. Raises Late or Gone."""
        if not self._started:
            self._answer(START_S, None)
            self._started = True

    def call(
        self,
        operation: str,
        *arguments: object,
        limit_s: float,
        part: Callable[[Any], None] | None = None,
    ) -> Any:
        """Have an operation done and return its result; `part` gets what is told meanwhile.

        `limit_s` counts from the last sign of life. Raises Late, Gone, or Refused.
        """
        self.start()
        try:
            self._pipe.send((operation, arguments))
        except OSError as error:
            raise self._gone() from error
        return self._answer(limit_s, part)

    def kill(self) -> None:
        """End the child and all of its group at once."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()
        self._said.close()

    def close(self) -> None:
        """Let the child end by itself, by force where it does not."""
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self.kill()

    def _answer(self, limit_s: float, part: Callable[[Any], None] | None) -> Any:
        until = time.monotonic() + limit_s
        while True:
            try:
                if not self._pipe.poll(max(0.0, until - time.monotonic())):
                    self.kill()
                    raise Late
                kind, value = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise self._gone() from error
            if kind == "part" and part is not None:
                part(value)
                until = time.monotonic() + limit_s
            elif kind == "done":
                return value
            elif kind == "error":
                raise Refused(*value)

    def _gone(self) -> Gone:
        """The child's end; it has closed its pipe, so it is ending if it has not yet."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.kill()
        return Gone(code, lines[-1][:300] if lines else "")
