"""Runners: what a candidate costs, on this machine; `remote` has those for devices.

A candidate is built and timed in a child process; one that crashes it, or takes longer than the
wall limit, costs that limit and a new child.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import tvm

from tvm_dnnfusion.profile.measure import Limits
from tvm_dnnfusion.profile.trials import TIME
from tvm_dnnfusion.tuning.child import Child, RunnerError, Silent

TIMEOUT_S = 30.0
"""Wall limit of one candidate: building takes up to some seconds, timing up to `LIMITS.wall_s`."""
LIMITS = Limits(spread=0.03, wall_s=1.5)
"""How long a candidate is timed: shorter than for the profile, there are many of them."""

__all__ = ["LIMITS", "TIMEOUT_S", "LocalRunner", "Outcome", "Runner", "RunnerError"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate cost in the runner's unit; None with a message where it failed."""

    cost: float | None
    spread: float = 0.0
    samples: int = 0
    message: str = ""


class Runner(Protocol):
    """Runs scheduled functions. `unit` is that of its outcomes."""

    unit: str

    def measure(self, func: Any) -> Outcome:
        """What a function costs. Raises only where the device itself is at fault."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class LocalRunner:
    """This machine, in a child process.

    Parameters
    ----------
    target : the TVM target as a dictionary.
    threads : threads to time with; None: as the library chooses.
    timeout_s : wall limit of a candidate, in seconds.
    """

    unit = TIME

    def __init__(
        self,
        target: Mapping[str, object],
        threads: int | None = None,
        timeout_s: float = TIMEOUT_S,
        limits: Limits = LIMITS,
    ) -> None:
        self._target, self._threads = dict(target), threads
        self._timeout_s, self._limits = timeout_s, limits
        self.child = Child()

    def measure(self, func: Any) -> Outcome:
        """Build and time a function in the child."""
        request = ("time", tvm.ir.save_json(func), self._target, self._threads, self._limits)
        try:
            return Outcome(*self.child.ask(request, self._timeout_s))
        except Silent as silent:
            return Outcome(None, message=str(silent))

    def close(self) -> None:
        """End the child."""
        self.child.close()
