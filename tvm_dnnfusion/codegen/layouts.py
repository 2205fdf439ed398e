"""One layout per block, from its dominant op (DNNFusion, PLDI'21, section 4.4, inter-block).

Convolutions and poolings want channels blocked (NCHW16c); products and row reductions want rows.
A block without a heavy op takes the layout that most of its input bytes have. A tensor that a
neighbour could only read row-major stays row-major, so conversions exist only where two blocks
disagree, and there they are index maps in a kernel that runs anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from types import MappingProxyType

from tvm_dnnfusion.codegen import attention, convolution, matmul, pooling, reductions
from tvm_dnnfusion.codegen.block import escaping
from tvm_dnnfusion.codegen.conv_shape import channel_block
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.planar import by_planes
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.planners.places import home
from tvm_dnnfusion.planners.plan import Place

HEAVY = frozenset(convolution.KINDS) | frozenset(pooling.KINDS)
_ROWS = frozenset(matmul.KINDS) | frozenset(attention.KINDS) | frozenset(reductions.KINDS)


def assign_layouts(
    blocks: tuple[tuple[Op, ...], ...],
    graph: Graph,
    device: DeviceSpec,
    plain: frozenset[str] = frozenset(),
    places: Mapping[str, Place] = MappingProxyType({}),
) -> dict[str, Layout]:
    """The tensors between blocks that are not row-major, with their layouts.

    Parameters
    ----------
    blocks : the ops of each block, in execution order.
    plain : tensors that must stay row-major (read or written by something that knows no other).
    places : tensors that lie in another one; all that share its memory have one layout.
    """
    out: dict[str, Layout] = {}
    planes = _over_planes(blocks, graph, device)
    rows = _read_by_rows(blocks, graph, planes)
    sharing = _sharing(places)
    for ops in blocks:
        if any(op.name in planes for op in ops):
            continue
        if not any(op.kind in HEAVY for op in ops) and not _mostly_blocked(ops, graph, out):
            continue
        for t in escaping(ops, graph):
            together = sharing.get(home(t, graph, places).buffer, (t,))
            if t in out or any(m in plain or m in rows or graph.is_output(m) for m in together):
                continue
            factor = _factor(t, ops, graph, device, out)
            if len(together) > 1:
                factor = _joint_factor(together, factor, graph, places)
            if factor > 1:
                out.update(dict.fromkeys(together, Layout(1, factor)))
    return out


def _over_planes(blocks: tuple[tuple[Op, ...], ...], graph: Graph, device: DeviceSpec) -> set[str]:
    """Names of the convolutions over planes; with a pooling behind it none is."""
    return {
        op.name
        for ops in blocks
        for op in ops
        if by_planes(op, graph, device) and not any(p.kind in pooling.KINDS for p in ops)
    }


def _sharing(places: Mapping[str, Place]) -> dict[str, tuple[str, ...]]:
    """Buffer -> itself and the tensors that lie in it."""
    out: dict[str, tuple[str, ...]] = {}
    for place in places.values():
        out[place.buffer] = (*out.get(place.buffer, (place.buffer,)), place.tensor)
    return out


def _joint_factor(
    tensors: tuple[str, ...], factor: int, graph: Graph, places: Mapping[str, Place]
) -> int:
    """The widest blocks in which all tensors of a buffer begin and end."""
    edges = [home(t, graph, places).start[1] for t in tensors]
    edges += [graph.tensors[t].dims[1] for t in tensors]
    joint = channel_block(gcd(*edges), factor)
    return joint if joint >= 4 else 1


def _read_by_rows(
    blocks: tuple[tuple[Op, ...], ...], graph: Graph, planes: set[str]
) -> frozenset[str]:
    """Tensors that a block dominated by a product or a row reduction over channels reads, or one
    by a convolution over planes."""
    found: list[str] = []
    for ops in blocks:
        heavy = [op for op in ops if op.kind in HEAVY and op.name not in planes]
        rows = [op for op in ops if op.kind in _ROWS and not _keeps_channels(op, graph)]
        rows += [op for op in ops if op.name in planes]
        if rows and not heavy:
            found.extend(t for op in ops for t in op.inputs)
    return frozenset(found)


def _keeps_channels(op: Op, graph: Graph) -> bool:
    rank = len(graph.tensors[op.inputs[0]].dims)
    axes = op.ints("axis") or op.ints("axes")
    return (
        op.kind not in matmul.KINDS
        and rank > 2
        and bool(axes)
        and 1 not in {a % rank for a in axes}
    )


def _mostly_blocked(ops: tuple[Op, ...], graph: Graph, layouts: Mapping[str, Layout]) -> bool:
    made = {t for op in ops for t in op.outputs}
    external = dict.fromkeys(
        t for op in ops for t in op.inputs if t not in made and t not in graph.constants
    )
    total = sum(graph.tensors[t].nbytes for t in external)
    blocked = sum(graph.tensors[t].nbytes for t in external if t in layouts)
    return blocked * 2 > total


def _factor(
    tensor: str,
    ops: tuple[Op, ...],
    graph: Graph,
    device: DeviceSpec,
    layouts: Mapping[str, Layout],
) -> int:
    """Width of the channel blocks of a tensor: what its channels and its concat parts allow."""
    record = graph.tensors[tensor]
    if len(record.dims) < 3 or not record.dtype.startswith("float"):
        return 1
    factor = channel_block(record.dims[1], device.lanes(record.dtype))
    for op in ops:
        if op.kind == "concat":
            for t in op.inputs:
                shape = graph.tensors[t].dims
                if len(shape) == len(record.dims):
                    factor = min(factor, channel_block(shape[1], factor))
    return factor if factor >= 4 else 1
