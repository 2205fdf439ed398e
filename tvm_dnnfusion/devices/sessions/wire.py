"""Sockets with a deadline, and the handshakes of TVM's RPC server and tracker on them.

TVM's own client has no limits: connecting to a busy server, or asking a tracker for a device that
is not there, blocks for ever, and an absent tracker is tried for a minute. So what can be asked is
asked here first, in plain Python. The protocols are those of TVM 0.27, `tvm/rpc/base.py`.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.devices.sessions.errors import UnreachableError

RPC_MAGIC = 0xFF271
RPC_DUPLICATE, RPC_MISMATCH = RPC_MAGIC + 1, RPC_MAGIC + 2
TRACKER_MAGIC = 0x2F271
MAX_KEY = 4096
"""Longest key, in bytes, that a server answers with; more means that it is no server of TVM's."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time, `time.monotonic`."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The point so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until then; 0 where it is over."""
        return max(0.0, self.at - time.monotonic())


class Silence(Exception):
    """The other side accepted the connection and then did not answer in time."""


class Closed(Exception):
    """The other side closed the connection."""


class Line:
    """A TCP connection whose every step ends at the deadline.

    Opening it raises UnreachableError with the reason in plain words; `what` is what was expected
    there ("a TVM RPC server"), for the message.
    """

    def __init__(self, host: str, port: int, deadline: Deadline, what: str) -> None:
        self.place = f"{host}:{port}"
        self._deadline = deadline
        try:
            self._socket = socket.create_connection((host, port), max(deadline.left(), 0.01))
        except socket.gaierror as error:
            raise UnreachableError(f"no host is named {host!r} ({error.strerror})") from error
        except ConnectionRefusedError as error:
            raise UnreachableError(
                f"nobody listens at {self.place}: start {what} there, or mend the port"
            ) from error
        except TimeoutError as error:
            raise UnreachableError(
                f"no answer from {self.place}: the host is off, or a firewall is in the way"
            ) from error
        except OSError as error:
            raise UnreachableError(f"{self.place} cannot be reached: {error.strerror}") from error

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it. Raises Closed or Silence."""
        self._limit()
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise Silence from error
        except OSError as error:
            raise Closed from error

    def receive(self, size: int) -> bytes:
        """Exactly so many bytes. Raises Closed or Silence."""
        out = b""
        while len(out) < size:
            self._limit()
            try:
                got = self._socket.recv(size - len(out))
            except TimeoutError as error:
                raise Silence from error
            except OSError as error:
                raise Closed from error
            if not got:
                raise Closed
            out += got
        return out

    def number(self) -> int:
        """A 32-bit integer, little endian."""
        return int(struct.unpack("<i", self.receive(4))[0])

    def _limit(self) -> None:
        """Wait no longer than to the deadline; a timeout of 0 would mean not to wait at all."""
        self._socket.settimeout(max(self._deadline.left(), 0.001))


def probe(host: str, port: int, key: str, deadline: Deadline) -> None:
    """Make sure that a TVM RPC server would give us a session.

    It costs the server one empty session. Raises UnreachableError with the reason.
    """
    with closing(Line(host, port, deadline, "a TVM RPC server")) as line:
        name = f"client:{key}".encode()
        try:
            line.send(struct.pack("<ii", RPC_MAGIC, len(name)) + name)
            code = line.number()
            if code == RPC_MAGIC:
                size = line.number()
                line.receive(size if 0 <= size <= MAX_KEY else 0)
        except Silence as error:
            raise UnreachableError(
                f"the server at {line.place} takes the connection and does not answer: it serves "
                "somebody else (one session at a time), is frozen, or hangs after a crash. Wait, "
                "or restart it; `python -m tvm_dnnfusion.devices.server` survives crashes"
            ) from error
        except Closed as error:
            raise UnreachableError(
                f"what listens at {line.place} is no TVM RPC server: it closed the connection. "
                "A tracker is addressed as tracker://host:port/key"
            ) from error
    _understand(code, line.place, key)


def _understand(code: int, place: str, key: str) -> None:
    if code == RPC_MISMATCH:
        raise UnreachableError(
            f"the server at {place} has another key than {key!r}: give its key, rpc://{place}/KEY. "
            "A server that reports to a tracker is reached through the tracker only"
        )
    if code == RPC_DUPLICATE:
        raise UnreachableError(f"the proxy at {place} has a client of the key {key!r} already")
    if code != RPC_MAGIC:
        raise UnreachableError(f"what listens at {place} is no TVM RPC server")


class TrackerLine:
    """A connection to a tracker. Raises UnreachableError where there is none."""

    def __init__(self, host: str, port: int, deadline: Deadline) -> None:
        self._line = Line(host, port, deadline, "a tracker (python -m tvm.exec.rpc_tracker)")
        try:
            self._line.send(struct.pack("<i", TRACKER_MAGIC))
            magic = self._line.number()
        except (Silence, Closed) as error:
            self.close()
            raise UnreachableError(self._stranger()) from error
        if magic != TRACKER_MAGIC:
            self.close()
            raise UnreachableError(self._stranger())

    def _stranger(self) -> str:
        return (
            f"what listens at {self._line.place} does not answer as a TVM tracker does: it is "
            "something else (a server is addressed as rpc://host:port), or it is frozen"
        )

    def close(self) -> None:
        """End the connection; a request that waits is forgotten with it."""
        self._line.close()

    def ask(self, *message: object) -> Any:
        """Send a command and return the answer. Raises Silence or Closed."""
        text = json.dumps(message).encode()
        self._line.send(struct.pack("<i", len(text)) + text)
        return json.loads(self._line.receive(self._line.number()))
