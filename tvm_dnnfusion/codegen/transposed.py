"""Transposed convolutions as convolutions of stride 1.

With a stride s, an output place y only meets the taps k of one phase, k = (y + pad) mod s: the
s * s phases (in 2-D) are small convolutions of their own, of ceil(K / s) taps each way. One anchor
computes them as s * s times the channels, and its tiles are written to where the places belong:

    out[o, y] = sum_{c, t} x[c, (y + pad) // s - t] * w[c, o, (y + pad) % s + s * t]
->  anchor[phase, o, q] = sum_{c, t} x[c, q - t] * w'[phase, o, c, t];  out[o, q s + phase - pad]

Spreading the input with zeros instead (for dilated kernels) multiplies s * s times as much.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx

from tvm_dnnfusion.codegen.conv_regular import regular
from tvm_dnnfusion.codegen.conv_shape import PLAIN_LAYOUTS, ConvShape, Dims
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.stages import NotLowerable, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Graph, Op

PLAIN_KERNELS = {"IOW", "IOHW", "IODHW"}


def transposed(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.conv1d_transpose, conv2d_transpose, conv3d_transpose, of constant weights, one group."""
    layout, after, kernel = (op.attr(f"{n}_layout") for n in ("data", "out", "kernel"))
    if layout not in PLAIN_LAYOUTS or after != layout:
        raise NotLowerable(f"{op.kind} in layout {layout} to {after}")
    if kernel not in PLAIN_KERNELS:
        raise NotLowerable(f"{op.kind} with weights in layout {kernel}")
    x, weight = inputs
    data = graph.constants.get(op.inputs[1])
    groups = int(op.attr("groups", 1))  # type: ignore[arg-type]
    if groups != 1 or data is None:
        raise NotLowerable(f"{op.kind} with groups or with weights that are not constant")
    stages.anchor("conv")
    out = graph.tensors[op.output].dims
    rank = len(out) - 2
    sizes = ConvShape(
        out[0], x.shape[1], out[1], 1, x.shape[2:], out[2:], data.shape[2:], op.ints("strides"),
        op.ints("dilation"), op.ints("padding")[:rank],
    )  # fmt: skip
    plain = any(d != 1 for d in sizes.dilation) or math.prod(sizes.stride) == 1
    if plain or stages.tail is not None:
        return _spread_out(sizes, x, weight, data, stages)
    return _phases(sizes, x, weight, data, stages)


