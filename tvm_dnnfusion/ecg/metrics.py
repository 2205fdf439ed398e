"""FLOPs and bytes of an op, and the extension of a whole graph (DNNFusion, section 3.1, table 5).

Counting follows the paper's table 4: one FLOP per element for an elementwise op whatever it
computes (an exponential counts as one; what it costs in time is for the cost models to say), and
two per multiply-accumulate. Operators that stand for several (softmax, GELU, normalisations) count
as what they decompose into, so that recognising or decomposing them does not change the sum by
itself. Movement and creation count nothing. Cost: linear in operands, no data is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2, prod

from tvm_dnnfusion.ecg.catalog import barrier_of, mapping_type, properties
from tvm_dnnfusion.ecg.graph import Graph, Op, Tensor
from tvm_dnnfusion.ecg.info import ECG, OpInfo

FlopRule = Callable[[Op, Graph], int]

_PER_ELEMENT: dict[str, int] = {
    "sigmoid": 4, "nn.silu": 5, "nn.gelu": 5, "nn.gelu_tanh": 9, "nn.selu": 4, "nn.softplus": 3,
    "nn.leakyrelu": 2, "nn.prelu": 2, "clip": 2, "log_add_exp": 6, "ewise_fma": 2, "quantize": 5,
    "dequantize": 2, "nn.batch_norm": 4, "nn.softmax": 5, "nn.log_softmax": 5, "nn.layer_norm": 8,
    "nn.group_norm": 8, "nn.instance_norm": 8, "nn.rms_norm": 5, "outer": 1,
    "image.grid_sample": 8, "image.affine_grid": 6,
}  # fmt: skip
"""FLOPs per element of the result, as the decomposed form has them; other kinds: 1."""

_FREE = frozenset(
    "concat split strided_slice slice_scatter stack nn.pad reshape flatten squeeze expand_dims"
    " nn.batch_flatten layout_transform permute_dims flip nn.pixel_shuffle broadcast_to repeat tile"
    " meshgrid one_hot take gather_elements gather_nd index_tensor reverse_sequence zeros ones full"
    " arange eye hamming_window full_like zeros_like ones_like eye_like tril triu astype nn.dropout"
    " index_put scatter_nd scatter_elements".split()
)
"""Kinds that move, make or convert elements and compute nothing."""

_PER_INPUT: dict[str, int] = {
    "sum": 1, "prod": 1, "max": 1, "min": 1, "mean": 1, "argmax": 1, "argmin": 1, "cumsum": 1,
    "cumprod": 1, "variance": 4, "std": 4, "collapse_sum_to": 1, "collapse_sum_like": 1,
    "nn.nll_loss": 1, "nn.cross_entropy_with_logits": 2, "nn.adaptive_avg_pool1d": 1,
    "nn.adaptive_avg_pool2d": 1, "nn.adaptive_avg_pool3d": 1,
}  # fmt: skip
"""FLOPs per element of the first operand (reductions)."""

_TAPS_PER_AXIS = {"nearest_neighbor": 0, "linear": 2, "cubic": 4}


def flops(op: Op, graph: Graph) -> int:
    """Floating-point (or integer) operations of one op; 0 for a barrier or a movement.

    Sources: the paper's table 4 for elementwise ops and reductions, two per multiply-accumulate.
    """
    if barrier_of(op, graph) is not None or op.kind in _FREE:
        return 0
    rule = _RULES.get(op.kind)
    if rule is not None:
        return rule(op, graph)
    if op.kind in _PER_INPUT:
        return _PER_INPUT[op.kind] * graph.tensors[op.inputs[0]].elements
    return _PER_ELEMENT.get(op.kind, 1) * _out(op, graph).elements


def bytes_read(op: Op, graph: Graph) -> int:
    """Bytes the op must read, each operand once; a gather or a slice only what it takes.

    0 for what has no static shape.
    """
    if not _static(op, graph):
        return 0
    names = tuple(dict.fromkeys(op.inputs))
    if op.kind in _PARTIAL and names:
        data, *rest = (graph.tensors[t] for t in names)
        return min(data.nbytes, _out(op, graph).nbytes) + sum(t.nbytes for t in rest)
    return sum(graph.tensors[t].nbytes for t in names)


def bytes_written(op: Op, graph: Graph) -> int:
    """Bytes of all results of the op; 0 where a shape is not static."""
    return sum(graph.tensors[t].nbytes for t in op.outputs) if _static(op, graph) else 0


def irs_bytes(op: Op, graph: Graph) -> int:
    """IRS_size of the paper: bytes of those results that another op reads or the graph returns."""
    if not _static(op, graph):
        return 0
    used = (t for t in op.outputs if graph.consumers[t] or graph.is_output(t))
    return sum(graph.tensors[t].nbytes for t in used)


def extend(graph: Graph) -> ECG:
    """The extended graph: mapping type, properties, FLOPs and bytes of every op."""
    return ECG(graph, {op.name: _info(op, graph) for op in graph.ops})


def _info(op: Op, graph: Graph) -> OpInfo:
    return OpInfo(
        mapping=mapping_type(op, graph),
        properties=properties(op),
        flops=flops(op, graph),
        irs_bytes=irs_bytes(op, graph),
        bytes_read=bytes_read(op, graph),
        bytes_written=bytes_written(op, graph),
    )


_PARTIAL = frozenset("take gather_elements gather_nd index_tensor strided_slice".split())


def _static(op: Op, graph: Graph) -> bool:
    return all(graph.tensors[t].is_static and graph.tensors[t].dtype
               for t in (*op.inputs, *op.outputs))  # fmt: skip


def _out(op: Op, graph: Graph) -> Tensor:
    return graph.tensors[op.outputs[0]]


def _extent(layout: str, dims: tuple[int, ...], letter: str) -> int:
    """Extent of an axis of a layout, packed parts included: ("OIHW16o", dims, "O")."""
    axes = [c for c in layout if c.isalpha()]
    return prod(d for c, d in zip(axes, dims) if c.upper() == letter)


def _conv(op: Op, graph: Graph) -> int:
    """2 * elements of the result * (weights per output channel)."""
    weight = graph.tensors[op.inputs[1]]
    default = "OI" + "DHW"[5 - len(weight.dims) :]
    channels = _extent(str(op.attr("kernel_layout") or default), weight.dims, "O")
    return 2 * _out(op, graph).elements * (weight.elements // max(1, channels))


def _conv_transpose(op: Op, graph: Graph) -> int:
    """2 * elements of the input * (weights per input channel)."""
    data, weight = (graph.tensors[t] for t in op.inputs[:2])
    default = "IO" + "DHW"[5 - len(weight.dims) :]
    channels = _extent(str(op.attr("kernel_layout") or default), weight.dims, "I")
    return 2 * data.elements * (weight.elements // max(1, channels))


def _matmul(op: Op, graph: Graph) -> int:
    return 2 * _out(op, graph).elements * graph.tensors[op.inputs[0]].dims[-1]


def _einsum(op: Op, graph: Graph) -> int:
    """One operation per operand and point of the index space; an ellipsis counts as the result."""
    text = str(op.attr("subscripts", "")).replace(" ", "").split("->")[0]
    extents: dict[str, int] = {}
    rest = 1
    for term, name in zip(text.split(","), op.inputs):
        dims = graph.tensors[name].dims
        head, dots, tail = term.partition("...")
        left, right = len(head), len(dims) - len(tail)
        extents.update(zip(head, dims[:left]))
        if dots:
            extents.update(zip(tail, dims[right:]))
            rest = max(rest, prod(dims[left:right]))
    return len(op.inputs) * rest * prod(extents.values())


def _attention(op: Op, graph: Graph) -> int:
    """Both products and the softmax; q [B, S, H, D], k [B, T, H, D], v [B, T, H, E]."""
    query, key, value = (graph.tensors[t].dims for t in op.inputs[:3])
    scores = query[0] * query[2] * query[1] * key[1]
    bias = 1 if len(op.inputs) > 3 else 0
    return scores * (2 * query[3] + 2 * value[3] + _PER_ELEMENT["nn.softmax"] + 1 + bias)


def _pool(op: Op, graph: Graph) -> int:
    extra = 1 if ".avg_" in op.kind else 0
    return _out(op, graph).elements * (prod(op.ints("pool_size")) + extra)


def _resize(op: Op, graph: Graph) -> int:
    axes = 3 if op.kind.endswith("3d") else 2
    taps = _TAPS_PER_AXIS.get(str(op.attr("method", "linear")), 2)
    return 2 * _out(op, graph).elements * taps**axes


def _sort(op: Op, graph: Graph) -> int:
    data = graph.tensors[op.inputs[0]]
    axis = op.attr("axis", -1)
    length = data.dims[axis] if isinstance(axis, int) and data.dims else data.elements
    return data.elements * max(1, ceil(log2(max(2, length))))


def _roi(op: Op, graph: Graph) -> int:
    """Bilinear taps per sample; the sampling grid is 2 x 2 where the attribute leaves it open."""
    ratio = op.attr("sample_ratio", 2)
    grid = ratio if isinstance(ratio, int) and ratio > 0 else 2
    return 8 * grid * grid * _out(op, graph).elements


_RULES: dict[str, FlopRule] = {
    **{f"nn.conv{n}d": _conv for n in (1, 2, 3)},
    **{f"nn.conv{n}d_transpose": _conv_transpose for n in (1, 2, 3)},
    **{f"nn.{p}_pool{n}d": _pool for p in ("max", "avg") for n in (1, 2, 3)},
    **{f"image.resize{n}d": _resize for n in (2, 3)},
    **dict.fromkeys(("sort", "argsort", "topk", "median"), _sort),
    "matmul": _matmul,
    "einsum": _einsum,
    "nn.attention": _attention,
    "nn.attention_bias": _attention,
    "vision.roi_align": _roi,
    "vision.roi_pool": _roi,
}
