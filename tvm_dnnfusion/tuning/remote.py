"""Candidates on a device: a board or phone over RPC, any of a tracker, the virtual phone.

A candidate is built here, in a process that may die of it, linked for the device, sent and timed
there. On the virtual phone, whose time means nothing, its cost is the number of instructions that
it executes, which is exact. A candidate that crashes or hangs the device costs the limit of one
call; the session opens again for the next one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tvm_dnnfusion.devices.sessions import (
    CallError,
    DeadlineError,
    Limits,
    LostError,
    Program,
    Session,
    SessionError,
    TimingOptions,
    UnreachableError,
    parse,
)
from tvm_dnnfusion.devices.sessions.address import VIRTUAL
from tvm_dnnfusion.profile.arrays import Array, random_array
from tvm_dnnfusion.profile.measure import static_shape
from tvm_dnnfusion.profile.trials import INSTRUCTIONS, TIME
from tvm_dnnfusion.tuning.child import Child, Silent
from tvm_dnnfusion.tuning.runner import Outcome, RunnerError

SYMBOL = "candidate"
TIMING = TimingOptions(samples=7, sample_us=2_000.0, warmup_s=0.05)
"""As on this machine: samples that are long beside what waking threads takes."""


class SessionRunner:
    """A device of `devices.sessions`, by its address.

    Parameters
    ----------
    target : what to build for, as a dictionary.
    threads : threads on the device; None: its own choice.
    timeout_s : limit of building, and of one call on the device.
    unit : TIME or INSTRUCTIONS; None: instructions on the virtual phone, time elsewhere.

    Raises UnreachableError where there is no such device; `measure` raises RunnerError where
    instructions are wanted of one that does not count them.
    """

    def __init__(
        self,
        address: str,
        target: Mapping[str, object],
        threads: int | None,
        timeout_s: float,
        unit: str | None = None,
    ) -> None:
        place = parse(address)
        self.unit = unit or (INSTRUCTIONS if place.kind == VIRTUAL else TIME)
        self._target, self._timeout_s = dict(target), timeout_s
        limits = Limits(call_s=timeout_s, upload_s=timeout_s, restarts=0)
        self._session = Session(place, limits=limits, threads=threads)
        self._session.open()
        self._child = Child()

    def measure(self, func: Any) -> Outcome:
        """Build a function here and run it there."""
        named = func.with_attr("global_symbol", SYMBOL)
        with tempfile.TemporaryDirectory(prefix="dnnfusion-tune-") as folder:
            path = Path(folder) / "candidate.so"
            request = ("build", tvm.ir.save_json(named), self._target, str(path))
            try:
                message = self._child.ask(request, self._timeout_s)
            except Silent as silent:
                return Outcome(None, message=str(silent))
            if message:
                return Outcome(None, message=message)
            return self._run(path, _arguments(func))

    def _run(self, path: Path, arrays: list[Array]) -> Outcome:
        """The cost on the device; one that was lost, and is back, is asked once more."""
        for last in (False, True):
            try:
                program = self._session.load(path, plain=True)
                try:
                    return self._cost(program, arrays)
                finally:
                    with suppress(SessionError):
                        program.close()
            except UnreachableError:
                raise
            except LostError as error:
                if last or isinstance(error, DeadlineError):
                    return Outcome(None, message=str(error))
                self._session.wait_until_back()
            except SessionError as error:
                return Outcome(None, message=str(error))
        raise AssertionError("unreachable")

    def _cost(self, program: Program, arrays: list[Array]) -> Outcome:
        if self.unit == TIME:
            found = program.time(arrays, entry=SYMBOL, options=TIMING, limit_s=self._timeout_s)
            return Outcome(found.median_us, found.spread, len(found.samples_us))
        try:
            rows = program.counts(arrays, entry=SYMBOL, limit_s=self._timeout_s)
        except CallError as error:
            raise RunnerError(str(error)) from error
        return Outcome(float(sum(counts["all"] for _, counts in rows)), 0.0, 1)

    def close(self) -> None:
        """End the session and the building process."""
        self._child.close()
        with suppress(SessionError):
            self._session.close()


def _arguments(func: Any) -> list[Array]:
    """Random tensors for the parameters of a function, integers all 0."""
    rng, out = np.random.default_rng(0), []
    for param in func.params:
        shape = static_shape(param.ty)
        if shape is None:
            raise RunnerError(f"parameter {param.name} has no static shape")
        out.append(random_array(shape, str(param.ty.dtype), rng, int_high=1))
    return out
