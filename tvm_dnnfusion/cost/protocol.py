"""What a planner asks: how long would these ops take as one kernel?

Costs register by name in the same way as a user's: see `cost/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tvm_dnnfusion.ecg.graph import Graph, Op


@dataclass(frozen=True, slots=True)
class Estimate:
    """Latency in microseconds, and where it comes from.

    `source` is "database", "measured", "learned" or "analytic". `uncertainty` is relative, one
    standard deviation: 0.2 says us / 1.2 to us * 1.2; 0 where none is stated.
    """

    us: float
    source: str
    uncertainty: float = 0.0

    @property
    def low_us(self) -> float:
        """Lower end of the interval."""
        return self.us / (1.0 + self.uncertainty)

    @property
    def high_us(self) -> float:
        """Upper end of the interval."""
        return self.us * (1.0 + self.uncertainty)


@runtime_checkable
class Cost(Protocol):
    """Latency of a group of ops as one kernel."""

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """Estimate for `ops` of `graph`, in any topological order."""
        ...


@runtime_checkable
class SettlingCost(Cost, Protocol):
    """A cost that can find out more, at a price, where an estimate is too uncertain to decide."""

    def settle(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """The most certain answer there is: a measurement where one can be had."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """One kernel against several."""

    fused: Estimate
    apart: tuple[Estimate, ...]

    @property
    def apart_us(self) -> float:
        """The kernels one after another."""
        return sum(e.us for e in self.apart)

    @property
    def is_open(self) -> bool:
        """Whether the uncertainties leave open which is faster."""
        low, high = sum(e.low_us for e in self.apart), sum(e.high_us for e in self.apart)
        stated = self.fused.uncertainty > 0 or any(e.uncertainty > 0 for e in self.apart)
        return stated and self.fused.low_us <= high and low <= self.fused.high_us

    @property
    def source(self) -> str:
        """Origin of the figures: "database", or "learned, database" where they are of several."""
        return ", ".join(dict.fromkeys(e.source for e in (self.fused, *self.apart)))

    @property
    def numbers(self) -> tuple[tuple[str, float], ...]:
        """The figures behind a decision; errors only where an uncertainty is stated."""
        errors = (
            ("fused_error_us", self.fused.us * self.fused.uncertainty),
            ("separate_error_us", sum(e.us * e.uncertainty for e in self.apart)),
        )
        known = (("fused_us", self.fused.us), ("separate_us", self.apart_us))
        return (*known, *((name, us) for name, us in errors if us > 0))


def compare(
    cost: Cost, fused: tuple[Op, ...], apart: Sequence[tuple[Op, ...]], graph: Graph
) -> Comparison:
    """Ask what ops cost together and apart, and settle it where estimates leave it open."""
    groups = (fused, *apart)
    first = [cost.latency_us(ops, graph) for ops in groups]
    found = Comparison(first[0], tuple(first[1:]))
    if not (found.is_open and isinstance(cost, SettlingCost)):
        return found
    sure = [cost.settle(ops, graph) for ops in groups]
    return Comparison(sure[0], tuple(sure[1:]))
