"""What a report is made of, beside the plan and the graph: rules, kernel times, checks."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.report.stats import Stats
from tvm_dnnfusion.report.summary import GraphSummary


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rewriting rule and how often it fired.

    `near_miss` says, for a rule that never fired, how far its best match got and what stopped it.
    """

    name: str
    fired: int
    note: str = ""
    near_miss: str = ""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """A kernel's share of one run: `name` is its block's, or TVM's own; `total_us` of all calls.

    `note` says what kind of figure it is where it was not measured as such (a mean).
    """

    name: str
    calls: float
    total_us: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of outputs: against what, which output, how far apart."""

    against: str
    output: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """One optimisation. `facts` are (name, value) pairs for the head of the page."""

    title: str
    plan: Plan
    graph: GraphSummary
    stats: Stats
    facts: tuple[tuple[str, str], ...] = ()
    rules: tuple[RuleLine, ...] = ()
    kernels: tuple[KernelTime, ...] = ()
    checks: tuple[Check, ...] = ()
