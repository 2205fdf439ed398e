"""A block in numbers: what the latency model sees of it and of the device.

Everything comes from the block's ops with their shapes, and from the DeviceSpec; nothing is built.
Sizes are logarithms (base 2, of 1 + x), so that a tree's split is a ratio. The same function serves
training (blocks rebuilt from rows of the database) and planning. Cost: linear in the ops, about
a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2, prod

from tvm_dnnfusion.cost.analytic import TRANSCENDENTAL, AnalyticCost, Parts
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.catalog import mapping_type
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.ecg.metrics import flops

_GROUPS: dict[str, frozenset[str]] = {
    "conv": frozenset(f"nn.conv{n}d" for n in (1, 2, 3)),
    "transposed_conv": frozenset(f"nn.conv{n}d_transpose" for n in (1, 2, 3)),
    "matmul": frozenset(("matmul", "einsum")),
    "attention": frozenset(("nn.attention", "nn.attention_bias")),
    "pool": frozenset(
        f"nn.{p}_pool{n}d" for p in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)
    ),
    "reduce": frozenset("sum mean max min prod variance std argmax argmin cumsum".split()),
    "normalise": frozenset(
        "nn.softmax nn.log_softmax nn.layer_norm nn.rms_norm nn.instance_norm nn.group_norm".split()
    ),
    "transpose": frozenset(("permute_dims", "nn.pixel_shuffle", "layout_transform")),
    "view": frozenset("reshape flatten squeeze expand_dims nn.batch_flatten".split()),
    "join": frozenset(("concat", "stack", "split", "strided_slice")),
    "spread": frozenset(("broadcast_to", "repeat", "tile", "image.resize2d", "nn.pad")),
    "gather": frozenset("take gather_elements gather_nd index_tensor one_hot".split()),
    "transcendental": TRANSCENDENTAL,
}  # fmt: skip
"""Kinds of operators that are counted together; the rest is "pointwise"."""

_ANCHORS = _GROUPS["conv"] | _GROUPS["matmul"] | _GROUPS["attention"] | _GROUPS["transposed_conv"]

_PARTS = ("analytic_us", "work_us", "moved_us", "stage_us", "stages", "again")
_SIZES = (
    "flops", "anchor_flops", "transcendental_elements", "bytes_in", "bytes_constant", "bytes_out",
    "bytes_inside", "flops_per_byte", "of_l1", "of_l2", "of_l3",
)  # fmt: skip
_COUNTS = ("ops", "inputs", "outputs", "escaping_inside", "itemsize")
_LOOPS = (
    "out_rank", "out_batch", "out_channels", "out_space", "out_innermost", "channels_over_lanes",
    "innermost_over_lanes", "parallel",
)  # fmt: skip
_ANCHOR = (
    "anchor_channels_in", "anchor_channels_out", "anchor_space", "anchor_innermost", "anchor_taps",
    "anchor_reduction", "anchor_stride", "anchor_groups", "anchor_depthwise", "anchor_dilation",
    "anchor_winograd", "anchor_tile", "anchor_vectors", "anchor_blocks", "anchor_constant",
)  # fmt: skip
_DEVICE = ("vector_bits", "vector_registers", "cores", "l1", "l2", "l3", "peak", "bandwidth")

NAMES: tuple[str, ...] = (
    *_PARTS, *_SIZES, *_COUNTS, *_LOOPS, *_ANCHOR,
    *(f"type_{t.name.lower()}" for t in MappingType),
    *(f"kind_{name}" for name in (*_GROUPS, "pointwise")),
    *_DEVICE,
)  # fmt: skip
"""Name of each feature, in order."""


def features(
    ops: tuple[Op, ...], graph: Graph, device: DeviceSpec, parts: Parts | None = None
) -> list[float]:
    """The features of a block that has a kernel, in the order of `NAMES`.

    `parts` are those of `AnalyticCost(device)`, where they are known already. Raises GraphError for
    symbolic shapes.
    """
    found = parts or AnalyticCost(device).parts(ops, graph) or Parts()
    return [
        *_of_parts(found),
        *_of_sizes(ops, graph, device, found),
        *_of_loops(ops, graph, device),
        *_of_anchor(ops, graph, device),
        *_of_types(ops, graph),
        *_of_device(device),
    ]


def _log(x: float) -> float:
    return log2(1.0 + max(0.0, x))


def _of_parts(p: Parts) -> list[float]:
    return [
        _log(p.us),
        _log(p.work_us),
        _log(p.moved_us),
        _log(p.stage_us),
        p.stages,
        _log(p.again),
    ]


def _of_sizes(ops: Sequence[Op], graph: Graph, device: DeviceSpec, parts: Parts) -> list[float]:
    inside = {op.name for op in ops}
    made = dict.fromkeys(t for op in ops for t in op.outputs)
    read = dict.fromkeys(t for op in ops for t in op.inputs if t not in made)
    out = [t for t in made if leaves(t, graph, inside)]
    constant = _bytes([t for t in read if t in graph.constants], graph)
    loaded = _bytes([t for t in read if t not in graph.constants], graph)
    stored = _bytes(out, graph)
    work = float(sum(flops(op, graph) for op in ops))
    anchor = float(sum(flops(op, graph) for op in ops if op.kind in _ANCHORS))
    dear = sum(graph.tensors[op.outputs[0]].elements for op in ops if op.kind in TRANSCENDENTAL)
    whole = constant + loaded + stored
    inner = sum(any(c.name in inside for c in graph.consumers[t]) for t in out)
    return [
        *map(_log, (work, anchor, dear, loaded, constant, stored)),
        _log(_bytes(made, graph) - stored),
        _log(work / max(1.0, parts.traffic_bytes)),
        *(_log(whole / max(1, size)) for size in (device.l1_bytes, device.l2_bytes)),
        _log(whole / max(1, device.l3_bytes)),
        len(ops), len(read), len(out), inner, graph.tensors[ops[-1].outputs[0]].itemsize,
    ]  # fmt: skip


def _bytes(names: Sequence[str] | dict[str, None], graph: Graph) -> float:
    return float(sum(graph.tensors[t].nbytes for t in names))


def leaves(tensor: str, graph: Graph, inside: set[str]) -> bool:
    """Whether a result is read outside the group of ops, or returned."""
    readers = graph.consumers[tensor]
    return graph.is_output(tensor) or any(c.name not in inside for c in readers)


def _of_loops(ops: Sequence[Op], graph: Graph, device: DeviceSpec) -> list[float]:
    """Extents of the largest result, seen as [N, C, space...]."""
    record = max((graph.tensors[op.outputs[0]] for op in ops), key=lambda t: t.elements)
    dims = list(record.dims) or [1]
    lanes = device.lanes(record.dtype)
    channels = dims[1] if len(dims) > 2 else dims[-1]
    space = prod(dims[2:]) if len(dims) > 2 else 1
    outer = prod(dims[:-1])
    return [
        len(dims), *map(_log, (dims[0], channels, space, dims[-1])),
        _filled(channels, lanes), _filled(dims[-1], lanes), _log(outer / max(1, device.cores)),
    ]  # fmt: skip


def _filled(extent: int, lanes: int) -> float:
    """Part of the vectors over an extent that is used."""
    return extent / (-(-extent // lanes) * lanes) if extent else 1.0


def _of_anchor(ops: Sequence[Op], graph: Graph, device: DeviceSpec) -> list[float]:
    """Extents of the heaviest op that a kernel is built around; zeros where there is none."""
    anchors = [op for op in ops if op.kind in _ANCHORS]
    if not anchors:
        return [0.0] * len(_ANCHOR)
    op = max(anchors, key=lambda o: flops(o, graph))
    x, w = (graph.tensors[t].dims for t in op.inputs[:2])
    out = graph.tensors[op.outputs[0]].dims
    lanes = device.lanes(graph.tensors[op.outputs[0]].dtype)
    constant = float(op.inputs[1] in graph.constants)
    if op.kind in _GROUPS["conv"] | _GROUPS["transposed_conv"]:
        return [*_of_conv(op, x, w, out, lanes), constant]
    columns = out[-1] if out else 1
    tiles = _of_tile(prod(out[:-1]), columns, lanes)
    sizes = (x[-1] if x else 1, columns, prod(out[:-1]), columns, 1, x[-1] if x else 1)
    return [*map(_log, sizes), 1, _log(prod(out[:-2])), 0, 1, 0, *tiles, constant]


def _of_conv(
    op: Op, x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...], lanes: int
) -> list[float]:
    taps, groups = prod(w[2:]), int(str(op.attr("groups", 1)))
    stride, dilation = max(op.ints("strides") or (1,)), max(op.ints("dilation") or (1,))
    depthwise = groups > 1 and groups == x[1]
    plain = stride == 1 and dilation == 1 and groups == 1 and w[-2:] == (3, 3)
    winograd = plain and min(x[1], out[1]) >= lanes
    sizes = (x[1], out[1], prod(out[2:]), out[-1], taps, taps * x[1] // groups)
    return [
        *map(_log, sizes), stride, _log(groups), depthwise, dilation, winograd,
        *_of_tile(out[-1], out[1], lanes),
    ]  # fmt: skip


def _of_tile(places: int, channels: int, lanes: int) -> list[float]:
    """What register tiles find: the longest divisor up to 8 of the places, vectors, their use."""
    longest = max(n for n in range(1, 9) if places % n == 0) if places else 1
    blocks = -(-channels // lanes)
    vectors = next((v for v in (2, 3) if blocks % v == 0), 1)
    return [longest, vectors, _filled(channels, lanes)]


def _of_types(ops: Sequence[Op], graph: Graph) -> list[float]:
    """How many ops there are of each mapping type, and of each group of kinds."""
    types = [mapping_type(op, graph) for op in ops]
    kinds = [next((g for g, ks in _GROUPS.items() if op.kind in ks), "pointwise") for op in ops]
    return [
        *(float(types.count(t)) for t in MappingType),
        *(float(kinds.count(g)) for g in (*_GROUPS, "pointwise")),
    ]


def _of_device(d: DeviceSpec) -> list[float]:
    return [
        d.vector_bits, d.vector_registers, d.cores, _log(d.l1_bytes), _log(d.l2_bytes),
        _log(d.l3_bytes), _log(d.peak_gflops), _log(d.bandwidth_gbs),
    ]  # fmt: skip
