"""The report of one optimisation as one HTML page that needs nothing but itself.

Sections: the before / FuseOps / after table, the graph of blocks, the kernels (by time where a
profile is given), the edges that were not fused and why, the rewriting rules, the checks. Style and
script are in `page.css` and `page.js`; the page loads nothing and reads without scripts, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Reason
from tvm_dnnfusion.report.data import KernelTime, ReportData, RuleLine
from tvm_dnnfusion.report.drawing import CLASSES, block_class, draw, label, origins
from tvm_dnnfusion.report.explain import ADVICE
from tvm_dnnfusion.report.format import bytes_text, flops_text, number_text, time_text
from tvm_dnnfusion.report.groups import draw_groups
from tvm_dnnfusion.report.markup import Markup, join, script_data, tag
from tvm_dnnfusion.report.stats import block_bytes
from tvm_dnnfusion.report.summary import GraphSummary, OpSummary
from tvm_dnnfusion.report.table import stats_table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content security policy: the page may not load or send anything."""


def render(data: ReportData) -> str:
    """The page as text (UTF-8). The same data gives the same text."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{data.title}: fusion report"),
        tag("style", Markup(_asset("page.css"))),
    )
    body = tag(
        "body",
        _header(data),
        tag("main", *_sections(data)),
        script_data("blocks", _block_data(data)),
        tag("script", Markup(_asset("page.js"))),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _asset(name: str) -> str:
    return resources.files("tvm_dnnfusion.report").joinpath(name).read_text(encoding="utf-8")


def _sections(data: ReportData) -> Iterable[Markup]:
    yield _section("summary", "Before and after", _stats(data))
    yield _section("graph-section", "Blocks", _graph(data))
    yield _section("kernels", "Kernels by time" if data.kernels else "Kernels", _kernels(data))
    if data.plan.memory is not None:
        yield _section("memory", "Groups in the buffer", _memory(data))
    yield _section("edges", "Edges that were not fused", _edges(data))
    if data.rules:
        yield _section("rules", "Rewriting rules", _rules(data.rules))
    if data.checks:
        yield _section("checks", "Checks", _checks(data))


def _section(element_id: str, title: str, *children: Markup) -> Markup:
    return tag("section", tag("h2", title), *children, id=element_id)


def _header(data: ReportData) -> Markup:
    facts = (join(tag("dt", name), tag("dd", value)) for name, value in data.facts)
    return tag("header", tag("h1", data.title), tag("dl", *facts))


def _table(columns: Iterable[str], rows: Iterable[Markup], **attributes: object) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", c) for c in columns)))
    return tag("table", head, tag("tbody", *rows), **attributes)


def _row(*cells: object, **attributes: object) -> Markup:
    return tag("tr", *(tag("td", cell) for cell in cells), **attributes)


def _stats(data: ReportData) -> Markup:
    shown = stats_table(data.stats)
    note = None
    if data.stats.unsized:
        note = tag("p", f"{data.stats.unsized} tensors have symbolic shapes: bytes leave them out.")
    return join(_table(shown.columns, (_row(*r) for r in shown.rows), class_="numbers"), note)


def _graph(data: ReportData) -> Markup:
    used = {block.mapping for block in data.plan.blocks}
    legend = (
        tag("span", tag("i", class_=f"swatch {css}"), kind.value if kind else "Barrier")
        for kind, css in CLASSES.items()
        if kind in used
    )
    buttons = (
        tag("button", text, type="button", data_act=act, title=title)
        for text, act, title in (
            ("+", "in", "Zoom in (Ctrl and wheel)"),
            ("−", "out", "Zoom out"),
            ("Whole graph", "fit", "Show all blocks"),
            ("Start", "home", "Back to the first block"),
        )
    )
    search = tag("input", type="search", id="find", placeholder="Find a layer, op or kernel")
    bar = tag("div", *legend, tag("span", class_="space"), search, *buttons, class_="toolbar")
    hint = tag("p", "Select a block to see its ops, its neighbours and the reasons.")
    panel = tag("aside", hint, id="panel")
    return join(
        bar,
        tag("div", tag("div", draw(data.graph, data.plan), id="view"), panel, class_="graph-box"),
    )


def _kernels(data: ReportData) -> Markup:
    times = {k.name: k for k in data.kernels}
    blocks = data.plan.blocks
    if times:
        absent = KernelTime("", 0, 0.0)
        blocks = tuple(sorted(blocks, key=lambda b: -times.get(b.name, absent).total_us))
    most = max((k.total_us for k in data.kernels), default=0.0)
    total = sum(k.total_us for k in data.kernels)
    rows = [_kernel_row(data.graph, b, times.get(b.name), most, total) for b in blocks]
    known = {b.name for b in blocks}
    rows += [
        _row(tag("code", k.name), "", "", "", _bar(k, most, total))
        for k in sorted(data.kernels, key=lambda k: -k.total_us)
        if k.name not in known
    ]
    head = ("Kernel", "Ops and source layers", "Leaves behind", "FLOPs", "Time per run")
    return _table(head, rows, class_="kernels" if times else "kernels untimed")


def _kernel_row(
    graph: GraphSummary, block: Block, time: KernelTime | None, most: float, total: float
) -> Markup:
    ops = [graph.by_name[name] for name in block.ops]
    link = tag("a", block.name, href="#graph-section", data_block=block.name)
    kind = block.mapping.value if block.mapping else "Barrier"
    swatch = tag("i", class_=f"swatch {block_class(graph, block)}", title=kind)
    layers = ", ".join(origins(graph, block))
    content = tag(
        "details",
        tag("summary", label(graph, block), tag("small", layers) if layers else None),
        tag("ul", *(tag("li", *_op_parts(op)) for op in ops)),
    )
    flops = sum(op.flops for op in ops)
    size = block_bytes(graph, block)
    return _row(
        join(swatch, tag("code", link)),
        content,
        bytes_text(size) if size else "–",
        flops_text(flops) if flops else "–",
        _bar(time, most, total) if time else "–",
    )


def _op_parts(op: OpSummary) -> Iterable[object]:
    yield tag("code", op.name)
    yield f" {op.kind}"
    yield f" from {', '.join(op.origins)}" if op.origins else None
    yield f"; made by {', '.join(op.rules)}" if op.rules else None
    yield f"; barrier: {op.why_barrier}" if op.barrier else None


def _bar(time: KernelTime, most: float, total: float) -> Markup:
    width = 100 * time.total_us / most if most else 0.0
    share = 100 * time.total_us / total if total else 0.0
    calls = f", {time.calls:g} calls" if time.calls != 1 else ""
    note = tag("small", time.note) if time.note else None
    fill = tag("i", style=f"width:{width:.1f}%")
    text = f"{time_text(time.total_us)} ({share:.1f} %{calls})"
    return tag("div", tag("span", fill, class_="track"), tag("span", text), note, class_="bar")


def _memory(data: ReportData) -> Markup:
    """The groups of a memory plan: what each moves and holds, and its line buffers."""
    about = data.plan.memory
    assert about is not None
    head = tag(
        "p",
        f"Model {about.model}, {about.accounting} accounting, buffer"
        f" {bytes_text(about.buffer_bytes)}, {about.word_bytes} bytes a word, batch {about.batch},"
        f" accelerator {about.accelerator}.",
    )
    rows: list[Markup] = []
    for block in data.plan.blocks:
        m = block.memory
        if m is None:
            continue
        lines = (
            tag("li", tag("code", n.tensor),
                f" {n.rows} rows, {n.channels} channels at a time, {bytes_text(n.bytes)}")
            for n in m.lines
        )  # fmt: skip
        link = tag("a", block.name, href="#graph-section", data_block=block.name)
        held = tag("details", tag("summary", f"{len(m.lines)} maps"), tag("ul", *lines))
        steps = f"{m.tiles} x {m.tile_rows} rows" + (f", {m.images} images" * (m.images > 1))
        rows.append(_row(tag("code", link), len(m.layers), bytes_text(m.dram_bytes),
                         bytes_text(m.buffer_bytes), steps, "stay" if m.resident else "stream",
                         held))  # fmt: skip
    columns = ("Group", "Layers", "DRAM", "Buffer", "Steps", "Weights", "Line buffers")
    note = tag(
        "p",
        "Every operator in the colour of its group, with the group's number; thick lines are what"
        " moves through DRAM.",
    )
    drawing = tag("div", draw_groups(data.graph, data.plan), class_="groups")
    return join(head, note, drawing, _table(columns, rows, class_="kernels untimed"))


def _edges(data: ReportData) -> Markup:
    kept = [d for d in data.plan.decisions if not d.fused]
    if not kept:
        return tag("p", "Every edge of the graph was fused.")
    counts = Counter(d.reason for d in kept)
    chips = (
        tag(
            "button",
            f"{reason.name} ",
            tag("b", counts[reason]),
            type="button",
            data_reason=reason.name,
            title=f"{reason.value}. {ADVICE[reason]}",
        )
        for reason in Reason
        if counts[reason]
    )
    search = tag("input", type="search", id="edge-filter", placeholder="Filter by any text")
    bar = tag("div", search, *chips, tag("span", id="edge-count"), class_="toolbar")
    home = {op: b.name for b in data.plan.blocks for op in b.ops}
    rows = (_edge_row(data.graph, d, home) for d in kept)
    head = ("From", "To", "Reason", "Figures", "Source")
    return join(bar, _table(head, rows, id="edge-table"))


def _edge_row(graph: GraphSummary, d: EdgeDecision, home: Mapping[str, str]) -> Markup:
    figures = ", ".join(f"{name} = {number_text(name, value)}" for name, value in d.numbers)
    reason = join(tag("b", d.reason.name), " ", tag("small", d.reason.value))
    ends = (_end(graph, name, home.get(name, "")) for name in (d.producer, d.consumer))
    return _row(*ends, reason, figures or "–", d.source, data_reason=d.reason.name)


def _end(graph: GraphSummary, name: str, block: str) -> Markup:
    op = graph.by_name.get(name)
    link = tag("a", name, href="#graph-section", data_block=block)
    layers = ", ".join(op.origins) if op else ""
    return join(tag("code", link), f" {op.kind} " if op else "", tag("small", layers))


def _rules(rules: tuple[RuleLine, ...]) -> Markup:
    fired = sorted((r for r in rules if r.fired), key=lambda r: (-r.fired, r.name))
    missed = [r for r in rules if not r.fired and r.near_miss]
    parts: list[Markup] = [tag("p", "No rule fired.")]
    if fired:
        lines = (_row(tag("code", r.name), r.fired, r.note) for r in fired)
        parts = [_table(("Rule", "Times", "Before → after"), lines, class_="rules")]
    if missed:
        lines = (_row(tag("code", r.name), r.near_miss) for r in missed)
        near = _table(("Rule", "What stopped its best match"), lines, class_="rules")
        parts.append(tag("details", tag("summary", f"{len(missed)} rules came near"), near))
    return join(*parts)


def _checks(data: ReportData) -> Markup:
    rows = (
        _row(
            c.against,
            c.output,
            tag("b", "passed" if c.passed else "FAILED"),
            c.detail,
            class_="passed" if c.passed else "failed",
        )
        for c in data.checks
    )
    return _table(("Against", "Output", "", "Difference"), rows)


def _block_data(data: ReportData) -> dict[str, Any]:
    """What the script shows when a block is selected, and what its search looks at."""
    times = {k.name: k for k in data.kernels}
    home = {op: b.name for b in data.plan.blocks for op in b.ops}
    blocks: dict[str, Any] = {}
    for block in data.plan.blocks:
        ops = [data.graph.by_name[name] for name in block.ops]
        blocks[block.name] = {
            "kind": block.mapping.value if block.mapping else "Barrier",
            "label": label(data.graph, block),
            "seed": block.seed,
            "flops": flops_text(sum(op.flops for op in ops)),
            "out": bytes_text(block_bytes(data.graph, block)),
            "time": time_text(times[block.name].total_us) if block.name in times else "",
            "ops": [
                [
                    op.kind,
                    op.name,
                    ", ".join(op.origins),
                    ", ".join(op.rules),
                    op.why_barrier,
                    _types(data.graph, op),
                ]
                for op in ops
            ],
            "edges": [],
        }
    for d in data.plan.decisions:
        if d.fused:
            continue
        entry = [
            d.producer,
            d.consumer,
            home.get(d.producer, ""),
            home.get(d.consumer, ""),
            d.reason.name,
            d.reason.value,
            ", ".join(f"{n} = {number_text(n, v)}" for n, v in d.numbers),
        ]
        for name in dict.fromkeys((home.get(d.producer), home.get(d.consumer))):
            if name in blocks:
                blocks[name]["edges"].append(entry)
    return blocks


def _types(graph: GraphSummary, op: OpSummary) -> str:
    return ", ".join(graph.tensors[t].text for t in op.outputs)
