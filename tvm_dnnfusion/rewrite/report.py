"""What rewriting did: steps, counts, and how close the rules came that never applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.ecg.graph import Graph


@dataclass(frozen=True, slots=True)
class Step:
    """One application: the ops that went, the ops that came, FLOPs of the graph around it."""

    rule: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    flops_before: int
    flops_after: int


@dataclass(frozen=True, slots=True)
class RewriteReport:
    """Summary of one run. `near_misses`: for a rule that never applied, what stopped its best
    match; `complete` is False when max_steps ended the run."""

    counts: Mapping[str, int]
    steps: tuple[Step, ...]
    near_misses: Mapping[str, str]
    ops_before: int
    ops_after: int
    flops_before: int
    flops_after: int
    bytes_read_before: int
    bytes_read_after: int
    partitions: int
    complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "counts": dict(self.counts),
            "near_misses": dict(self.near_misses),
            "steps": [
                {
                    "rule": s.rule,
                    "before": list(s.before),
                    "after": list(s.after),
                    "flops_before": s.flops_before,
                    "flops_after": s.flops_after,
                }
                for s in self.steps
            ],
            **{
                name: getattr(self, name)
                for name in (
                    "ops_before",
                    "ops_after",
                    "flops_before",
                    "flops_after",
                    "bytes_read_before",
                    "bytes_read_after",
                    "partitions",
                    "complete",
                )
            },
        }


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """How to rewrite.

    reassociate : also apply rules that change rounding.
    disabled : names of rules that must not be applied.
    fold : compute ops whose operands are all constants.
    range_risk : also apply rules that may overflow or underflow where the original does not.
    max_steps : applications after which to stop; None: 20 per op, and at least 1000.
    """

    reassociate: bool = True
    disabled: frozenset[str] = frozenset()
    fold: bool = True
    max_steps: int | None = None
    range_risk: bool = False


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """The rewritten graph, and what was done."""

    graph: Graph
    report: RewriteReport
