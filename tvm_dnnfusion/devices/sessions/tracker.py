"""A tracker's devices: who is there, who is free, and getting one of them within a deadline."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.devices.sessions.address import Address
from tvm_dnnfusion.devices.sessions.errors import UnreachableError
from tvm_dnnfusion.devices.sessions.wire import Closed, Deadline, Silence, TrackerLine

REQUEST, SUMMARY, SUCCESS = 4, 6, 0
"""Codes of the tracker's protocol, TVM 0.27 `tvm/rpc/base.py`."""
PRIORITY = 1


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Devices under one key: registered ones, free ones, and clients that wait for one."""

    key: str
    devices: int
    free: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Match:
    """A device that the tracker gave us: connect to it with this key within seconds."""

    host: str
    port: int
    key: str


def summary(host: str, port: int, seconds: float = 5.0) -> tuple[KeyStatus, ...]:
    """Every key of a tracker that has devices or clients, sorted.

    Raises UnreachableError within the time given.
    """
    with closing(TrackerLine(host, port, Deadline.after(seconds))) as line:
        return _summary(line, f"{host}:{port}")


def servers(host: str, port: int, seconds: float = 5.0) -> tuple[tuple[str, int], ...]:
    """(key, port) of every device that has registered with a tracker. Raises UnreachableError."""
    with closing(TrackerLine(host, port, Deadline.after(seconds))) as line:
        found = _ask(line, f"{host}:{port}")["server_info"]
    return tuple((_key(info), int(info["addr"][1])) for info in found if "addr" in info)


def check(address: Address, seconds: float) -> KeyStatus:
    """The status of the address' key, at least one device under it.

    Raises UnreachableError: no tracker, no device of that key (with the keys that there are).
    """
    place = f"{address.host}:{address.port}"
    found = {status.key: status for status in summary(address.host, address.port, seconds)}
    status = found.get(address.key)
    if status is not None and status.devices:
        return status
    known = ", ".join(sorted(k for k, s in found.items() if s.devices)) or "none"
    raise UnreachableError(
        f"the tracker at {place} has no device under the key {address.key!r}; its keys: {known}. "
        f"Start the server with --tracker={place} --key={address.key}"
    )


def request(address: Address, seconds: float) -> Match:
    """A free device under the address' key; waits for at most `seconds` where all are busy.

    Raises UnreachableError: as `check`, and where all stay busy.
    """
    status = check(address, seconds)
    place = f"{address.host}:{address.port}"
    with closing(TrackerLine(address.host, address.port, Deadline.after(seconds))) as line:
        try:
            answer = line.ask(REQUEST, address.key, "", PRIORITY)
        except Silence as error:
            raise UnreachableError(_busy(status, place, seconds)) from error
        except Closed as error:
            raise UnreachableError(f"the tracker at {place} went away while we waited") from error
    if answer[0] != SUCCESS:
        raise UnreachableError(f"the tracker at {place} refused the request: {answer}")
    host, port, key = answer[1]
    return Match(str(host), int(port), str(key))


def _busy(status: KeyStatus, place: str, seconds: float) -> str:
    one = status.devices == 1
    count = (
        "its only device of that key is"
        if one
        else (f"all its {status.devices} devices of that key are")
    )
    return (
        f"the tracker at {place} gave no device under {status.key!r} within {seconds:g} s: {count} "
        f"in use, {status.waiting} other clients wait"
    )


def _ask(line: TrackerLine, place: str) -> Any:
    """A tracker's own summary: `queue_info` by key, and `server_info` as a list."""
    try:
        return line.ask(SUMMARY)[1]
    except (Silence, Closed) as error:
        raise UnreachableError(f"the tracker at {place} does not answer: restart it") from error


def _key(info: dict[str, Any]) -> str:
    """The key of "server:pixel" is "pixel"."""
    return str(info.get("key", "")).partition(":")[2]


def _summary(line: TrackerLine, place: str) -> tuple[KeyStatus, ...]:
    answer = _ask(line, place)
    queues = answer["queue_info"]
    servers = Counter(_key(info) for info in answer["server_info"])
    return tuple(
        KeyStatus(
            key,
            servers[key],
            int(queues.get(key, {}).get("free", 0)),
            int(queues.get(key, {}).get("pending", 0)),
        )
        for key in sorted({*queues, *servers})
    )
