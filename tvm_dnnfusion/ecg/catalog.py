"""Mapping type, properties and barrier of an op (DNNFusion, PLDI'21, section 3.1).

The second step of the pipeline: everything that planners know of an operator's kind is asked here.
The tables are in `entries.py` and `barriers.py`. Cost: constant per operand.

Which pair counts: `edge_mapping` gives the type of one input/output pair, so that a fusion decision
between a producer and a consumer looks only at the operand that flows between them: in
`add(conv [1,64,56,56], s [1,64,1,1])` the pair conv -> result is One-to-One, s -> result is
One-to-Many. `mapping_type` is the most complex pair (footnote 1 of the paper), with one deviation:
constants and scalars do not count where another operand does. They are weights, not intermediate
results; no fusion decision hangs on them, and a bias addition or a scaling stays One-to-One.
"""

from __future__ import annotations

from tvm_dnnfusion.ecg.barriers import BARRIERS, Barrier
from tvm_dnnfusion.ecg.entries import ENTRIES, OWN_KERNEL, Entry
from tvm_dnnfusion.ecg.graph import Graph, GraphError, Op
from tvm_dnnfusion.ecg.mapping import MappingType, Property, most_complex

__all__ = [
    "BARRIERS", "ENTRIES", "OWN_KERNEL", "Barrier", "Entry",
    "barrier_of", "edge_mapping", "has_entry", "mapping_type", "properties",
]  # fmt: skip


def has_entry(kind: str) -> bool:
    """Whether the catalogue knows the kind, as an operator or as a barrier."""
    return kind in ENTRIES or kind in BARRIERS


def barrier_of(op: Op, graph: Graph) -> Barrier | None:
    """Why the op is a barrier, or None: the frontend's reason, then its kind, then its tensors."""
    if op.barrier is not None:
        return _code(op)
    if op.kind in BARRIERS:
        return BARRIERS[op.kind]
    if op.kind not in ENTRIES:
        return Barrier.UNKNOWN_OPERATOR
    records = [graph.tensors[t] for t in (*op.inputs, *op.outputs)]
    if any(not r.dtype for r in records):
        return Barrier.NOT_A_TENSOR
    if not all(r.is_static for r in records):
        return Barrier.SYMBOLIC_SHAPE
    return None


def mapping_type(op: Op, graph: Graph) -> MappingType | None:
    """The type of the whole op; None for a barrier.

    The most complex of the pairs of its operands that are not constants or scalars; of all its
    operands where there is no other.
    """
    if barrier_of(op, graph) is not None:
        return None
    names = tuple(dict.fromkeys(op.inputs))
    if not names:
        return most_complex(ENTRIES[op.kind].pair(op, "", t, graph) for t in op.outputs)
    counted = tuple(t for t in names if not _is_weight(t, graph))
    return most_complex(_pair(op, t, graph) for t in counted or names)


def edge_mapping(op: Op, tensor: str, graph: Graph) -> MappingType:
    """The type of the pair (one input tensor -> the op's outputs; the most complex output).

    Raises
    ------
    GraphError when the op is a barrier or does not read the tensor.
    """
    reason = barrier_of(op, graph)
    if reason is not None:
        raise GraphError(f"op {op.name} ({op.kind}) has no mapping type: {reason.value}")
    if tensor not in op.inputs:
        raise GraphError(f"op {op.name} ({op.kind}) does not read {tensor}")
    return _pair(op, tensor, graph)


def properties(op: Op) -> Property:
    """Mathematical properties of the op's kind (section 4.2); NONE for a barrier."""
    entry = ENTRIES.get(op.kind)
    return Property.NONE if entry is None or op.barrier is not None else entry.properties


def _pair(op: Op, tensor: str, graph: Graph) -> MappingType:
    rule = ENTRIES[op.kind].pair
    return most_complex(rule(op, tensor, out, graph) for out in op.outputs)


def _is_weight(tensor: str, graph: Graph) -> bool:
    return tensor in graph.constants or graph.tensors[tensor].elements == 1


def _code(op: Op) -> Barrier:
    try:
        return Barrier[op.barrier or ""]
    except KeyError:
        raise GraphError(f"op {op.name}: unknown barrier code {op.barrier!r}") from None
