"""The parent's end of a session's child process: requests with a deadline, and an end by force."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tvm_dnnfusion.devices.sessions import nursery
from tvm_dnnfusion.devices.sessions.errors import UnreachableError

CLOSE_S = 2.0


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
        self._code, code = os.pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._ended: int | None = None
        try:
            self._child = nursery.fork(theirs.fileno(), self._said.fileno(), code)
        except nursery.NurseryError as error:
            raise UnreachableError(f"the process that talks to devices fails: {error}") from error
        finally:
            theirs.close()
            os.close(code)
        self._pipe = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return not self._pipe.closed and self._wait(0.0) is None

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
        try:
            self._pipe.send((operation, arguments))
        except OSError as error:
            raise self._gone() from error
        return self._answer(limit_s, part)

    def kill(self) -> None:
        """End the child and all of its group at once."""
        if self._ended is None and self._wait(0.0) is None:
            for kill in (os.killpg, os.kill):  # it leads no group in its first moment
                with contextlib.suppress(ProcessLookupError):
                    kill(self._child, signal.SIGKILL)
            self._wait(CLOSE_S)
        if not self._pipe.closed:
            self._pipe.close()
            self._said.close()
            os.close(self._code)
            self._ended = self._ended or 0

    def close(self) -> None:
        """Let the child end by itself, by force where it does not."""
        if not self._pipe.closed:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self._wait(CLOSE_S)
        self.kill()

    def _wait(self, seconds: float) -> int | None:
        """The child's exit code, negative for a signal, once it has ended; else None."""
        if self._ended is None and select.select([self._code], [], [], seconds)[0]:
            told = os.read(self._code, 4)
            # Nothing is told where the process that forks has ended itself, and its children too.
            self._ended = int(struct.unpack("<i", told)[0]) if len(told) == 4 else -signal.SIGKILL
        return self._ended

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
        code = self._wait(CLOSE_S)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.kill()
        return Gone(-signal.SIGKILL if code is None else code, lines[-1][:300] if lines else "")