def _phases(sizes: ConvShape, x: Value, weight: Value, data: np.ndarray, stages: Stages) -> Value:
    """All phases as channels of one convolution: [N, s*s*O, *q]."""
    stride, pad = sizes.stride, sizes.pad_before
    taps = tuple(-(-k // s) for k, s in zip(sizes.kernel, stride))
    first = tuple(p // s for p, s in zip(pad, stride))
    count = tuple(
        (n - 1 + p) // s - f + 1 for n, p, s, f in zip(sizes.out_size, pad, stride, first)
    )
    before = tuple(t - 1 - f for t, f in zip(taps, first))
    if min(before) < 0:
        raise NotLowerable("a transposed convolution that cuts off more than its kernel adds")
    phases = math.prod(stride)
    inner = replace(
        sizes, out_channels=phases * sizes.out_channels, out_size=count, kernel=taps,
        stride=(1,) * len(stride), pad_before=before,
    )  # fmt: skip
    anchor = regular(inner, x, weight, phase_weights(data, stride, taps), stages)
    return _interleaved(anchor, sizes, first, stages)


def phase_weights(data: np.ndarray, stride: Dims, taps: Dims) -> np.ndarray:
    """[C, O, *K] -> [s*s*O, C, *ceil(K/s)]: the taps of each phase, mirrored, filled with zeros."""
    rank = len(stride)
    widths = [(0, t * s - k) for t, s, k in zip(taps, stride, data.shape[2:])]
    full = np.pad(data, [(0, 0), (0, 0), *widths])
    cut = [n for t, s in zip(taps, stride) for n in (t, s)]
    split = full.reshape(*data.shape[:2], *cut)  # [C, O, t0, s0, t1, s1, ...]
    phase = tuple(3 + 2 * i for i in range(rank))
    tap = tuple(2 + 2 * i for i in range(rank))
    moved = split.transpose(*phase, 1, 0, *tap).reshape(-1, data.shape[0], *taps)
    return np.ascontiguousarray(np.flip(moved, tuple(range(2, rank + 2))))


def _interleaved(anchor: Value, sizes: ConvShape, first: Dims, stages: Stages) -> Value:
    """The phases put in their places: [N, s*s*O, *q] -> [N, O, *out_size]."""
    out, stride, pad = sizes.out_channels, sizes.stride, sizes.pad_before

    def at(body: Body, index: Index) -> Any:
        phase: Any = 0
        place: list[Any] = []
        for y, s, p, f in zip(index[2:], stride, pad, first):
            phase = phase * s + (y + p) % s
            place.append(body.simplify((y + p) // s - f))
        return body.read(anchor, (index[0], body.simplify(phase * out + index[1]), *place))

    def push(body: Body, index: Index) -> Index:
        assert anchor.push is not None
        n, channel, *place = anchor.push(body, index)
        phase = channel // out
        where: list[Any] = []
        for q, s, p, f in zip(reversed(place), reversed(stride), reversed(pad), reversed(first)):
            where.append(body.simplify((q + f) * s + phase % s - p))
            phase = phase // s
        return (n, body.simplify(channel % out), *reversed(where))

    shape = (sizes.batch, out, *sizes.out_size)
    lanes = stages.device.lanes(anchor.dtype)
    layout = Layout(1, lanes) if out % lanes == 0 else PLAIN
    return Value(
        shape, anchor.dtype, at, resident=True, layout=layout,
        push=push if anchor.push is not None else None, moved=True,
    )  # fmt: skip


def _spread_out(
    sizes: ConvShape, x: Value, weight: Value, data: np.ndarray, stages: Stages
) -> Value:
    """The input with stride - 1 zeros between neighbours, and the kernel mirrored.

    out[o, y] = sum_{c, k} spread[c, y + k] * w[c, o, K - 1 - k]
    """
    rank = len(sizes.kernel)
    before = tuple(
        (k - 1) * d - p for k, d, p in zip(sizes.kernel, sizes.dilation, sizes.pad_before)
    )
    mirrored = np.flip(np.swapaxes(data, 0, 1), tuple(range(2, rank + 2)))
    stretched = replace(sizes, stride=(1,) * rank, pad_before=before)
    lanes = stages.device.lanes(x.dtype)
    source = stages.hold(
        _spread(x, stretched, sizes.stride, before),
        "pad",
        Layout(1, lanes) if sizes.channels % lanes == 0 else PLAIN,
    )
    spread = replace(stretched, in_size=stretched.padded_size, pad_before=(0,) * rank)
    return regular(spread, source, weight, np.ascontiguousarray(mirrored), stages)


def _spread(x: Value, sizes: ConvShape, stride: Dims, before: Dims) -> Value:
    """x with stride - 1 zeros between neighbours and `before` zeros in front."""

    def at(body: Body, index: Index) -> Any:
        inside: Any = tirx.const(True, "bool")
        place = []
        for i, s, b, n in zip(index[2:], stride, before, sizes.in_size):
            at_step = i - b
            inside = tirx.And(inside, tirx.And(at_step >= 0, at_step < (n - 1) * s + 1))
            if s > 1:
                inside = tirx.And(
                    inside, tirx.EQ(tirx.floormod(at_step, s), tirx.const(0, "int32"))
                )
            place.append(tirx.floordiv(at_step, s) if s > 1 else at_step)
        return body.where(
            inside,
            lambda: body.read(x, (index[0], index[1], *place)),
            lambda: tirx.const(0, x.dtype),
        )

    return Value((sizes.batch, sizes.channels, *sizes.padded_size), x.dtype, at)
