"""Convolutions as anchors: 1-D, 2-D and 3-D, grouped, depthwise, transposed.

The stage `anchor` has the shape of the register tiles that schedules cut: [N, C/f, *spatial, f],
f lanes of output channels innermost, so that a tile is `f` channels wide and some columns long, and
every multiplication is a broadcast of one input element by a vector of packed weights. Weights
that are constants are packed at compile time; others by a stage of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import te, tirx

from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.movement import padded
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed, Stages
from tvm_dnnfusion.codegen.tiles import round_up, tile_limit, vectors_of
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]
PLAIN_LAYOUTS = {"NCW", "NCHW", "NCDHW"}


@dataclass(frozen=True, slots=True)
class ConvShape:
    """The sizes of a convolution: [N, C, *in_size], [O, C/groups, *kernel] -> [N, O, *out_size]."""

    batch: int
    channels: int
    out_channels: int
    groups: int
    in_size: Dims
    out_size: Dims
    kernel: Dims
    stride: Dims
    dilation: Dims
    pad_before: Dims

    def over(self, before: Dims, size: Dims) -> ConvShape:
        """The same convolution over a larger domain: `before` places in front, `size` in all."""
        pads = tuple(p + b * s for p, b, s in zip(self.pad_before, before, self.stride))
        return replace(self, out_size=size, pad_before=pads)

    @property
    def depthwise(self) -> bool:
        """One input channel for each output channel."""
        return self.groups == self.channels == self.out_channels and self.groups > 1

    @property
    def padded_size(self) -> Dims:
        """The input extent that the windows of all outputs cover."""
        return tuple(
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.out_size, self.stride, self.kernel, self.dilation)
        )


def shape_of(op: Op, graph: Graph) -> ConvShape:
    """The sizes of a convolution op. Raises NotLowerable for layouts other than NCHW's family."""
    if op.attr("data_layout") not in PLAIN_LAYOUTS or op.attr("out_layout") != op.attr(
        "data_layout"
    ):
        raise NotLowerable(f"{op.kind} in layout {op.attr('data_layout')}")
    x, w = (graph.tensors[t].dims for t in op.inputs[:2])
    out = graph.tensors[op.output].dims
    rank = len(x) - 2
    return ConvShape(
        x[0],
        x[1],
        out[1],
        int(op.attr("groups", 1)),
        x[2:],
        out[2:],
        w[2:],  # type: ignore[arg-type]
        op.ints("strides"),
        op.ints("dilation"),
        op.ints("padding")[:rank],
    )


def channel_block(channels: int, lanes: int) -> int:
    """Width of a channel block: the lanes, or the largest power of two that divides both."""
    f = lanes
    while f > 1 and channels % f:
        f //= 2
    return f


