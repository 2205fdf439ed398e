"""From a compiled model to what is written about it: plan.json, stats.json, report.html."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.report.data import Check, KernelTime, ReportData, RuleLine
from tvm_dnnfusion.report.format import number_text
from tvm_dnnfusion.report.html import render
from tvm_dnnfusion.report.plan_file import plan_file_text
from tvm_dnnfusion.report.summary import GraphSummary

if TYPE_CHECKING:
    from tvm_dnnfusion.rewrite.report import RewriteReport
    from tvm_dnnfusion.runtime.bench import KernelTime as Measured
    from tvm_dnnfusion.runtime.verify import OutputCheck, Verification

PLAN_FILE, STATS_FILE, REPORT_FILE = "plan.json", "stats.json", "report.html"


def files(data: ReportData, statistics: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content of everything that is written beside the library."""
    return {
        PLAN_FILE: plan_file_text(data.plan, data.graph).encode(),
        STATS_FILE: (json.dumps(statistics, indent=1) + "\n").encode(),
        REPORT_FILE: render(data).encode(),
    }


def rule_lines(report: RewriteReport | None) -> tuple[RuleLine, ...]:
    """Rules that fired, and near misses of those that did not, with what each does."""
    if report is None:
        return ()
    from tvm_dnnfusion.rewrite import all_rules

    known = {rule.name: rule for rule in all_rules()}

    def note(name: str) -> str:
        rule = known.get(name)
        if rule is None:
            return ""
        return f"{rule.before} → {rule.after}" + ("; changes rounding" * rule.reassociates)

    fired = (RuleLine(n, c, note(n)) for n, c in report.counts.items() if c)
    missed = (RuleLine(n, 0, note(n), why) for n, why in report.near_misses.items())
    return (*fired, *missed)


def block_times(
    measured: Iterable[Measured], plan: Plan, kernel_of: Mapping[str, str]
) -> tuple[KernelTime, ...]:
    """Times by block; blocks that share one kernel get an equal part of its time, and say so."""
    sharing: dict[str, list[str]] = {}
    for block in plan.blocks:
        kernel = kernel_of.get(block.name, block.name)
        sharing.setdefault(kernel, []).append(block.name)
    out: list[KernelTime] = []
    for row in measured:
        blocks = sharing.get(row.name, [])
        if len(blocks) < 2:
            out.append(KernelTime(blocks[0] if blocks else row.name, row.calls, row.us))
            continue
        note = f"mean of {len(blocks)} blocks that share one kernel"
        part = len(blocks)
        out += [KernelTime(b, row.calls / part, row.us / part, note) for b in blocks]
    return tuple(out)


def check_lines(verifications: Iterable[Verification]) -> tuple[Check, ...]:
    """One line per reference and output."""
    return tuple(
        Check(v.against, c.name, c.ok, check_text(c)) for v in verifications for c in v.outputs
    )


def check_text(check: OutputCheck) -> str:
    """Errors of one output in words."""
    errors = f"max abs {check.max_abs:.3g}, max rel {check.max_rel:.3g}, rms {check.rms_rel:.3g}"
    limits = f"rtol {check.rtol:g}, atol {check.atol:.3g}"
    if check.ok:
        return f"{errors} (allowed: {limits})"
    if not check.worst:
        return check.reason
    where = ", ".join(str(i) for i in check.worst)
    values = f"{check.actual:.6g} instead of {check.expected:.6g}"
    return f"{check.reason}; worst at [{where}]: {values}; {errors} (allowed: {limits})"


def verification_data(verifications: Iterable[Verification]) -> list[dict[str, Any]]:
    """Verifications as JSON data."""
    fields = (
        "name",
        "dtype",
        "ok",
        "max_abs",
        "max_rel",
        "rms_rel",
        "rtol",
        "atol",
        "wrong",
        "actual",
        "expected",
        "reason",
    )
    return [
        {
            "against": v.against,
            "ok": v.ok,
            "outputs": [
                {
                    **{name: getattr(c, name) for name in fields},
                    "shape": list(c.shape),
                    "worst": list(c.worst),
                }
                for c in v.outputs
            ],
        }
        for v in verifications
    ]


def kernel_rows(measured: Iterable[Measured], limit: int | None = None) -> list[tuple[str, ...]]:
    """Rows of a table of kernels: name, calls, time, share, source layers."""
    rows = [
        (
            k.name,
            f"{k.calls:g}",
            number_text("_us", k.us),
            f"{100 * k.share:.1f} %",
            ", ".join(k.origins),
        )
        for k in measured
    ]
    return rows if limit is None else rows[:limit]


def kernel_data(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """Kernels as JSON data."""
    return [
        {"name": k.name, "calls": k.calls, "us": k.us, "share": k.share, "origins": list(k.origins)}
        for k in measured
    ]


def kernel_origins(graph: GraphSummary, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Block name -> the source layers in it: what a profile shows beside a kernel's name."""
    return {
        block.name: tuple(
            dict.fromkeys(layer for op in block.ops for layer in graph.by_name[op].origins)
        )
        for block in plan.blocks
    }
