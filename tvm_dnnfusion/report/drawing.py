"""The blocks of a plan as inline SVG: a node per block, coloured by mapping type."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.report.format import bytes_text
from tvm_dnnfusion.report.layout import Layout, Point, Sizes, layered
from tvm_dnnfusion.report.markup import Markup, join, tag
from tvm_dnnfusion.report.stats import block_bytes, is_view
from tvm_dnnfusion.report.summary import GraphSummary

SIZES = Sizes()
TITLE_CHARS = 27
"""What fits into a node at the page's font size."""

CLASSES: Mapping[MappingType | None, str] = {
    MappingType.ONE_TO_ONE: "one",
    MappingType.REORGANIZE: "reorganize",
    MappingType.SHUFFLE: "shuffle",
    MappingType.ONE_TO_MANY: "one-many",
    MappingType.MANY_TO_MANY: "many-many",
    None: "barrier",
}
"""Mapping type -> class in the style sheet."""


def quotient(graph: GraphSummary, plan: Plan) -> dict[tuple[str, str], tuple[str, ...]]:
    """Edges between blocks -> the tensors that flow along them."""
    home = {op: block.name for block in plan.blocks for op in block.ops}
    out: dict[tuple[str, str], dict[str, None]] = {}
    for op in graph.ops:
        for t in op.inputs:
            producer = graph.producers.get(t)
            ends = (home.get(producer.name, ""), home.get(op.name, "")) if producer else ("", "")
            if all(ends) and ends[0] != ends[1]:
                out.setdefault((ends[0], ends[1]), {})[t] = None
    return {edge: tuple(tensors) for edge, tensors in out.items()}


def draw(graph: GraphSummary, plan: Plan) -> Markup:
    """The drawing as one <svg>, sized to its content; the page's script adds pan and zoom."""
    between = quotient(graph, plan)
    layout = layered([b.name for b in plan.blocks], list(between), SIZES)
    edges = (
        _edge(edge, layout.edges[edge], graph, t)
        for edge, t in between.items()
        if edge in layout.edges
    )
    nodes = (_node(graph, block, layout) for block in plan.blocks)
    body = tag("g", tag("g", *edges, class_="edges"), tag("g", *nodes), id="scene")
    return tag(
        "svg",
        _arrow(),
        body,
        id="graph",
        viewBox=f"0 0 {layout.width} {layout.height}",
        data_width=layout.width,
        data_height=layout.height,
        role="img",
        aria_label=f"{len(plan.blocks)} blocks",
    )


def label(graph: GraphSummary, block: Block) -> str:
    """Kinds of the block's ops in order, repeats counted: "conv2d + add + 2 relu"."""
    kinds = (graph.by_name[name].kind.rsplit(".", 1)[-1] for name in block.ops)
    runs = ((kind, len(list(run))) for kind, run in itertools.groupby(kinds))
    return " + ".join(kind if n == 1 else f"{n} {kind}" for kind, n in runs)


def origins(graph: GraphSummary, block: Block) -> tuple[str, ...]:
    """The source layers in a block, in order, each once."""
    layers = (layer for name in block.ops for layer in graph.by_name[name].origins)
    return tuple(dict.fromkeys(layers))


def block_class(graph: GraphSummary, block: Block) -> str:
    """Classes of the style sheet for a block."""
    kind = CLASSES[block.mapping]
    return f"{kind} view" if is_view(block, graph.by_name) else kind


def _node(graph: GraphSummary, block: Block, layout: Layout) -> Markup:
    x, y = layout.nodes[block.name]
    count = len(block.ops)
    size = block_bytes(graph, block)
    facts = [f"{count} op" + "s" * (count != 1)] + [f"{bytes_text(size)} out"] * (size > 0)
    if is_view(block, graph.by_name):
        facts.append("a view, no kernel")
    what = label(graph, block)
    layers = ", ".join(origins(graph, block))
    return tag(
        "g",
        tag("title", f"{block.name}\n{what}\n{layers}"),
        tag(
            "rect",
            x=_px(x - SIZES.node_width / 2),
            y=_px(y - SIZES.node_height / 2),
            rx=7,
            width=_px(SIZES.node_width),
            height=_px(SIZES.node_height),
        ),
        tag("text", _cut(what), x=_px(x), y=_px(y - 4), class_="what"),
        tag("text", " · ".join(facts), x=_px(x), y=_px(y + 13), class_="facts"),
        class_=f"node {block_class(graph, block)}",
        data_block=block.name,
        tabindex=0,
    )


def _edge(
    edge: tuple[str, str], points: tuple[Point, ...], graph: GraphSummary, tensors: tuple[str, ...]
) -> Markup:
    size = sum(graph.tensors[t].nbytes for t in tensors)
    types = ", ".join(graph.tensors[t].text for t in tensors)
    return tag(
        "path",
        tag("title", f"{types} ({bytes_text(size)})"),
        d=curve(points, SIZES),
        data_from=edge[0],
        data_to=edge[1],
        marker_end="url(#arrow)",
    )


def curve(points: tuple[Point, ...], sizes: Sizes) -> str:
    """A line that bends only in the gaps between layers, so that it crosses no node."""
    half = sizes.node_height / 2
    out = [f"M{points[0][0]:g} {points[0][1] + half:g}"]
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        last = (bx, by) == points[-1]
        start, end = ay + half, by - half - (5 if last else 0)
        bend = (end - start) / 2
        out.append(f"C{ax:g} {start + bend:g} {bx:g} {end - bend:g} {bx:g} {end:g}")
        if not last:
            out.append(f"V{by + half:g}")
    return "".join(out)


def _arrow() -> Markup:
    head = tag("path", d="M0 0L10 5L0 10z")
    marker = tag(
        "marker",
        head,
        id="arrow",
        viewBox="0 0 10 10",
        refX=5,
        refY=5,
        markerWidth=9,
        markerHeight=9,
        markerUnits="userSpaceOnUse",
        orient="auto",
    )
    return join(tag("defs", marker))


def _cut(text: str) -> str:
    return text if len(text) <= TITLE_CHARS else f"{text[: TITLE_CHARS - 1]}…"


def _px(value: float) -> str:
    return f"{value:g}"
