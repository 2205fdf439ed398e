"""Poolings: as a block's own heavy op, or as the tail of a convolution."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen import gpu_tiles
from tvm_dnnfusion.codegen.conv_shape import PLAIN_LAYOUTS, window_domain
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.movement import padded
from tvm_dnnfusion.codegen.stages import MAX, NotLowerable, Stages, lowest, zero
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load
from tvm_dnnfusion.codegen.wide import SHORT, WIDE, narrow
from tvm_dnnfusion.codegen.window import bordered
from tvm_dnnfusion.ecg.graph import Graph, Op

COLUMNS = "dnnfusion.columns"
"""The attribute of a GPU's kernel with the columns of a tile of its pooling."""


def pooling(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.max_pool and nn.avg_pool, 1-D to 3-D; out-of-range taps are skipped, not padded."""
    if op.attr("layout") not in PLAIN_LAYOUTS or op.attr("out_layout") != op.attr("layout"):
        raise NotLowerable(f"{op.kind} in layout {op.attr('layout')}")
    x = inputs[0]
    shape = graph.tensors[op.output].dims
    rank = len(shape) - 2
    average = "avg" in op.kind
    if average and op.attr("ceil_mode"):
        raise NotLowerable(f"{op.kind} with ceil_mode: its divisor differs at the border")
    if stages.tail is op or (stages.device.kind == "gpu" and stages.anchored):
        return _after_convolution(op, x, shape, rank, average, stages)
    stages.anchor("pool")
    dtype = x.dtype
    if average and x.wide is not None and not x.resident:
        x = x.wide  # powers of a p-norm, before they overflow
    layout = _layout(x)
    if stages.device.kind == "cpu":
        taps = _taps(op, stages.resident(x), layout, rank, average)
    else:
        _tile_columns(op, shape, layout, x.dtype, stages)
        taps = _covered(op, _with_border(op, x, layout, average, stages), layout, rank)
    stage = compute(
        stages.name("anchor"),
        layout.shape(shape),
        taps,
        op.ints("pool_size"),
        te.sum if average else MAX,
        _sums(x.dtype) if average else "",
    )
    return narrow(_result(op, stage, x, shape, layout, rank, average), dtype)


def _sums(dtype: str) -> str:
    """The dtype of an average's sums: of short floats float32, "" for the same."""
    return WIDE if dtype in SHORT else ""


def _with_border(op: Op, x: Value, layout: Layout, average: bool, stages: Stages) -> Value:
    """All that the windows cover. Work-items of a GPU lay out their borders in registers."""
    before, size = window_domain(op, x.shape[2:])
    if not any(before) and all(m <= n for m, n in zip(size, x.shape[2:])):
        return stages.resident(x)
    whole = padded(x, (*x.shape[:2], *size), (0, 0, *before), _outside(average, x.dtype))
    return stages.hold(whole, "border", layout)


def _tile_columns(
    op: Op, shape: tuple[int, ...], layout: Layout, dtype: str, stages: Stages
) -> None:
    """Say how many columns a work-item of a GPU folds: their windows meet."""
    lanes = 1 if layout.blocked else stages.device.lanes(dtype)
    taps, stride = op.ints("pool_size")[-1], op.ints("strides")[-1]
    columns = gpu_tiles.window_columns(stages.device, shape[-1], taps, stride, lanes)
    stages.attrs[COLUMNS] = columns


def _result(
    op: Op, stage: Any, x: Value, shape: tuple[int, ...], layout: Layout, rank: int, average: bool
) -> Value:
    out = load(stage, shape, layout)
    out.push = lambda body, i: layout.logical(i)
    return _mean(op, out, x, rank) if average else out


def _after_convolution(
    op: Op, x: Value, shape: tuple[int, ...], rank: int, average: bool, stages: Stages
) -> Value:
    """The tail of a convolution: it reads `mid`, the epilogue over all places that windows cover.

    `mid` holds the fold's identity where a window leaves the image, so the taps have no branch.
    """
    if stages.kind not in ("conv", "dwconv", "winograd"):
        raise NotLowerable(f"{op.kind} after {stages.kind}")
    layout = _layout(x)
    if stages.device.kind == "gpu":
        _tile_columns(op, shape, layout, x.dtype, stages)
        stages.kind = "convpool"
        mid = _with_border(op, stages.hold(x, "mid", layout), layout, average, stages)
    else:
        mid = _middle(op, x, layout, average, stages)
    stage = compute(
        stages.name("pool"),
        layout.shape(shape),
        _covered(op, mid, layout, rank),
        op.ints("pool_size"),
        te.sum if average else MAX,
        _sums(x.dtype) if average else "",
    )
    return narrow(_result(op, stage, x, shape, layout, rank, average), x.dtype)


def _middle(op: Op, x: Value, layout: Layout, average: bool, stages: Stages) -> Value:
    """All that the windows cover, as the convolution's own rows pass through the cache."""
    before, size = window_domain(op, x.shape[2:])
    size = (*size[:-1], max(size[-1], stages.width))
    whole = padded(x, (*x.shape[:2], *size), (0, 0, *before), _outside(average, x.dtype))
    if stages.kind == "winograd" and x.resident and whole.shape == x.shape:
        return x
    stages.kind = stages.kind if stages.kind == "winograd" else "convpool"
    return stages.hold(whole, "mid", layout)


def _layout(x: Value) -> Layout:
    return x.layout if x.layout.blocked and x.layout.axis == 1 else PLAIN


def _outside(average: bool, dtype: str) -> Any:
    """What a tap beyond the image counts as: the identity of the fold, in any element type."""
    return zero(dtype) if average else lowest(dtype)


def _taps(op: Op, x: Value, layout: Layout, rank: int, average: bool) -> Any:
    stride, dilation = op.ints("strides"), op.ints("dilation")
    before = op.ints("padding")[:rank]
    outside = _outside(average, x.dtype)

    def expr(body: Body, i: Index) -> Any:
        place, taps = layout.logical(tuple(i[:-rank])), i[-rank:]
        return bordered(x, stride, dilation, before, outside, body, place, taps)

    return expr


def _covered(op: Op, x: Value, layout: Layout, rank: int) -> Any:
    """Taps of windows that never leave x."""
    stride, dilation = op.ints("strides"), op.ints("dilation")

    def expr(body: Body, i: Index) -> Any:
        place, taps = layout.logical(tuple(i[:-rank])), i[-rank:]
        where = tuple(o * s + k * d for o, s, k, d in zip(place[2:], stride, taps, dilation))
        return body.read(x, (*place[:2], *where))

    return expr


def _mean(op: Op, total: Value, x: Value, rank: int) -> Value:
    """The sum of the taps divided by their number: all of them, or those inside the input."""
    size, before = op.ints("pool_size"), op.ints("padding")[:rank]
    stride, dilation = op.ints("strides"), op.ints("dilation")
    whole = 1
    for k in size:
        whole *= k
    fixed = bool(op.attr("count_include_pad")) or not any(op.ints("padding"))
    if not fixed and any(d != 1 for d in dilation):
        raise NotLowerable(f"{op.kind}: dilation with padding that does not count")

    integers = "float" not in total.dtype

    def at(body: Body, index: Index) -> Any:
        value = body.read(total, index)
        if fixed and integers:
            return tirx.truncdiv(value, tirx.const(whole, total.dtype))
        if fixed:
            return value * tirx.const(1.0 / whole, total.dtype)
        count: Any = 1
        for o, s, k, b, n in zip(index[2:], stride, size, before, x.shape[2:]):
            first = o * s - b
            count = count * (tirx.min(first + k, n) - tirx.max(first, 0))
        count = tirx.Cast(total.dtype, count)
        return tirx.truncdiv(value, count) if integers else value / count

    return Value(total.shape, total.dtype, at, layout=total.layout, push=total.push)


KINDS = {f"nn.{k}_pool{d}d": pooling for k in ("max", "avg") for d in (1, 2, 3)}
