"""Regular and grouped convolutions as anchors: 1-D, 2-D and 3-D.

The stage `anchor` has the shape of the register tiles that schedules cut: [N, C/f, *spatial, f],
f lanes of output channels innermost, so that a tile is `f` channels wide and some columns long, and
every multiplication is a broadcast of one input element by a vector of packed weights.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
from tvm import te

from tvm_dnnfusion.codegen.conv_shape import ConvShape, Dims, channel_block, window_domain
from tvm_dnnfusion.codegen.conv_weights import Weights, packed_weights
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.movement import padded
from tvm_dnnfusion.codegen.stages import Stages
from tvm_dnnfusion.codegen.tiles import Operand, Tile, by_lane, conv_tile, conv_tiles
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load, narrowed
from tvm_dnnfusion.devices.spec import DeviceSpec

# Lanes that do work, above which padded blocks beat blocks of half a vector: those use half.
_WORTH_PADDING = 0.8

# Multiply-adds per element of an input whose rows are cut into phases: that takes an instruction
# for an element, and saves one of 30 multiply-adds, but wants tiles of whole vectors of columns.
# Counted on the virtual phone: 24 channels under 3x3, 54 of an element, gain nothing, 64 gain 9 %.
_WORTH_PHASES = 64


def regular(
    sizes: ConvShape, x: Value, weight: Value, data: np.ndarray | None, stages: Stages
) -> Value:
    """Blocks of half a vector where padding to whole vectors would waste more; else padded ones."""
    lanes = stages.device.lanes(x.dtype)
    per_group = sizes.out_channels // sizes.groups
    block = channel_block(per_group, lanes)
    padded_share = per_group / (-(-per_group // lanes) * lanes)
    even = block == lanes or (2 * block == lanes and padded_share < _WORTH_PADDING)
    form, width = (_aligned, block) if even else (_unaligned, lanes)
    operand = _operand(sizes, x, stages)
    folds = sizes.channels // sizes.groups * math.prod(sizes.kernel) if width == lanes else math.inf
    before, size = _domain(sizes, -(-per_group // width), operand, folds, stages)
    wide = sizes.over(before, size)
    stages.width = size[-1]
    if operand is Operand.TAPS and wide.stride[-1] > 1:
        source = _phases(wide, x, stages)
    else:
        source = with_border(wide, x, stages)
    stages.attrs["dnnfusion.unroll_taps"] = operand is Operand.TAPS
    inner = _inner_channels(wide, source)
    packed = packed_weights(wide, weight, data, width, inner, stages)
    stages.attrs["dnnfusion.rows_first"] = rows_first(wide, stages)
    return _within(form(wide, source, packed, stages), sizes, before)


def _operand(sizes: ConvShape, x: Value, stages: Stages) -> Operand:
    """How the anchor will find its input: as it lies, or as `with_border` lays it out."""
    laid_out = not x.resident or any(sizes.pad_before) or _regrouped(sizes, x, stages.device)
    factor = _border_layout(sizes, x, stages.device).factor if laid_out else x.layout.factor
    per_group = sizes.channels // sizes.groups
    if factor > 1 and per_group % factor == 0:
        return Operand.FOLDS
    taps = sizes.kernel[-1]
    if factor > 1 or (sizes.stride[-1] > 1 and not _worth_phases(sizes, stages.device)):
        return Operand.ELEMENTS
    return Operand.TAPS if taps > 1 else Operand.PLACES


def _worth_phases(sizes: ConvShape, device: DeviceSpec) -> bool:
    """Whether lanes multiply, every phase is read, and each element laid out so often enough."""
    per_element = sizes.out_channels // sizes.groups * math.prod(sizes.kernel)
    enough = per_element >= _WORTH_PHASES * math.prod(sizes.stride)
    return by_lane(device) and sizes.kernel[-1] >= sizes.stride[-1] and enough


def _domain(
    sizes: ConvShape, blocks: int, operand: Operand, folds: float, stages: Stages
) -> tuple[Dims, Dims]:
    """Places in front of the output, and the extent in all, that the anchor computes.

    More than the output where the pooling that follows reads a border, and where the width has no
    divisor that makes a good register tile: 111 columns are computed as 112, 14 tiles of 8.
    """
    size, before = sizes.out_size, (0,) * len(sizes.out_size)
    if stages.tail is not None:
        before, size = window_domain(stages.tail, size)
    whole = stages.tail is not None
    best, _ = conv_tile(stages.device, blocks, size, whole, operand, folds)
    chosen = stages.choices.pick(
        "tile",
        astuple(best),
        lambda: [
            astuple(t) for t in conv_tiles(stages.device, blocks, size, whole, operand, folds)
        ],
    )
    stages.tile = Tile(*chosen)
    columns = stages.tile.columns
    return before, (*size[:-1], -(-size[-1] // columns) * columns)


def rows_first(sizes: ConvShape, stages: Stages) -> bool:
    """Whether rows outside, channels inside moves fewer bytes beyond the second cache.

    Channels outside: each block of channels reads the input again where that does not stay in the
    cache. Rows outside: each row reads the weights again where those do not.
    """
    assert stages.tile is not None
    if sizes.groups > 1 or len(sizes.out_size) < 2 or sizes.batch * sizes.out_size[-2] < 2:
        return False
    device, kept = stages.device, stages.device.l2_bytes * 0.6
    x = 4.0 * sizes.channels * math.prod(sizes.in_size) * sizes.batch
    w = 4.0 * sizes.channels * sizes.out_channels * math.prod(sizes.kernel)
    blocks = sizes.out_channels / (stages.tile.vectors * device.lanes())
    rows = sizes.batch * math.prod(sizes.out_size[:-1]) / stages.tile.rows
    again = max(1.0, blocks / device.cores) if x > kept else 1.0
    channels_out = x * again + w / device.cores
    rows_out = x / device.cores + (w * rows / device.cores if w > kept else w)
    return bool(stages.choices.pick("rows_first", rows_out < channels_out, lambda: (False, True)))


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


def with_border(sizes: ConvShape, x: Value, stages: Stages, layout: Layout | None = None) -> Value:
    """The input with its border, in memory, so that the inner loops have no branch."""
    inside = all(p <= n for p, n in zip(sizes.padded_size, sizes.in_size))
    there = x.resident and not _regrouped(sizes, x, stages.device)
    if inside and not any(sizes.pad_before) and there:
        return x
    # the window of the last output may end before the input does: the rest is never read
    layout = layout or _border_layout(sizes, x, stages.device)
    *rows, width = sizes.padded_size
    if not layout.blocked:
        width = _whole_row(width, stages.device)
    shape = (sizes.batch, sizes.channels, *rows, width)
    whole = padded(x, shape, (0, 0, *sizes.pad_before), 0.0)
    return stages.hold(whole, "pad", layout)


def _whole_row(width: int, device: DeviceSpec) -> int:
    """A row's width with what makes its vectors whole; short rows are not made much longer."""
    lanes = device.lanes()
    step = lanes if width >= 8 * lanes else min(4, lanes)
    return -(-width // step) * step if device.kind == "cpu" else width


def _phases(sizes: ConvShape, x: Value, stages: Stages) -> Value:
    """The input with its border, every row cut into phases: [N, C, *rows, stride, columns].

    Column `q stride + r` lies at [r, q], so that what one tap reads for neighbouring places are
    neighbours in memory, as with stride 1.
    """
    apart, lanes = sizes.stride[-1], stages.device.lanes()
    *rows, width = sizes.padded_size
    columns = -(-width // (apart * lanes)) * lanes
    before = (0, 0, *sizes.pad_before)
    whole = padded(x, (sizes.batch, sizes.channels, *rows, columns * apart), before, 0.0)
    whole = stages.hold(whole, "pad")
    shape = (sizes.batch, sizes.channels, *rows, apart, columns)

    def at(body: Body, index: Index) -> Any:
        return body.read(whole, (*index[:-2], body.simplify(index[-1] * apart + index[-2])))

    return stages.hold(Value(shape, x.dtype, at), "pad")


def _regrouped(sizes: ConvShape, x: Value, device: DeviceSpec) -> bool:
    """Whether groups cut through the input's blocks of channels, and lanes multiply: in rows, one
    load brings several places, in such blocks a single one."""
    per_group = sizes.channels // sizes.groups
    return by_lane(device) and per_group > 1 and per_group % x.layout.factor != 0


def _border_layout(sizes: ConvShape, x: Value, device: DeviceSpec) -> Layout:
    """How an input is laid out with its border."""
    if _regrouped(sizes, x, device):
        return PLAIN
    lanes = device.lanes(x.dtype)
    block = channel_block(sizes.channels, lanes)
    blocked = block > 1 and (x.layout.blocked or sizes.channels >= lanes)
    return Layout(1, block) if blocked else PLAIN


def _inner_channels(sizes: ConvShape, source: Value) -> int:
    """Input channels read together: the source's blocks, where they divide a group's channels."""
    per_group = sizes.channels // sizes.groups
    f = source.layout.factor if source.layout.blocked else 1
    return f if per_group % f == 0 else 1


def window(
    sizes: ConvShape, source: Value, body: Body, n: Any, channel: Any, place: Index, taps: Index
) -> Any:
    """The input element under a tap of the window at an output place."""
    where = [o * s + k * d for o, s, k, d in zip(place, sizes.stride, taps, sizes.dilation)]
    if len(source.shape) > 2 + len(place):  # in phases
        tap, apart = taps[-1] * sizes.dilation[-1], sizes.stride[-1]
        where[-1:] = [tap % apart, place[-1] + tap // apart]
    return body.read(source, (n, body.simplify(channel), *(body.simplify(i) for i in where)))


def _anchor(sizes: ConvShape, source: Value, w: Weights, shape: Dims, stages: Stages) -> Any:
    """The stage over [n, block, *place, lane], folded over [c, *taps, ci]."""
    rank = len(sizes.kernel)
    ic = sizes.channels // sizes.groups

    def expr(body: Body, i: Index) -> Any:
        n, block, place, lane = i[0], i[1], i[2 : 2 + rank], i[2 + rank]
        c, taps, ci = i[3 + rank], i[4 + rank : 4 + 2 * rank], i[-1]
        channel = c * w.inner + ci
        if sizes.groups > 1:
            channel = (block // w.blocks) * ic + channel
        outer, inner = body.simplify(block // w.v), body.simplify(block % w.v)
        x = window(sizes, source, body, n, channel, place, taps)
        return x * w.packed(outer, c, *taps, ci, inner, lane)

    folded = (ic // w.inner, *sizes.kernel, w.inner)
    sums = stages.sums(source.dtype)
    stage = compute(stages.name("anchor"), shape, expr, folded, te.sum, sums)
    return narrowed(stage, source.dtype)


def _aligned(sizes: ConvShape, source: Value, w: Weights, stages: Stages) -> Value:
    """Output channels fill the lanes: the anchor is the output in a blocked layout."""
    shape = (sizes.batch, sizes.out_channels, *sizes.out_size)
    layout = Layout(1, w.lanes)
    stages.domain = layout.shape(shape)
    out = load(_anchor(sizes, source, w, stages.domain, stages), shape, layout)
    out.push = lambda body, i: layout.logical(i)
    return out


def _unaligned(sizes: ConvShape, source: Value, w: Weights, stages: Stages) -> Value:
    """Output channels of a group do not fill the lanes: the last block of each group is padded."""
    per_group = sizes.out_channels // sizes.groups
    shape = (sizes.batch, sizes.groups * w.blocks, *sizes.out_size, w.lanes)
    stage = _anchor(sizes, source, w, shape, stages)

    def at(body: Body, index: Index) -> Any:
        c = index[1]
        group, lane = (c // per_group, c % per_group) if sizes.groups > 1 else (0, c)
        block = body.simplify(group * w.blocks + lane // w.lanes)
        return stage(index[0], block, *index[2:], body.simplify(lane % w.lanes))

    logical = (sizes.batch, sizes.out_channels, *sizes.out_size)
    return Value(logical, source.dtype, at, resident=True)
