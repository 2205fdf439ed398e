"""What legality and cost ask of ops and blocks again and again, computed once per graph.

The canonical order (level, layers, name) does not depend on the order in which a graph lists its
ops: everything that a planner iterates over or breaks ties with goes by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import prod

from tvm_dnnfusion.ecg.barriers import Barrier
from tvm_dnnfusion.ecg.catalog import OWN_KERNEL, barrier_of, edge_mapping, mapping_type
from tvm_dnnfusion.ecg.entries import ENTRIES, along_axis, elementwise
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import MappingType, most_complex

ANCHORS = frozenset(
    "nn.conv1d nn.conv2d nn.conv3d nn.conv1d_transpose nn.conv2d_transpose nn.conv3d_transpose"
    " matmul einsum nn.attention nn.attention_bias".split()
)
"""Kinds whose loops a whole kernel is built around; a block holds one of them at most."""

POOLS = frozenset(f"nn.{p}_pool{n}d" for p in ("max", "avg") for n in (1, 2, 3))

_ROW_KINDS = frozenset(
    "sum mean max min prod variance std argmax argmin nn.softmax nn.log_softmax nn.layer_norm"
    " nn.rms_norm nn.instance_norm nn.group_norm".split()
)

Rows = tuple[int, int]
"""A tensor seen as rows: (number of rows, elements of each)."""


class Facts:
    """A graph with caches; all methods are functions of the graph alone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._edges: dict[tuple[str, str], MappingType] = {}
        self._rows: dict[str, Rows | None] = {}

    @cached_property
    def barriers(self) -> dict[str, Barrier]:
        """Op name -> why it is a barrier, for those that are."""
        found = ((op.name, barrier_of(op, self.graph)) for op in self.graph.ops)
        return {name: reason for name, reason in found if reason is not None}

    @cached_property
    def types(self) -> dict[str, MappingType]:
        """Op name -> mapping type of the whole op (barriers have none)."""
        found = ((op.name, mapping_type(op, self.graph)) for op in self.graph.ops)
        return {name: t for name, t in found if t is not None}

    @cached_property
    def order(self) -> dict[str, int]:
        """Op name -> place in the canonical order, which is topological."""
        level: dict[str, int] = {}
        for op in self.graph.ops:
            before = self.graph.predecessors(op)
            level[op.name] = 1 + max((level[p.name] for p in before), default=0)
        # importers number ops in the order in which the file lists them; layers keep their names
        ranked = sorted(self.graph.ops, key=lambda op: (level[op.name], op.origins, op.name))
        return {op.name: i for i, op in enumerate(ranked)}

    @cached_property
    def successors(self) -> dict[str, tuple[Op, ...]]:
        """Op name -> the ops that read its results, in canonical order."""
        return {op.name: self.sorted(self.graph.successors(op)) for op in self.graph.ops}

    @cached_property
    def predecessors(self) -> dict[str, tuple[Op, ...]]:
        """Op name -> the ops whose results it reads, in the order of its arguments."""
        return {op.name: self.graph.predecessors(op) for op in self.graph.ops}

    def sorted(self, ops: Iterable[Op]) -> tuple[Op, ...]:
        """Ops in canonical order."""
        return tuple(sorted(ops, key=lambda op: self.order[op.name]))

    def edge(self, op: Op, tensor: str) -> MappingType:
        """The type of the pair (tensor -> op)."""
        key = (op.name, tensor)
        if key not in self._edges:
            self._edges[key] = edge_mapping(op, tensor, self.graph)
        return self._edges[key]

    def intrinsic(self, op: Op) -> MappingType:
        """The type that the op has whatever flows into it.

        For an elementwise op that is its least complex pair: a small operand that comes from
        outside a block is read as a bias is; when its producer joins the block, the pair counts.
        """
        whole = self.types[op.name]
        if ENTRIES[op.kind].pair not in (elementwise, along_axis) or not op.inputs:
            return whole
        return min((self.edge(op, t) for t in op.inputs), key=lambda t: t.complexity)

    def is_heavy(self, op: Op) -> bool:
        """Whether the op is Many-to-Many."""
        return self.types.get(op.name) is MappingType.MANY_TO_MANY

    def is_alone(self, op: Op) -> bool:
        """Whether the op always is a kernel of its own."""
        return op.name in self.barriers or op.kind in OWN_KERNEL

    def rows(self, op: Op) -> Rows | None:
        """The rows that a reduction or normalisation folds one by one, None for other ops."""
        if op.name not in self._rows:
            self._rows[op.name] = _rows(op, self.graph) if op.kind in _ROW_KINDS else None
        return self._rows[op.name]

    def links(self, first: Sequence[Op], second: Sequence[Op]) -> tuple[tuple[Op, str, Op], ...]:
        """The edges (producer, tensor, consumer) from one group to the other."""
        inside = {op.name for op in first}
        made = self.graph.producers
        return tuple(
            (made[t], t, op)
            for op in second
            for t in dict.fromkeys(op.inputs)
            if t in made and made[t].name in inside
        )

    def entry(self, first: Sequence[Op], second: Sequence[Op]) -> MappingType | None:
        """The most complex pair between two groups; None where no edge joins them."""
        found = [self.edge(op, t) for _, t, op in self.links(first, second)]
        return most_complex(found) if found else None

    def elements(self, tensor: str) -> int:
        """Number of elements of a tensor."""
        return self.graph.tensors[tensor].elements


def _rows(op: Op, graph: Graph) -> Rows | None:
    dims = graph.tensors[op.inputs[0]].dims
    rank = len(dims)
    given = op.ints("axes") or op.ints("axis") or tuple(range(rank))
    axes = tuple(sorted(a % rank for a in given)) if rank else ()
    if op.kind == "nn.group_norm":
        groups = op.ints("num_groups")[0]
        if op.attr("channel_axis") not in (1, 1 - rank) or axes != tuple(range(2, rank)):
            return None
        return dims[0] * groups, prod(dims[1:]) // groups
    if axes != tuple(range(rank - len(axes), rank)):
        return None
    lead = rank - len(axes)
    return prod(dims[:lead]), prod(dims[lead:])