def convolution(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.conv1d, conv2d, conv3d."""
    sizes = shape_of(op, graph)
    x, weight = inputs
    data = graph.constants.get(op.inputs[1])
    if sizes.depthwise:
        return _depthwise(sizes, x, weight, data, stages.device.lanes(x.dtype), stages)
    stages.anchor("conv")
    return _regular(sizes, x, weight, data, stages)


# Lanes that do work, above which padded blocks beat blocks of half a vector: those use half.
_WORTH_PADDING = 0.8


def _regular(
    sizes: ConvShape, x: Value, weight: Value, data: np.ndarray | None, stages: Stages
) -> Value:
    """Blocks of half a vector where padding to whole vectors would waste more; else padded ones."""
    lanes = stages.device.lanes(x.dtype)
    per_group = sizes.out_channels // sizes.groups
    block = channel_block(per_group, lanes)
    padded_share = per_group / (-(-per_group // lanes) * lanes)
    even = block == lanes or (2 * block == lanes and padded_share < _WORTH_PADDING)
    form, width = (_aligned, block) if even else (_unaligned, lanes)
    before, size = _domain(sizes, -(-per_group // width), stages)
    wide = sizes.over(before, size)
    stages.width = size[-1]
    source = _source(wide, x, lanes, stages)
    return _within(form(wide, source, weight, data, width, stages), sizes, before)


def _domain(sizes: ConvShape, blocks: int, stages: Stages) -> tuple[Dims, Dims]:
    """Places in front of the output, and the extent in all, that the anchor computes.

    More than the output where the pooling that follows reads a border, and where the width has no
    divisor that makes a register tile: 111 columns are computed as 112, 14 tiles of 8.
    """
    size, before = sizes.out_size, (0,) * len(sizes.out_size)
    if stages.tail is not None:
        before, size = window_domain(stages.tail, size)
    limit = tile_limit(stages.device, vectors_of(blocks))
    return before, (*size[:-1], round_up(size[-1], limit))


def window_domain(pool: Op, size: Dims) -> tuple[Dims, Dims]:
    """The domain that the windows of a pooling cover: (places in front, extent in all)."""
    rank = len(size)
    k, s, d = op_window(pool)
    pad = pool.ints("padding")
    ceil = bool(pool.attr("ceil_mode"))
    out = []
    for i in range(rank):
        span = size[i] + pad[i] + pad[rank + i] - (k[i] - 1) * d[i] - 1
        count = (-(-span // s[i]) if ceil else span // s[i]) + 1
        out.append((count - 1) * s[i] + (k[i] - 1) * d[i] + 1)
    return pad[:rank], tuple(out)


def op_window(pool: Op) -> tuple[Dims, Dims, Dims]:
    """Window, stride and dilation of a pooling."""
    return pool.ints("pool_size"), pool.ints("strides"), pool.ints("dilation")


def _within(anchor: Value, sizes: ConvShape, before: Dims) -> Value:
    """The output's part of a larger domain."""
    shape = (sizes.batch, sizes.out_channels, *sizes.out_size)
    if anchor.shape == shape:
        return anchor

    def at(body: Body, index: Index) -> Any:
        place = (i + b if b else i for i, b in zip(index[2:], before))
        return body.read(anchor, (*index[:2], *place))

    return Value(
        shape,
        anchor.dtype,
        at,
        resident=True,
        layout=anchor.layout,
        push=anchor.push if not any(before) else None,
    )


def _source(sizes: ConvShape, x: Value, lanes: int, stages: Stages) -> Value:
    """The input with its border, in memory, so that the inner loops have no branch."""
    inside = all(p <= n for p, n in zip(sizes.padded_size, sizes.in_size))
    if inside and not any(sizes.pad_before) and x.resident:
        return x
    # the window of the last output may end before the input does: the rest is never read
    shape = (sizes.batch, sizes.channels, *sizes.padded_size)
    whole = padded(x, shape, (0, 0, *sizes.pad_before), 0.0)
    block = channel_block(sizes.channels, lanes)
    layout = (
        Layout(1, block) if block > 1 and (x.layout.blocked or sizes.channels >= lanes) else PLAIN
    )
    return stages.hold(whole, "pad", layout)


def _split_reduction(sizes: ConvShape, source: Value) -> tuple[int, int]:
    """Input channels of a group as (outer, inner) extents that follow the source's blocks."""
    per_group = sizes.channels // sizes.groups
    f = source.layout.factor if source.layout.blocked else 1
    return (per_group // f, f) if f > 1 and per_group % f == 0 else (per_group, 1)


def _window(
    sizes: ConvShape, source: Value, body: Body, n: Any, channel: Any, place: Index, taps: Index
) -> Any:
    where = tuple(
        body.simplify(o * s + k * d)
        for o, s, k, d in zip(place, sizes.stride, taps, sizes.dilation)
    )
    return body.read(source, (n, body.simplify(channel), *where))


def _weights(
    sizes: ConvShape, weight: Value, data: np.ndarray | None, lanes: int, inner: int, stages: Stages
) -> tuple[Any, int, int]:
    """Packed weights [G * ceil(O/G/f) / v, C/inner, *kernel, inner, v, f], blocks a group, v."""
    per_group = sizes.out_channels // sizes.groups
    blocks = -(-per_group // lanes)
    v = vectors_of(blocks)
    ic = sizes.channels // sizes.groups
    shape = (sizes.groups * blocks // v, ic // inner, *sizes.kernel, inner, v, lanes)
    if data is not None:
        return (
            stages.argument(
                Packed("conv", pack(data, sizes.groups, lanes, inner, v)), shape, weight.dtype
            ),
            blocks,
            v,
        )

    def expr(body: Body, i: Index) -> Any:
        block = i[0] * v + i[-2]
        group, lane = block // blocks, (block % blocks) * lanes + i[-1]
        place = (
            body.simplify(group * per_group + lane),
            body.simplify(i[1] * inner + i[-3]),
            *i[2:-3],
        )
        return body.where(
            lane < per_group, lambda: body.read(weight, place), lambda: tirx.const(0, weight.dtype)
        )

    return compute(stages.name("pack"), shape, expr), blocks, v


def pack(data: np.ndarray, groups: int, lanes: int, inner: int, v: int) -> np.ndarray:
    """[O, C, *k] -> [blocks / v, C/inner, *k, inner, v, lanes], channels padded with zeros."""
    out, ic = data.shape[:2]
    per_group = out // groups
    blocks = -(-per_group // lanes)
    grouped = data.reshape(groups, per_group, ic, *data.shape[2:])
    widths = [(0, 0), (0, blocks * lanes - per_group)] + [(0, 0)] * (grouped.ndim - 2)
    full = np.pad(grouped, widths)
    full = full.reshape(groups * blocks // v, v, lanes, ic // inner, inner, *data.shape[2:])
    taps = tuple(range(5, full.ndim))
    return np.ascontiguousarray(full.transpose(0, 3, *taps, 4, 1, 2))


def _multiply(sizes: ConvShape, source: Value, packed: Any, blocks: int, v: int, inner: int) -> Any:
    """The product under the sum: indices [n, block, *place, lane] + [c, *taps, ci]."""
    rank = len(sizes.kernel)
    ic = sizes.channels // sizes.groups

    def expr(body: Body, i: Index) -> Any:
        n, block, place, lane = i[0], i[1], i[2 : 2 + rank], i[2 + rank]
        c, taps, ci = i[3 + rank], i[4 + rank : 4 + 2 * rank], i[-1]
        channel = c * inner + ci
        if sizes.groups > 1:
            channel = (block // blocks) * ic + channel
        x = _window(sizes, source, body, n, channel, place, taps)
        w = packed(body.simplify(block // v), c, *taps, ci, body.simplify(block % v), lane)
        return x * w

    return expr


def _aligned(
    sizes: ConvShape,
    source: Value,
    weight: Value,
    data: np.ndarray | None,
    lanes: int,
    stages: Stages,
) -> Value:
    outer, inner = _split_reduction(sizes, source)
    packed, blocks, v = _weights(sizes, weight, data, lanes, inner, stages)
    shape = (sizes.batch, sizes.out_channels, *sizes.out_size)
    layout = Layout(1, lanes)
    stage = compute(
        stages.name("anchor"),
        layout.shape(shape),
        _multiply(sizes, source, packed, blocks, v, inner),
        (outer, *sizes.kernel, inner),
        te.sum,
    )
    stages.domain = layout.shape(shape)
    out = load(stage, shape, layout)
    out.push = lambda body, i: layout.logical(i)
    return out


def _unaligned(
    sizes: ConvShape,
    source: Value,
    weight: Value,
    data: np.ndarray | None,
    lanes: int,
    stages: Stages,
) -> Value:
    """Output channels of a group do not fill the lanes: the last block of each group is padded."""
    outer, inner = _split_reduction(sizes, source)
    packed, blocks, v = _weights(sizes, weight, data, lanes, inner, stages)
    per_group = sizes.out_channels // sizes.groups
    shape = (sizes.batch, sizes.groups * blocks, *sizes.out_size, lanes)
    stage = compute(
        stages.name("anchor"),
        shape,
        _multiply(sizes, source, packed, blocks, v, inner),
        (outer, *sizes.kernel, inner),
        te.sum,
    )

    def at(body: Body, index: Index) -> Any:
        c = index[1]
        group, lane = (c // per_group, c % per_group) if sizes.groups > 1 else (0, c)
        place = (
            index[0],
            body.simplify(group * blocks + lane // lanes),
            *index[2:],
            body.simplify(lane % lanes),
        )
        return stage(*place)

    return Value(
        (sizes.batch, sizes.out_channels, *sizes.out_size), source.dtype, at, resident=True
    )


def _depthwise(
    sizes: ConvShape, x: Value, weight: Value, data: np.ndarray | None, lanes: int, stages: Stages
) -> Value:
    """Each channel by itself: [N, C/f, *spatial, f], no sum over channels."""
    stages.anchor("dwconv")
    block = channel_block(sizes.channels, lanes)
    layout = Layout(1, block) if block > 1 else PLAIN
    source = _source(sizes, x, lanes, stages)
    rank = len(sizes.kernel)
    shape = (sizes.batch, sizes.channels, *sizes.out_size)
    wshape = (sizes.channels // block, *sizes.kernel, block)
    if data is not None:
        flat = data.reshape(sizes.channels // block, block, *sizes.kernel)
        packed_data = np.ascontiguousarray(np.moveaxis(flat, 1, -1))
        packed = stages.argument(Packed("depthwise", packed_data), wshape, weight.dtype)
    else:
        packed = compute(
            stages.name("pack"),
            wshape,
            lambda body, i: body.read(weight, (body.simplify(i[0] * block + i[-1]), 0, *i[1:-1])),
        )

    def expr(body: Body, i: Index) -> Any:
        place, taps = i[:-rank], i[-rank:]
        logical = layout.logical(tuple(place))
        lane = place[-1] if layout.blocked else 0
        x = _window(sizes, source, body, logical[0], logical[1], logical[2:], taps)
        return x * packed(place[1], *taps, lane)

    stage = compute(stages.name("anchor"), layout.shape(shape), expr, sizes.kernel, te.sum)
    out = load(stage, shape, layout)
    out.push = lambda body, i: layout.logical(i)
    return out


def transposed(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.conv1d_transpose, conv2d_transpose, conv3d_transpose, as a convolution of stride 1.

    The input is spread out (stride - 1 zeros between neighbours) in the `pad` stage, and the
    kernel is mirrored: out[o, y] = sum_{c, k} spread[c, y + k] * w[c, o, K - 1 - k].
    """
    if op.attr("data_layout") not in PLAIN_LAYOUTS:
        raise NotLowerable(f"{op.kind} in layout {op.attr('data_layout')}")
    x, weight = inputs
    data = graph.constants.get(op.inputs[1])
    groups = int(op.attr("groups", 1))  # type: ignore[arg-type]
    if groups != 1 or data is None:
        raise NotLowerable(f"{op.kind} with groups or with weights that are not constant")
    stages.anchor("conv")
    out = graph.tensors[op.output].dims
    rank = len(out) - 2
    stride, dilation, kernel = op.ints("strides"), op.ints("dilation"), data.shape[2:]
    before = tuple((k - 1) * d - p for k, d, p in zip(kernel, dilation, op.ints("padding")[:rank]))
    mirrored = np.flip(np.swapaxes(data, 0, 1), tuple(range(2, rank + 2)))
    sizes = ConvShape(
        out[0], x.shape[1], out[1], 1, x.shape[2:], out[2:], kernel, (1,) * rank, dilation, before
    )
    lanes = stages.device.lanes(x.dtype)
    source = stages.hold(
        _spread(x, sizes, stride, before),
        "pad",
        Layout(1, lanes) if sizes.channels % lanes == 0 else PLAIN,
    )
    spread = replace(sizes, in_size=sizes.padded_size, pad_before=(0,) * rank)
    return _regular(spread, source, weight, np.ascontiguousarray(mirrored), stages)


def _spread(x: Value, sizes: ConvShape, stride: Dims, before: Dims) -> Value:
    """x with stride - 1 zeros between neighbours and `before` zeros in front."""

    def at(body: Body, index: Index) -> Any:
        inside: Any = tirx.const(True, "bool")
        place = []
        for i, s, b, n in zip(index[2:], stride, before, sizes.in_size):
            at_step = i - b
            inside = tirx.And(inside, tirx.And(at_step >= 0, at_step < (n - 1) * s + 1))
            if s > 1:
                inside = tirx.And(inside, tirx.EQ(tirx.floormod(at_step, s), 0))
            place.append(tirx.floordiv(at_step, s) if s > 1 else at_step)
        return body.where(
            inside,
            lambda: body.read(x, (index[0], index[1], *place)),
            lambda: tirx.const(0, x.dtype),
        )

    return Value((sizes.batch, sizes.channels, *sizes.padded_size), x.dtype, at)


KINDS = {
    **dict.fromkeys(("nn.conv1d", "nn.conv2d", "nn.conv3d"), convolution),
    **dict.fromkeys(
        ("nn.conv1d_transpose", "nn.conv2d_transpose", "nn.conv3d_transpose"), transposed
    ),
}
