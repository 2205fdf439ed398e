"""A session with a device: this machine, a board or phone over TVM RPC, any device of a tracker.

    with Session("tracker://127.0.0.1:9190/pixel") as session:
        program = session.load("net.so")
        (probabilities,) = program.run([image])
        print(program.time([image]).median_us)

Everything is done in a child process (`worker`) under a deadline. An error that ends the session
costs the call that was under way: the next call opens a new one and loads its libraries again. A
session belongs to one thread; several devices take several sessions (`parallel`).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tvm_dnnfusion.devices.sessions import elf, failure, link
from tvm_dnnfusion.devices.sessions.address import Address, parse
from tvm_dnnfusion.devices.sessions.channel import Channel, Gone, Late, Refused
from tvm_dnnfusion.devices.sessions.errors import (
    LibraryError,
    LostError,
    SessionError,
    UnreachableError,
)
from tvm_dnnfusion.devices.sessions.program import Program
from tvm_dnnfusion.devices.sessions.records import (
    CLUSTERS,
    LIMITS,
    CoolDown,
    DeviceInfo,
    DeviceState,
    Limits,
)

RETRY_S = 0.5
COOL_POLL_S = 2.0
AUTOPSY_S = 5.0
"""To find out why a session ended: longer than a server takes to notice, too short to annoy."""


class Session:
    """A device that can be loaded, run, timed and profiled.

    Parameters
    ----------
    address : Address or str
        See `address`.
    limits : Limits
        Deadlines.
    threads : int or None
        Threads of TVM on the device; None for the device's own choice.
    cluster : "all", "big" or "little"
        The cores that they run on.
    notify : callable
        Told when a device is waited for: one that was lost, or a free one of a tracker.
    """

    def __init__(
        self,
        address: Address | str,
        *,
        limits: Limits = LIMITS,
        threads: int | None = None,
        cluster: str = "all",
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.notify = notify
        self.address = parse(address) if isinstance(address, str) else address
        self.limits = limits
        self.generation = 0
        self._wanted = (_mode(cluster), threads or 0)
        self._in_force: int | None = None
        self._channel: Channel | None = None
        self._connected = False
        self._info = DeviceInfo()
        self._numbers = itertools.count()

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect, unless that is done. Raises UnreachableError within the limits."""
        self._open(self.limits)

    def _open(self, limits: Limits) -> None:
        if self._connected and self._channel is not None and self._channel.alive:
            return
        self._connected = False
        channel, self._channel = self._channel, None
        self._channel = link.connect(channel, self.address, limits, self.notify)
        try:
            self._info = link.describe(self._channel, limits)
            self._in_force = self._set_threads(self._channel)
        except (Late, Gone, Refused) as error:
            self.close()
            raise UnreachableError(
                f"{self.address} answered the handshake and nothing after it: {error}"
            ) from error
        self._connected = True
        self.generation += 1

    def close(self) -> None:
        """End the session; it may be opened again."""
        self._connected = False
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    @property
    def info(self) -> DeviceInfo:
        """What the device is."""
        self.open()
        return self._info

    @property
    def threads(self) -> int:
        """Threads that TVM uses on the device."""
        self.open()
        return self._in_force or 0

    def configure(self, threads: int | None = None, cluster: str = "all") -> int:
        """Set threads and the cores they stay on; the number in force is returned.

        It is less than asked for where the device has fewer processors.
        """
        self._wanted = (_mode(cluster), threads or 0)
        self._in_force = int(self.call("threads", *self._wanted))
        return self._in_force

    def state(self) -> DeviceState:
        """Temperatures and clocks now."""
        text = str(self.call("state"))
        found: dict[str, Any] = json.loads(text) if text else {}
        return DeviceState(found.get("celsius", {}), tuple(found.get("mhz", ())))

    def cool_down(self, cool: CoolDown) -> DeviceState:
        """Wait until the device is cool enough or the time is over; its state then."""
        until = time.monotonic() + cool.at_most_s
        state = self.state()
        while cool.below_celsius is not None and time.monotonic() < until:
            if state.hottest is None or state.hottest < cool.below_celsius:
                break
            time.sleep(min(COOL_POLL_S, max(0.0, until - time.monotonic())))
            state = self.state()
        return state

    def require(self, processor: str) -> None:
        """Raise LibraryError unless kernels can run there: "cpu" or "opencl"."""
        if processor not in ("cpu", "opencl"):
            raise LibraryError(f"{processor!r} is no processor: cpu, opencl")
        if processor != "cpu" and not self.call("exists", processor):
            raise LibraryError(
                f"{self.address} has no {processor} that TVM's runtime there can use"
            )

    def load(self, library: Path | str, *, processor: str = "cpu", plain: bool = False) -> Program:
        """Send a library and load it.

        Parameters
        ----------
        library : Path or str
            What `export_library` wrote, for the device's machine.
        processor : "cpu" or "opencl"
            Where its kernels run.
        plain : bool
            It holds kernels only, no virtual machine.

        Raises LibraryError where the device cannot take it.
        """
        path = Path(library)
        elf.check(path, self.info.machine)
        self.require(processor)
        program = Program(self, path, next(self._numbers), processor, plain)
        program.ready()
        return program

    def call(
        self,
        operation: str,
        *arguments: object,
        limit_s: float | None = None,
        part: Callable[[Any], None] | None = None,
    ) -> Any:
        """Have the worker do something; for programs, and for tests.

        Raises the errors of `errors`, within the limit (default `call_s`).
        """
        self.open()
        assert self._channel is not None
        limit = self.limits.call_s if limit_s is None else limit_s
        try:
            return self._channel.call(operation, *arguments, limit_s=limit, part=part)
        except (Refused, Late, Gone) as error:
            raise self._failed(operation, limit, error) from error
        except BaseException:  # an interrupt: the answer under way would be taken for the next one
            self._channel.kill()
            self._connected = False
            raise

    def wait_until_back(self, why: LostError | None = None) -> None:
        """Open again a session that was lost.

        Raises UnreachableError after `return_s`; LostError with both reasons where it is said `why`
        the device was lost.
        """
        seconds = self.limits.return_s
        until = time.monotonic() + seconds
        self.notify(f"{why or self.address}: waiting for the device, {seconds:g} s at most")
        while True:
            try:
                return self.open()
            except UnreachableError as gone:
                if time.monotonic() < until:
                    time.sleep(RETRY_S)
                    continue
                if why is None:
                    raise
                text = f"{why}; it was waited for {seconds:g} s, in vain: {gone}"
                raise LostError(text) from gone

    def _set_threads(self, channel: Channel) -> int:
        mode, count = self._wanted
        return int(channel.call("threads", mode, count, limit_s=self.limits.connect_s))

    def _failed(self, operation: str, limit: float, error: Refused | Late | Gone) -> SessionError:
        """What a failed call means; a dead session is looked into while its server remembers."""
        place = str(self.address)
        if isinstance(error, Refused) and not failure.ended(error):
            return failure.refused(place, operation, error)
        self._connected = False
        if isinstance(error, Late):
            return failure.late(place, operation, limit)
        if isinstance(error, Gone):
            return failure.ended_with(place, operation, error.code, error.said)
        if failure.expired(error):
            return failure.over_time(place, operation, self.limits.session_s)
        return self._autopsy(operation)

    def _autopsy(self, operation: str) -> SessionError:
        """Ask the server how the session ended. Costs a new session, which the next call uses."""
        place, name = str(self.address), self._info.session
        seconds = min(AUTOPSY_S, self.limits.connect_s)
        try:
            self._open(replace(self.limits, connect_s=seconds, queue_s=seconds))
            assert self._channel is not None
            found = self._channel.call("session_end", name, limit_s=seconds) if name else ""
        except (SessionError, Refused, Late, Gone) as error:
            self._connected = False
            return failure.not_back(place, operation, error)
        return failure.ended_with(place, operation, int(found) if found else None)


def _mode(cluster: str) -> int:
    """TVM's affinity mode. Raises SessionError for a cluster that there is not."""
    if cluster not in CLUSTERS:
        raise SessionError(f"{cluster!r} is no cluster of cores: {', '.join(CLUSTERS)}")
    return CLUSTERS[cluster]
