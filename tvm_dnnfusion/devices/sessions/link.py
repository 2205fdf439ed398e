"""Opening the connection of a session: by address, within deadlines, with plain reasons."""

from __future__ import annotations

import json
from collections.abc import Callable

from tvm_dnnfusion.devices.sessions import address as forms
from tvm_dnnfusion.devices.sessions import tracker, virtual
from tvm_dnnfusion.devices.sessions.address import Address
from tvm_dnnfusion.devices.sessions.channel import Channel, Gone, Late, Refused
from tvm_dnnfusion.devices.sessions.elf import machine_of, plain
from tvm_dnnfusion.devices.sessions.errors import UnreachableError
from tvm_dnnfusion.devices.sessions.meaning import essence
from tvm_dnnfusion.devices.sessions.records import DeviceInfo, Limits
from tvm_dnnfusion.devices.sessions.wire import Deadline, probe

TRIES = 3
"""Devices of a tracker that may be found frozen or gone before we give up."""


def connect(
    channel: Channel | None,
    address: Address,
    limits: Limits,
    notify: Callable[[str], None] = lambda _: None,
) -> Channel:
    """Connect a channel; returns it, or a new one where there is none that can be used.

    What can be asked without TVM is asked first: an absent device is named at once, and not after
    TVM has been loaded. `notify` is told where all devices of a tracker are busy. Raises
    UnreachableError.
    """
    if address.kind == forms.VIRTUAL:
        address = virtual.address()
    try:
        if address.kind == forms.RPC:
            probe(address.host, address.port, address.key, Deadline.after(limits.connect_s))
        elif address.kind == forms.TRACKER:
            status = tracker.check(address, limits.connect_s)
            if not status.free:
                notify(
                    f"waiting for a device at {address}, up to {limits.queue_s:g} s: all that it "
                    f"has ({status.devices}) are in use, {status.waiting} other clients wait"
                )
        channel = _started(channel)
        if address.kind == forms.TRACKER:
            return _from_tracker(channel, address, limits)
        if address.kind == forms.RPC:
            _dial(channel, address.host, address.port, address.key, limits)
        else:
            channel.call("here", limit_s=limits.connect_s)
        return channel
    except (Gone, Late) as error:
        _end(channel)
        raise UnreachableError(f"{address}: the measuring process failed: {error}") from error
    except BaseException:
        _end(channel)
        raise


def _started(channel: Channel | None) -> Channel:
    """A channel with a process of its own: a tracker's match is good for seconds only."""
    return channel if channel is not None and channel.alive else Channel()


def _end(channel: Channel | None) -> None:
    if channel is not None:
        channel.kill()


def _from_tracker(channel: Channel, address: Address, limits: Limits) -> Channel:
    """The first device under the key that answers; those that do not are named if none does."""
    silent: list[str] = []
    while len(silent) < TRIES:
        try:
            match = tracker.request(address, limits.queue_s)
        except UnreachableError as error:
            raise UnreachableError("; and ".join((str(error), *silent))) from error
        try:
            _dial(channel, match.host, match.port, match.key, limits)
            return channel
        except UnreachableError as error:
            silent.append(str(error))
            channel = _started(channel)
    raise UnreachableError(f"{address}: no device answers: {'; '.join(silent)}")


def _dial(channel: Channel, host: str, port: int, key: str, limits: Limits) -> None:
    place = f"{host}:{port}"
    try:
        channel.call("connect", host, port, key, limits.session_s, limit_s=limits.connect_s)
    except Late as error:
        raise UnreachableError(
            f"the server at {place} takes the connection and does not answer within "
            f"{limits.connect_s:g} s: it is frozen, busy, or hangs after a crash; restart it"
        ) from error
    except Refused as error:
        raise UnreachableError(f"{place}: {essence(error.text)}") from error


def describe(channel: Channel, limits: Limits) -> DeviceInfo:
    """What the device says of itself; its machine from its server's program where it is silent."""
    text = channel.call("info", limit_s=limits.connect_s)
    if not text:
        header = channel.call("executable_header", limit_s=limits.upload_s)
        return DeviceInfo(machine=machine_of(header))
    found = json.loads(text)
    return DeviceInfo(
        machine=plain(found["machine"]),
        system=found["system"],
        processors=found["processors"],
        max_mhz=tuple(found["max_mhz"]),
        tvm=found["tvm"],
        session=found["session"],
        emulated=found.get("emulated", ""),
    )
