"""A library on a device: runs, timings, profiles. Made by `Session.load`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_dnnfusion.devices.sessions.errors import CallError, LostError, TimingInterrupt
from tvm_dnnfusion.devices.sessions.records import (
    FEWEST,
    TIMING,
    KernelCall,
    KernelCount,
    Timing,
    TimingOptions,
)

if TYPE_CHECKING:
    from tvm_dnnfusion.devices.sessions.session import Session

Array = np.ndarray[Any, Any]
PROFILE_RUNS = 5


class Program:
    """A loaded library; after a loss it is sent again when it is next used.

    Inputs are arrays in the order of the function's parameters. All methods raise the errors of
    `errors`, each within its limit: `limit_s`, by default the session's `call_s`.
    """

    def __init__(
        self, session: Session, path: Path, number: int, processor: str, plain: bool
    ) -> None:
        self.session = session
        self.path = path
        self.processor = processor
        self.plain = plain
        self._number = number
        self._generation = -1

    def ready(self) -> None:
        """Have the library on the device, in the session that is open."""
        self.session.open()
        if self._generation == self.session.generation:
            return
        # A name of its own each time: a file that is mapped must not be written over.
        name = f"{self.path.stem}-{uuid.uuid4().hex[:12]}.so"
        self.session.call(
            "load",
            self._number,
            str(self.path.resolve()),
            name,
            self.processor,
            self.plain,
            limit_s=self.session.limits.upload_s,
        )
        self._generation = self.session.generation

    def close(self) -> None:
        """Remove the library from the device."""
        if self._generation == self.session.generation:
            self.session.call("unload", self._number)
        self._generation = -1

    def run(
        self, inputs: Sequence[Array], *, entry: str = "main", limit_s: float | None = None
    ) -> list[Array]:
        """Run a function once; its outputs in order, tuples flattened.

        Of a plain library: all arguments after the call, the outputs among them.
        """
        self.ready()
        found = self.session.call("run", self._number, entry, list(inputs), limit_s=limit_s)
        return list(found)

    def time(
        self,
        inputs: Sequence[Array],
        *,
        entry: str = "main",
        options: TimingOptions = TIMING,
        limit_s: float | None = None,
        taken: Sequence[float] = (),
    ) -> Timing:
        """Time a function with TVM's timer on the device.

        A device that is lost meanwhile costs the samples under way: the rest is taken when it is
        back, at most `restarts` times. A crash is not tried again. `taken` are samples of an
        earlier call that count; those of a call that ends with LostError, or with the user's
        interrupt (TimingInterrupt), are the error's.
        """
        samples: list[float] = list(taken)
        lost: list[str] = []
        while True:
            try:
                calls, warmups = self._time(inputs, entry, options, samples, limit_s)
                return Timing(tuple(samples), calls, warmups, tuple(lost))
            except LostError as error:
                lost.append(str(error))
                try:
                    if len(lost) > self.session.limits.restarts:
                        raise
                    self.session.wait_until_back(error)
                except LostError as gone:
                    gone.samples = tuple(samples)
                    raise
            except KeyboardInterrupt as stopped:
                raise TimingInterrupt(tuple(samples)) from stopped

    def _time(
        self,
        inputs: Sequence[Array],
        entry: str,
        options: TimingOptions,
        samples: list[float],
        limit_s: float | None,
    ) -> tuple[int, int]:
        self.ready()
        self.session.cool_down(options.cool)
        found = self.session.call(
            "time",
            self._number,
            entry,
            list(inputs),
            options.samples - len(samples),
            options.sample_us,
            options.warmup_s,
            options.cool.pause_s,
            options.wall_s,
            max(0, FEWEST - len(samples)),
            limit_s=limit_s,
            part=samples.extend,
        )
        return int(found[0]), int(found[1])

    def profile(
        self,
        inputs: Sequence[Array],
        *,
        entry: str = "main",
        runs: int = PROFILE_RUNS,
        limit_s: float | None = None,
    ) -> tuple[tuple[KernelCall, ...], ...]:
        """Kernels in the order in which they run with their times, once per run.

        The instrument costs some microseconds per kernel: shares, not absolute times. Raises
        CallError where the server is not ours, or the library has no virtual machine.
        """
        self.ready()
        if self.plain:
            raise CallError(f"{self.path} holds kernels only: there is no run to profile")
        if not self.session.info.ours:
            raise CallError(
                f"the server at {self.session.address} cannot time kernels: start "
                "`python -m tvm_dnnfusion.devices.server` there, or do without the profile"
            )
        texts = self.session.call(
            "profile", self._number, entry, list(inputs), runs, limit_s=limit_s
        )
        return tuple(tuple((str(n), ns / 1e3) for n, ns in json.loads(text)) for text in texts)

    def counts(
        self, inputs: Sequence[Array], *, entry: str = "main", limit_s: float | None = None
    ) -> tuple[KernelCount, ...]:
        """Kernels of one run in order, with the instructions of this library that each executed.

        Exact: the same on each run and on each emulated CPU model. What kernels call elsewhere
        (`expf` of the C library) is not in it. Raises CallError where the device counts none.
        """
        self.ready()
        text = self.session.call("counts", self._number, entry, list(inputs), limit_s=limit_s)
        if not text:
            raise CallError(
                f"{self.session.address} counts no instructions; a virtual phone does: "
                "`dnnfusion devices virtual up --count`"
            )
        rows = [(str(name), counts) for name, counts in json.loads(text)]
        return tuple((name, counts) for name, counts in rows if counts["all"])
