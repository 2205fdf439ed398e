"""What a planner asks: how long would these ops take as one kernel?

Costs register by name in the same way as a user's: see `cost/__init__.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tvm_dnnfusion.ecg.graph import Graph, Op


@dataclass(frozen=True, slots=True)
class Estimate:
    """Latency in microseconds, and where it comes from: "database", "measured" or "analytic"."""

    us: float
    source: str


@runtime_checkable
class Cost(Protocol):
    """Latency of a group of ops as one kernel."""

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` of `graph`, in any topological order."""
        ...
