"""Convolutions: regular (`conv_regular.py`), transposed (`transposed.py`), depthwise (here)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from tvm import te

from tvm_dnnfusion.codegen.conv_regular import regular, window, with_border
from tvm_dnnfusion.codegen.conv_shape import ConvShape, channel_block, shape_of
from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.planar import in_planes, planar, planar_window, window_in_planes
from tvm_dnnfusion.codegen.stages import Packed, Stages
from tvm_dnnfusion.codegen.tiles import conv_tile, window_tile
from tvm_dnnfusion.codegen.transposed import transposed
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load, narrowed
from tvm_dnnfusion.codegen.window import bordered
from tvm_dnnfusion.codegen.winograd import winograd
from tvm_dnnfusion.codegen.winograd_choice import choose
from tvm_dnnfusion.ecg.graph import Graph, Op


def convolution(op: Op, inputs: list[Value], graph: Graph, stages: Stages) -> Value:
    """nn.conv1d, conv2d, conv3d."""
    sizes = shape_of(op, graph)
    x, weight = inputs
    data = graph.constants.get(op.inputs[1])
    if data is not None and stages.tail is None and in_planes(sizes, x.dtype, stages.device):
        return planar(sizes, x, data, stages)
    if sizes.depthwise:
        return _depthwise(sizes, x, weight, data, stages)
    suits = x.dtype == "float32" and data is not None
    tiling = choose(sizes, stages.device, stages.winograd, stages.choices) if suits else None
    if tiling is not None and data is not None:
        stages.anchor("winograd")
        return winograd(sizes, x, data, tiling, stages)
    stages.anchor("conv")
    return regular(sizes, x, weight, data, stages)


def _depthwise(
    sizes: ConvShape, x: Value, weight: Value, data: np.ndarray | None, stages: Stages
) -> Value:
    """Each channel by itself: [N, C/f, *spatial, f], no sum over channels."""
    stages.anchor("dwconv")
    if data is not None and window_in_planes(sizes, x, stages):
        return planar_window(sizes, x, data, stages)
    lanes = stages.device.lanes(x.dtype)
    block = channel_block(sizes.channels, lanes)
    layout = Layout(1, block) if block > 1 else PLAIN
    if stages.device.kind == "gpu":
        stages.tile = window_tile(stages.device, sizes.out_size, sizes.kernel, sizes.stride)
    else:
        stages.tile, _ = conv_tile(stages.device, sizes.channels // block, sizes.out_size, True)
    source = depthwise_source(sizes, x, layout, lanes, stages)
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
        x = source(body, logical, taps)
        return x * packed(place[1], *taps, lane)

    domain, sums = layout.shape(shape), stages.sums(x.dtype)
    stage = compute(stages.name("anchor"), domain, expr, sizes.kernel, te.sum, sums)
    out = load(narrowed(stage, x.dtype), shape, layout)
    out.push = lambda body, i: layout.logical(i)
    return out


def depthwise_source(
    sizes: ConvShape, x: Value, layout: Layout, lanes: int, stages: Stages
) -> Callable[[Body, Index, Index], Any]:
    """The element under a tap, by output place and tap.

    An operand that lies in memory in the blocks of the anchor is read where it is, its border being
    a condition that schedules take out of the inner loops (`schedules/cpu/borders.py`); any other
    is laid out with its border first. On a GPU that is no pass over memory: each work-item lays out
    what its own tile reads, in registers.
    """
    in_place = x.resident and layout.blocked and x.layout == layout and stages.tail is None
    if in_place and stages.device.kind == "cpu":
        return partial(bordered, x, sizes.stride, sizes.dilation, sizes.pad_before, 0.0)
    source = with_border(sizes, x, stages)
    return lambda body, place, taps: window(
        sizes, source, body, place[0], place[1], place[2:], taps
    )


KINDS = {
    **dict.fromkeys(("nn.conv1d", "nn.conv2d", "nn.conv3d"), convolution),
    **dict.fromkeys(
        ("nn.conv1d_transpose", "nn.conv2d_transpose", "nn.conv3d_transpose"), transposed
    ),
}
