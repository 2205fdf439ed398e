"""Convolutions by Winograd's F(m, r) x F(m, r): fewer multiplications for windows of stride 1.

Over the last two axes the output is cut into tiles of m x m. With a = m + r - 1 a tile takes a * a
products per pair of channels instead of r * r * m * m: for 3x3 windows 2.25 times fewer with m = 2,
4 with m = 4, 5.06 with m = 6; for 5x5 ones 2.78 with m = 2, 6.25 with m = 4. A third axis (C3D) is
summed directly: its taps lengthen the sum over channels. A convolution in groups sums over the
channels of a group: whole vectors of them, so that a panel of output channels has one group's.

    data    V[x]    = B^T d B                     d: the a x a inputs under a tile, x: one of a * a
    weight  U[x]    = G g G^T                     or packed beforehand
    prod    M[x]    = sum_{depth tap, c} V[x, c] * U[x, c, k]
    anchor  y       = A^T M A                     and the block's epilogue follows

Stages are written in the plain sense here; `schedules/cpu/winograd` builds the loops.
Tiles are numbered n, row, column and cut into groups of `group`, those into register tiles of
`rows`. The last group may have tiles that do not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import tvm
from tvm import te, tirx

from tvm_dnnfusion.codegen.conv_shape import ConvShape, Dims
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.movement import both, padded
from tvm_dnnfusion.codegen.params import divisors
from tvm_dnnfusion.codegen.stages import Packed, Stages
from tvm_dnnfusion.codegen.value import Body, Index, Value, compute, load
from tvm_dnnfusion.codegen.winograd_matrices import Row, Transform, transform, transformed

_SHARE_OF_L2 = 0.4
"""Part of L2 that the factors of a panel may fill, where they are made as they are used."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How F(m, window) cuts a convolution of `convs` groups. `down` and `across` count tiles,
    `depth` output slices, `taps` the depth taps, `vectors` the vectors of output channels in a
    register tile; `channel_blocks` are one group's, `out_blocks` those of all. `fresh`: the kernel
    reads the weights as they are and transforms them itself."""

    m: int
    batch: int
    depth: int
    taps: int
    down: int
    across: int
    rows: int
    group: int
    vectors: int
    channel_blocks: int
    out_blocks: int
    lanes: int
    fresh: bool = False
    window: int = 3
    convs: int = 1

    @property
    def tiles(self) -> int:
        """Tiles of one depth slice, over the whole batch."""
        return self.batch * self.down * self.across

    @property
    def groups(self) -> int:
        """Groups of tiles."""
        return -(-self.tiles // self.group)

    @property
    def alpha(self) -> int:
        """Extent of a tile's inputs, and of its products."""
        return self.m + self.window - 1

    @property
    def points(self) -> int:
        """Products per tile and pair of channels."""
        return self.alpha**2

    @property
    def slices(self) -> int:
        """Depth slices of the input under the outputs."""
        return self.depth + self.taps - 1

    def shared(self, cores: int) -> bool:
        """Whether the cores share the groups: too few to give each core its own."""
        return self.groups < 2 * cores

    def blocks_at_once(self, l2_bytes: int) -> int:
        """Channel blocks whose fresh factors for a panel, together, leave room in L2."""
        one = 4 * self.points * self.taps * self.lanes * self.vectors * self.lanes
        fit = max(1, int(l2_bytes * _SHARE_OF_L2) // one)
        return max(d for d in divisors(self.channel_blocks) if d <= fit)

    @property
    def data_shape(self) -> Dims:
        """V: [group, point, slice, register tile, channel block, row, channel]."""
        q = self.group // self.rows
        blocks = self.convs * self.channel_blocks
        return (self.groups, self.points, self.slices, q, blocks, self.rows, self.lanes)

    @property
    def product_shape(self) -> Dims:
        """M: [group, panel, point, depth, register tile, row, vector, lane]."""
        q, panels = self.group // self.rows, self.out_blocks // self.vectors
        tail = (self.rows, self.vectors, self.lanes)
        return (self.groups, panels, self.points, self.depth, q, *tail)

    @property
    def factor_shape(self) -> Dims:
        """U: [panel, point, depth tap, channel block, channel, vector, lane]."""
        panels = self.out_blocks // self.vectors
        tail = (self.channel_blocks, self.lanes, self.vectors, self.lanes)
        return (panels, self.points, self.taps, *tail)

    @property
    def weight_shape(self) -> Dims:
        """The constant: U, or, where it is fresh, g as [panel, depth tap, channel block, channel,
        tap, vector, lane]."""
        if not self.fresh:
            return self.factor_shape
        panels, _, taps, blocks, lanes, *tail = self.factor_shape
        return (panels, taps, blocks, lanes, self.window**2, *tail)


def winograd(sizes: ConvShape, x: Value, data: np.ndarray, tiling: Tiling, stages: Stages) -> Value:
    """The convolution as the stages data, prod and anchor."""
    t = transform(tiling.m, tiling.window)
    source = _blocked(x, tiling, stages)
    at_once = tiling.channel_blocks
    if tiling.fresh and tiling.shared(stages.device.cores):
        at_once = tiling.blocks_at_once(stages.device.l2_bytes)
    stages.attrs["dnnfusion.winograd"] = [tiling.m, tiling.window, at_once, *sizes.pad_before]
    constant = Packed("winograd", pack(data, tiling))
    weights = stages.argument(constant, tiling.weight_shape, x.dtype)
    if tiling.fresh:
        weights = _factors(weights, t, tiling, stages)
    v = _data(sizes, source, t, tiling, stages)
    products = _products(v, weights, tiling, stages)
    return _anchor(sizes, products, t, tiling, stages)


def pack(data: np.ndarray, tiling: Tiling) -> np.ndarray:
    """[O, C, (depth), r, r] -> laid out as `Tiling.weight_shape`, transformed unless fresh."""
    out, channels = data.shape[:2]
    lanes = tiling.lanes
    full = data.reshape(out, channels, tiling.taps, tiling.window, tiling.window)
    full = full if tiling.fresh else transformed(full, tiling.m)
    extra = (tiling.out_blocks * lanes - out, tiling.channel_blocks * lanes - channels)
    full = np.pad(full, [(0, extra[0]), (0, extra[1]), (0, 0), (0, 0), (0, 0)])
    full = full.reshape(
        -1, tiling.vectors, lanes, tiling.channel_blocks, lanes, tiling.taps, full[0, 0, 0].size
    )
    order = (0, 5, 3, 4, 6, 1, 2) if tiling.fresh else (0, 6, 5, 3, 4, 1, 2)
    return np.ascontiguousarray(full.transpose(order), dtype=data.dtype)


def _factors(g: Any, t: Transform, tiling: Tiling, stages: Stages) -> Any:
    """U from the weights as they are."""
    a, r = t.alpha, t.r

    def expr(body: Body, index: Index) -> Any:
        panel, point, tap, cb, ci, vector, lane, i, j = index
        entry = _entry(t.weights, point // a, i) * _entry(t.weights, point % a, j)
        return entry * g(panel, tap, cb, ci, i * r + j, vector, lane)

    return compute(stages.name("weight"), tiling.factor_shape, expr, (r, r), te.sum)


def _blocked(x: Value, tiling: Tiling, stages: Stages) -> Value:
    """The input in memory in whole vectors of channels: as it is, or as a stage."""
    layout = Layout(1, tiling.lanes)
    if x.layout == layout and _is_argument(x):
        return x
    channels = tiling.convs * tiling.channel_blocks * tiling.lanes
    whole = padded(x, (x.shape[0], channels, *x.shape[2:]), (0,) * len(x.shape), 0.0)
    return stages.hold(whole, "pad", layout)


def _is_argument(x: Value) -> bool:
    """Whether reads of the value are loads at the very place that its layout says."""
    if not x.resident:
        return False
    shape = x.layout.shape(x.shape)
    place = tuple(tirx.Var(f"i{k}", "int32") for k in range(len(shape)))
    body = Body(dict(zip(place, shape)))
    found = x.at(body, tuple(x.layout.logical(place)))
    if not isinstance(found, tvm.ir.Call) or not isinstance(found.args[0], te.Tensor):
        return False
    source, *index = found.args
    if not isinstance(source.op, te.PlaceholderOp) or tuple(int(n) for n in source.shape) != shape:
        return False
    return all(
        n == 1 or (isinstance(i, tirx.Var) and i.same_as(p)) for i, p, n in zip(index, place, shape)
    )


def _entry(matrix: tuple[Row, ...], row: Any, column: Any) -> Any:
    """An element of a matrix at an index that is an expression."""
    columns = len(matrix[0])
    out: Any = tirx.const(0.0, "float32")
    for i, values in enumerate(matrix):
        for j, value in enumerate(values):
            if value != Fraction(0):
                here = tirx.EQ(row * columns + column, i * columns + j)
                out = tirx.Select(here, tirx.const(float(value), "float32"), out)
    return out


def _place(tile: Any, tiling: Tiling) -> tuple[Any, Any, Any]:
    """Image, row and column of a tile number; those beyond the last are the last."""
    per_image = tiling.down * tiling.across
    tile = tirx.min(tile, tiling.tiles - 1)
    return tile // per_image, tile % per_image // tiling.across, tile % tiling.across


def _data(sizes: ConvShape, x: Value, t: Transform, tiling: Tiling, stages: Stages) -> Any:
    a, rank = t.alpha, len(sizes.kernel)

    def expr(body: Body, index: Index) -> Any:
        g, point, s, q, cb, r, lane, i, j = index
        n, th, tw = _place((g * (tiling.group // tiling.rows) + q) * tiling.rows + r, tiling)
        at = (s, th * tiling.m + i, tw * tiling.m + j)[3 - rank :]
        inside: Any = True
        where = []
        for o, before, extent in zip(at, sizes.pad_before, sizes.in_size):
            where.append(o - before)
            inside = both(inside, tirx.And(o >= before, o < before + extent))
        channel = body.simplify(cb * tiling.lanes + lane)
        element = body.where(
            inside,
            lambda: body.read(x, (n, channel, *where)),
            lambda: tirx.const(0, x.dtype),
        )
        return _entry(t.inputs, point // a, i) * _entry(t.inputs, point % a, j) * element

    return compute(stages.name("data"), tiling.data_shape, expr, (a, a), te.sum)


def _products(v: Any, u: Any, tiling: Tiling, stages: Stages) -> Any:
    panels = tiling.out_blocks // tiling.vectors // tiling.convs  # of one group of the convolution

    def expr(body: Body, index: Index) -> Any:
        g, panel, point, d, q, r, vector, lane, tap, cb, ci = index
        block = body.simplify(panel // panels * tiling.channel_blocks + cb)
        return v(g, point, d + tap, q, block, r, ci) * u(panel, point, tap, cb, ci, vector, lane)

    folded = (tiling.taps, tiling.channel_blocks, tiling.lanes)
    return compute(stages.name("prod"), tiling.product_shape, expr, folded, te.sum)


def _anchor(sizes: ConvShape, m: Any, t: Transform, tiling: Tiling, stages: Stages) -> Value:
    """[N, blocks, *place, lane]; lanes beyond the last channel are computed and not read."""
    lanes = tiling.lanes
    shape = (sizes.batch, tiling.out_blocks, *sizes.out_size, lanes)

    def expr(body: Body, index: Index) -> Any:
        n, block, lane, point = index[0], index[1], index[-2], index[-1]
        h, w = index[-4], index[-3]
        depth = index[2] if len(sizes.kernel) == 3 else 0
        tile = (n * tiling.down + h // t.m) * tiling.across + w // t.m
        row = tile % tiling.group
        place = (tile // tiling.group, block // tiling.vectors, point, depth)
        element = m(*place, row // tiling.rows, row % tiling.rows, block % tiling.vectors, lane)
        rows = _entry(t.outputs, h % t.m, point // t.alpha)
        return rows * _entry(t.outputs, w % t.m, point % t.alpha) * element

    stage = compute(stages.name("anchor"), shape, expr, (tiling.points,), te.sum)
    logical = (sizes.batch, sizes.out_channels, *sizes.out_size)
    layout = Layout(1, lanes)
    if sizes.out_channels % lanes == 0:
        out = load(stage, logical, layout)
        out.push = lambda body, i: layout.logical(i)
        return out

    def at(body: Body, index: Index) -> Any:
        c = index[1]
        return stage(index[0], body.simplify(c // lanes), *index[2:], body.simplify(c % lanes))

    return Value(logical, str(m.dtype), at, resident=True)
