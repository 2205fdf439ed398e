"""The phone bench for people: tables for a terminal, and a page that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources

from tvm_dnnfusion.ondevice.records import VARIANTS, Report, Result
from tvm_dnnfusion.report.format import bytes_text, count_text, time_text
from tvm_dnnfusion.report.html import POLICY
from tvm_dnnfusion.report.markup import Markup, script_data, tag
from tvm_dnnfusion.report.table import TableData, table

COLUMNS = ("plan", "kernels", "library", "error", "median", "p90", "fastest", "samples",
           "against OurB", "instructions", "hottest zone", "fastest clock")  # fmt: skip
KERNELS = ("kernel", "calls", "time", "share", "instructions", "source layers")


def facts(report: Report) -> str:
    """One line on the device, the first thing to read: emulated times are no phone's."""
    where = f"{report.device} at {report.address}: {report.machine}, {report.system or 'unknown'}"
    marked = f"; EMULATED by {report.emulated}: times are the emulator's" if report.emulated else ""
    half = "; float16" if report.float16 else ""
    half += "; sums of float16 in float32" if report.float16_sums == "float32" else ""
    return f"{where}; {report.threads} of {report.processors or '?'} processors{half}{marked}"


def latency(report: Report) -> TableData:
    """The columns of the paper's table, as rows."""
    base = report.result("OurB")
    rows = [_row(result, base) for result in report.results]
    title = f"{report.model}: latency" + (" (emulated)" if report.emulated else "")
    return table(title, COLUMNS, rows, right=range(1, len(COLUMNS)))


def problems(report: Report) -> list[str]:
    """Why columns have no time, a line each."""
    return [f"{r.variant}: {r.problem}" for r in report.results if r.problem]


def _row(result: Result, base: Result | None) -> tuple[str, ...]:
    name = f"{result.variant}: {VARIANTS[result.variant].means}"
    head = (name, str(result.kernels), bytes_text(result.library_bytes), f"{result.error:.1e}")
    if result.problem:  # which `problems` tells
        taken = str(len(result.samples_us)) if result.samples_us else "-"
        return (*head, "-", "-", "-", taken, *["-"] * (len(COLUMNS) - 8))
    faster = f"{base.median_us / result.median_us:.2f} x" if base and base.median_us else "-"
    heat = [f"{c:.1f}" for c in result.celsius if c is not None]
    clocks = [str(max(mhz)) for mhz in result.mhz if mhz]
    return (
        *head,
        *(time_text(us) for us in (result.median_us, result.p90_us, result.min_us)),
        str(len(result.samples_us)),
        faster,
        count_text(result.instructions) if result.instructions else "-",
        " to ".join(heat) + " °C" if heat else "-",
        " to ".join(clocks) + " MHz" if clocks else "-",
    )


def kernels(result: Result, top: int | None = None) -> TableData:
    """One column's kernels by time; `top` of them, None for all."""
    shown = result.profile[:top]
    rows = [
        (
            k.name,
            f"{k.calls:g}",
            time_text(k.us),
            f"{100 * k.share:.1f} %",
            count_text(k.instructions) if k.instructions else "-",
            ", ".join(k.origins),
        )
        for k in shown
    ]
    left = len(result.profile) - len(shown)
    more = f" (the first {len(shown)}; {left} more)" if left else ""
    return table(f"{result.variant}: kernels by time{more}", KERNELS, rows, right=(1, 2, 3, 4))


def html(reports: Sequence[Report]) -> str:
    """The page: each model's columns, and their kernels; its data as JSON within it."""
    style = resources.files("tvm_dnnfusion.report").joinpath("page.css").read_text("utf-8")
    title = f"{', '.join(dict.fromkeys(r.device for r in reports))}: phone bench"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Markup(style)),
    )
    sections = [_section(report) for report in reports]
    data = script_data("reports", [asdict(report) for report in reports])
    body = tag("body", tag("header", tag("h1", title)), tag("main", *sections), data)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _section(report: Report) -> Markup:
    target = tag("p", tag("code", json.dumps(report.target, default=str)))
    detail = [
        tag("details", tag("summary", f"{r.variant}: kernels"), _html_table(kernels(r)))
        for r in report.results
        if r.profile
    ]
    lost = [tag("p", f"{r.variant}: {why}") for r in report.results for why in r.lost]
    wrong = [tag("p", why) for why in problems(report)]
    when = f"measured {report.made} by tvm-dnnfusion {report.decides.get('version', '')}"
    made = [tag("p", when)] if report.made else []
    return tag(
        "section", tag("h2", report.model), tag("p", facts(report)), *made, target,
        _html_table(latency(report)), *wrong, *lost, *detail,
    )  # fmt: skip


def _html_table(data: TableData) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", c) for c in data.columns)))
    rows = [tag("tr", *(tag("td", cell) for cell in row)) for row in data.rows]
    return tag("table", head, tag("tbody", *rows), class_="bench")
