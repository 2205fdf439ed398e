"""The before / FuseOps / after table: what fusion and rewriting changed, counted.

All counts follow from a graph and a plan: nothing is compiled or run. An intermediate is a tensor
that one kernel writes and another reads; results of the function are not intermediates. A kernel
that only reorganises (reshape, flatten, ...) is a view of its operand: it neither runs nor holds
bytes of its own. A tensor with a place in another one (a concat in place) holds none either, and
joining takes a kernel only for each part that is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.report.summary import GraphSummary, OpSummary


@dataclass(frozen=True, slots=True)
class Counts:
    """What one plan of one graph amounts to; `unsized` tensors have symbolic shapes: no bytes."""

    operators: int
    kernels: int
    intermediate_bytes: int
    flops: int
    unsized: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: `fuseops` is None where no baseline plan was made."""

    name: str
    title: str
    unit: str
    before: int
    fuseops: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The table; `rows` in the order of `TITLES`."""

    rows: tuple[Row, ...]
    unsized: int = 0

    def row(self, name: str) -> Row:
        """The row of that name. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """JSON data: {"operators": {"before": .., "fuseops": .., "after": .., "unit": ..}, ...}."""
        out: dict[str, Any] = {
            r.name: {"before": r.before, "fuseops": r.fuseops, "after": r.after, "unit": r.unit}
            for r in self.rows
        }
        out["unsized_tensors"] = self.unsized
        return out


TITLES: Mapping[str, tuple[str, str]] = {
    "operators": ("Operators", "count"),
    "kernels": ("Kernels", "count"),
    "intermediate_bytes": ("Intermediate bytes", "bytes"),
    "flops": ("FLOPs", "flops"),
}
"""Row name -> title and unit."""


def count(graph: GraphSummary, plan: Plan | None = None) -> Counts:
    """Operators, kernels, bytes and FLOPs of a graph under a plan (None: every op by itself)."""
    blocks = singletons(graph) if plan is None else plan.blocks
    ops = graph.by_name
    buffers = {} if plan is None else {p.tensor: p.buffer for p in plan.places}
    real = [b for b in blocks if not is_view(b, ops) and not _computes_shapes(b, ops)]
    # a view that lies in another tensor is copied there
    real += [b for b in blocks if is_view(b, ops) and ops[b.ops[-1]].outputs[0] in buffers]
    kernels = sum(_copies(ops[b.ops[0]], buffers) if len(b.ops) == 1 else 1 for b in real)
    sizes, unsized = _intermediates(graph, blocks)
    held = sum(size for t, size in sizes.items() if t not in buffers)
    return Counts(len(graph.ops), kernels, held, graph.flops, unsized)


def _copies(op: OpSummary, buffers: Mapping[str, str]) -> int:
    """Kernels of an op by itself: one, or for a concat in place one for each part copied."""
    if op.kind != "concat" or not op.outputs:
        return 1
    buffer = buffers.get(op.outputs[0], op.outputs[0])
    there = {t for t in op.inputs if buffers.get(t) == buffer}
    return len(op.inputs) - len(there) if there else 1


def compare(before: Counts, fuseops: Counts | None, after: Counts) -> Stats:
    """The three columns side by side."""
    rows = tuple(
        Row(
            name,
            title,
            unit,
            getattr(before, name),
            None if fuseops is None else getattr(fuseops, name),
            getattr(after, name),
        )
        for name, (title, unit) in TITLES.items()
    )
    return Stats(rows, after.unsized)


def statistics(
    source: GraphSummary, graph: GraphSummary, plan: Plan, fuseops: Plan | None = None
) -> Stats:
    """The table of one optimisation.

    Parameters
    ----------
    source, graph : the graph before and after rewriting.
    plan : the plan of `graph`.
    fuseops : TVM's own grouping of `source`; None leaves that column empty.
    """
    baseline = None if fuseops is None else count(source, fuseops)
    return compare(count(source), baseline, count(graph, plan))


def singletons(graph: GraphSummary) -> tuple[Block, ...]:
    """One block per op: the graph as it stands."""
    return tuple(Block(op.name, (op.name,), op.mapping) for op in graph.ops)


def is_view(block: Block, ops: Mapping[str, OpSummary]) -> bool:
    """Whether the block only reorganises: the same bytes in the same order under another shape."""
    return all(
        ops[name].mapping is MappingType.REORGANIZE and ops[name].kind not in MOVING
        for name in block.ops
    )


def _computes_shapes(block: Block, ops: Mapping[str, OpSummary]) -> bool:
    """Ops on shapes (shape_of, ...) run in the virtual machine and are no kernels."""
    return all(ops[name].kind in SHAPE_KINDS for name in block.ops)


MOVING = frozenset({"layout_transform"})
"""Reorganising operators that write the bytes in another order all the same."""

SHAPE_KINDS = frozenset({"match_cast", "shape_of", "shape_to_tensor", "tensor_to_shape", "size"})
"""Relax operators on shapes and types: the virtual machine does them without a kernel."""


def escaping(graph: GraphSummary, block: Block) -> tuple[str, ...]:
    """The tensors of a block that another block reads or the function returns, in order."""
    inside = set(block.ops)
    return tuple(
        t
        for name in block.ops
        for t in graph.by_name[name].outputs
        if t in graph.outputs or any(c.name not in inside for c in graph.consumers.get(t, ()))
    )


def block_bytes(graph: GraphSummary, block: Block) -> int:
    """Bytes of the intermediates that a block leaves for others; 0 for a view.

    Function results are excluded.
    """
    if is_view(block, graph.by_name):
        return 0
    names = (t for t in escaping(graph, block) if t not in graph.outputs)
    return sum(graph.tensors[t].nbytes for t in names)


def _intermediates(graph: GraphSummary, blocks: tuple[Block, ...]) -> tuple[dict[str, int], int]:
    """Intermediate tensor -> bytes, and how many have no known size.

    Views are followed to the tensor that they show, so that a reshaped intermediate counts once,
    and one whose view is a result of the function does not count.
    """
    shown: dict[str, str] = {}
    sizes: dict[str, int] = {}
    results = set(graph.outputs)
    views = {b.name for b in blocks if is_view(b, graph.by_name)}
    for block in reversed(blocks):
        if block.name in views:
            shown.update(_aliases(graph, block))
    for view, base in shown.items():
        if view in results:
            results.add(_root(base, shown))
    unsized = 0
    for block in blocks:
        if block.name in views:
            continue
        for t in escaping(graph, block):
            if t in results:
                continue
            sizes[t] = graph.tensors[t].nbytes
            unsized += graph.tensors[t].dtype != "" and not graph.tensors[t].sized
    return sizes, unsized


def _aliases(graph: GraphSummary, block: Block) -> dict[str, str]:
    ops = (graph.by_name[name] for name in block.ops)
    return {t: op.inputs[0] for op in ops if op.inputs for t in op.outputs}


def _root(tensor: str, shown: Mapping[str, str]) -> str:
    while tensor in shown:
        tensor = shown[tensor]
    return tensor
