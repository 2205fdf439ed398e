"""The groups of a memory plan on the graph itself: a node per operator in its group's colour.

What stays in the buffer runs along thin lines inside a colour; an edge between two groups goes
through DRAM and is drawn thick, with its bytes. `drawing.py` shows groups as single nodes.
"""

from __future__ import annotations

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.report.drawing import curve
from tvm_dnnfusion.report.format import bytes_text
from tvm_dnnfusion.report.layout import Layout, Sizes, layered
from tvm_dnnfusion.report.markup import Markup, tag
from tvm_dnnfusion.report.summary import GraphSummary

SIZES = Sizes(node_width=168.0, node_height=24.0, waypoint_width=8.0, gap=14.0, layer_height=44.0)
TITLE_CHARS = 24
"""What fits into a node."""
HUES = (210, 35, 130, 280, 0, 175, 65, 320)
"""Colours in degrees, neighbours far apart; groups take them in turn."""


def draw_groups(graph: GraphSummary, plan: Plan) -> Markup:
    """The drawing as one <svg>."""
    home = {op: k for k, block in enumerate(plan.blocks) for op in block.ops}
    layout = layered([op.name for op in graph.ops], graph.edges, SIZES)
    edges = [_edge(graph, edge, layout, home) for edge in layout.edges]
    nodes = [_node(graph, op.name, layout, plan, home) for op in graph.ops]
    return tag(
        "svg", tag("g", *edges, class_="edges"), *nodes,
        viewBox=f"0 0 {layout.width} {layout.height}", width=layout.width, height=layout.height,
        role="img", aria_label=f"operators in {len(plan.blocks)} groups",
    )  # fmt: skip


def _node(
    graph: GraphSummary, name: str, layout: Layout, plan: Plan, home: dict[str, int]
) -> Markup:
    x, y = layout.nodes[name]
    group = home.get(name, 0)
    op, block = graph.by_name[name], plan.blocks[group]
    what = f"{group}: {op.kind.rsplit('.', 1)[-1]}" + (f" {op.origins[0]}" if op.origins else "")
    shown = what if len(what) <= TITLE_CHARS else f"{what[: TITLE_CHARS - 1]}…"
    moved = f"\n{bytes_text(block.memory.dram_bytes)} DRAM" if block.memory is not None else ""
    w, h = SIZES.node_width, SIZES.node_height
    return tag(
        "g",
        tag("title", f"{block.name}{moved}\n{name}\n{', '.join(op.origins)}"),
        tag("rect", x=f"{x - w / 2:g}", y=f"{y - h / 2:g}", rx=5, width=f"{w:g}", height=f"{h:g}"),
        tag("text", shown, x=f"{x:g}", y=f"{y + 4:g}"),
        class_="grouped",
        style=f"--hue:{HUES[group % len(HUES)]}",
    )


def _edge(
    graph: GraphSummary, edge: tuple[str, str], layout: Layout, home: dict[str, int]
) -> Markup:
    a, b = (graph.by_name[name] for name in edge)
    size = sum(graph.tensors[t].nbytes for t in a.outputs if t in b.inputs)
    crosses = home.get(edge[0]) != home.get(edge[1])
    way = "through DRAM" if crosses else "in the buffer"
    return tag(
        "path",
        tag("title", f"{bytes_text(size)} {way}"),
        d=curve(layout.edges[edge], SIZES),
        class_="moved" if crosses else "kept",
    )
