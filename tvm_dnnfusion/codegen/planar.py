"""Grouped 1x1 convolutions over planes: vectors hold neighbouring places, tiles some channels.

Where groups cut through the vectors of channels (ShuffleNet's 34 channels of a group), blocks of
channels waste lanes, and both the operand and the channel shuffle behind must be taken apart
element by element. In row-major order a group is a product of its weights by its planes, and a
shuffle of channels moves whole planes:

    anchor[n, g, m, p, f] += w[g, m, k] * x[n, g K + k, p f + lane]

[N, G, M, P/f, f], M output channels of a group over its K input channels. Multiply-adds are the
convolution's own, in the same order; nothing is packed but the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tvm_ffi
from tvm import te, tirx

from tvm_dnnfusion.codegen.conv_regular import window, with_border
from tvm_dnnfusion.codegen.conv_shape import ConvShape, Dims, shape_of
from tvm_dnnfusion.codegen.layout import PLAIN
from tvm_dnnfusion.codegen.movement import regroup
from tvm_dnnfusion.codegen.product_tiles import plane_tile, plane_tiles
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed, Stages
from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, narrowed
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op


def by_planes(op: Op, graph: Graph, device: DeviceSpec) -> bool:
    """Whether an op is a convolution that this template computes."""
    if op.kind not in _KINDS or op.inputs[1] not in graph.constants:
        return False
    try:
        return in_planes(shape_of(op, graph), graph.tensors[op.output].dtype, device)
    except NotLowerable:
        return False


def in_planes(sizes: ConvShape, dtype: str, device: DeviceSpec) -> bool:
    """Whether groups are no whole vectors of channels, and planes fill theirs as well or better."""
    lanes, places = device.lanes(dtype), math.prod(sizes.out_size)
    if device.kind != "cpu" or sizes.groups == 1 or sizes.depthwise or places < lanes:
        return False
    per_group = sizes.channels // sizes.groups, sizes.out_channels // sizes.groups
    pointwise = math.prod(sizes.kernel) == math.prod(sizes.stride) == 1
    bare = not any(sizes.pad_before) and sizes.in_size == sizes.out_size
    cut = min(_filled(n, lanes) for n in per_group)
    return pointwise and bare and cut < 1 and _filled(places, lanes) >= cut


def _filled(extent: int, lanes: int) -> float:
    """The share of the lanes that work, in vectors over an extent."""
    return extent / (-(-extent // lanes) * lanes)


def planar(sizes: ConvShape, x: Value, data: np.ndarray, stages: Stages) -> Value:
    """A convolution with constant weights [O, K, 1, 1] that goes `in_planes`."""
    stages.anchor("planes")
    lanes, groups = stages.device.lanes(x.dtype), sizes.groups
    rows, folds = sizes.out_channels // groups, sizes.channels // groups
    places = -(-math.prod(sizes.out_size) // lanes)
    best = plane_tile(stages.device, rows, places)
    offered = partial(plane_tiles, stages.device, rows, places)
    stages.tile = Tile(1, *stages.choices.pick("tile", best, offered))
    places = -(-places // stages.tile.vectors) * stages.tile.vectors
    source = x if x.resident and not x.layout.blocked else stages.hold(x, "pad")
    planes = _Vectors(sizes.out_size, lanes)
    height = stages.tile.columns
    packed = Packed("planes", pack(data, groups, height))
    weights = stages.argument(packed, packed.data.shape, x.dtype)

    def expr(body: Body, i: Index) -> Any:
        n, group, row, block, lane, fold = i
        where = planes.place(body, block, lane)
        read = body.read(source, (n, body.simplify(group * folds + fold), *where))
        tile, inner = body.simplify(row // height), body.simplify(row % height)
        return read * weights(group, tile, fold, inner)

    domain = (sizes.batch, groups, rows, places, lanes)
    stages.domain, stages.planes = domain, True
    sums = stages.sums(x.dtype)
    stage = compute(stages.name("anchor"), domain, expr, (folds,), te.sum, sums)
    return _output(narrowed(stage, x.dtype), sizes, planes, x.dtype)


def pack(data: np.ndarray, groups: int, height: int) -> np.ndarray:
    """[O, K, 1, 1] -> [G, ceil(O / G / height), K, height], rows padded with zeros."""
    rows, folds = data.shape[0] // groups, data.shape[1]
    grouped = data.reshape(groups, rows, folds)
    full = np.pad(grouped, [(0, 0), (0, -rows % height), (0, 0)])
    return np.ascontiguousarray(full.reshape(groups, -1, height, folds).swapaxes(2, 3))


def window_in_planes(sizes: ConvShape, x: Value, stages: Stages) -> bool:
    """Whether a depthwise convolution is computed row by row: its input lies so, in long rows."""
    return (
        stages.device.kind == "cpu"
        and stages.tail is None
        and x.resident
        and not x.layout.blocked
        and sizes.stride[-1] == 1
        and len(sizes.kernel) == 2
        and sizes.out_size[-1] >= MIN_LANES
    )


def planar_window(sizes: ConvShape, x: Value, data: np.ndarray, stages: Stages) -> Value:
    """A depthwise convolution with constant weights [C, 1, kh, kw], each row in vectors:

    anchor[n, c, s, i, f] += w[c, kh, kw] * x[n, c, i + kh, s f + lane + kw]
    """
    lanes = stages.device.lanes(x.dtype)
    while lanes > sizes.out_size[-1]:
        lanes //= 2
    source = with_border(sizes, x, stages, PLAIN)
    shape = (sizes.channels, *sizes.kernel)
    weights = stages.argument(Packed("depthwise", data.reshape(shape)), shape, x.dtype)
    rows = _Vectors(sizes.out_size[-1:], lanes)

    def expr(body: Body, i: Index) -> Any:
        n, channel, strip, row, lane, *taps = i
        place = (row, *rows.place(body, strip, lane))
        return window(sizes, source, body, n, channel, place, tuple(taps)) * weights(channel, *taps)

    strips = -(-sizes.out_size[-1] // lanes)
    stages.domain = (sizes.batch, sizes.channels, strips, sizes.out_size[0], lanes)
    stages.planes, sums = True, stages.sums(x.dtype)
    stage = compute(stages.name("anchor"), stages.domain, expr, sizes.kernel, te.sum, sums)
    stage = narrowed(stage, x.dtype)

    def at(body: Body, index: Index) -> Any:
        strip, lane = rows.vector(body, index[3:])
        return stage(*index[:2], strip, index[2], lane)

    def push(body: Body, i: Index) -> Index:
        return (*i[:2], i[3], *rows.place(body, i[2], i[4]))

    shape = (sizes.batch, sizes.channels, *sizes.out_size)
    return Value(shape, x.dtype, at, resident=True, push=push, moved=True)


@dataclass
class _Vectors:
    """Places of an image in vectors; the last begin earlier where places end within them.

    So nothing is read or written beyond a plane, and what two vectors share is computed twice.
    """

    size: Dims
    lanes: int
    known: list[tuple[Index, Any, Any]] = field(default_factory=list)

    def place(self, body: Body, vector: Any, lane: Any) -> Index:
        """The place of a lane."""
        count = math.prod(self.size)
        first = tirx.min(vector * self.lanes, count - self.lanes)
        where = regroup((count,), self.size, (first + lane,), body)
        self.known.append((where, vector, lane))
        return where

    def vector(self, body: Body, place: Index) -> tuple[Any, Any]:
        """A vector and its lane at a place: those that the place was made from, if it was."""
        for where, vector, lane in self.known:
            if all(tvm_ffi.structural_equal(a, b) for a, b in zip(where, place)):
                return vector, lane
        count = math.prod(self.size)
        (linear,) = regroup(self.size, (count,), place, body)
        vector = linear // self.lanes
        first = tirx.min(vector * self.lanes, count - self.lanes)
        return body.simplify(vector), body.simplify(linear - first)


def _output(stage: Any, sizes: ConvShape, places: _Vectors, dtype: str) -> Value:
    """The anchor as [N, O, *out_size]."""
    rows = sizes.out_channels // sizes.groups

    def at(body: Body, index: Index) -> Any:
        channel = (body.simplify(index[1] // rows), body.simplify(index[1] % rows))
        return stage(index[0], *channel, *places.vector(body, index[2:]))

    def push(body: Body, i: Index) -> Index:
        n, group, row, vector, lane = i
        return (n, body.simplify(group * rows + row), *places.place(body, vector, lane))

    shape = (sizes.batch, sizes.out_channels, *sizes.out_size)
    return Value(shape, dtype, at, resident=True, push=push, moved=True)


MIN_LANES = 4
"""Shorter rows make no vectors."""

_KINDS = ("nn.conv1d", "nn.conv2d", "nn.conv3d")
