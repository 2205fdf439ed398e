"""Stages that fold only a window: poolings, and the nest that depthwise convolutions share.

    for n, cb, h, w, f, kh, kw: anchor[n, cb, h, w, f] = max(anchor[...], x[...])
->  for n_cb in blockIdx.y, threadIdx.y: for h_w in blockIdx.x, threadIdx.x:
      for kh in unrolled:
        for columns under the window, in registers: for f in vectorized: xs = x, or the border
        for kw, w in unrolled: for f in vectorized: tile[...] = max(tile[...], xs)

A column that several windows of a row meet is loaded once. Where tiles do not divide the columns
the last one computes more than it stores (`overhang.py`). Where channels are not in blocks there is
no f: a work-item's columns, folded one by one, are the lanes of what it stores.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm_dnnfusion.codegen.pooling import COLUMNS
from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, ScheduleFailed
from tvm_dnnfusion.schedules.gpu.maps import movement
from tvm_dnnfusion.schedules.gpu.overhang import mark
from tvm_dnnfusion.schedules.gpu.tile import (
    cut,
    follows,
    grid_of_tiles,
    held,
    hold_tile,
    lay_out,
    operand,
    unrolled,
)


def pool_block(k: GpuKernel) -> None:
    """A pooling with its epilogue."""
    anchor = k.names("anchor")[0]
    lay_out(k, anchor)
    pool(k, anchor, k.names("out"))


def pool(k: GpuKernel, anchor: str, outs: Sequence[str]) -> None:
    """A pooling that `outs` read: with them in one kernel where they follow it place by place."""
    columns = k.attr(COLUMNS)
    if columns is None:
        raise ScheduleFailed("no columns for the tile of a pooling")
    lay_out(k, anchor, ("border",))
    together = same_places(k, anchor, outs)
    stores = held(k, anchor, outs if together else None)
    window_tiles(k, anchor, stores, Tile(1, int(columns), 1))
    for name in () if together else outs:
        movement(k, name)


def same_places(k: GpuKernel, anchor: str, outs: Sequence[str]) -> bool:
    """Whether the outputs can be written tile by tile of the anchor."""
    own = [k.extent(x) for x in k.spatial(anchor)[0]]
    return all(follows(k.extents(o), own) for o in outs) and not k.apart(anchor, list(outs))


def window_tiles(
    k: GpuKernel, anchor: str, stores: Sequence[str], tile: Tile, operands: int = 1
) -> None:
    """Tiles of columns for a stage that folds a window of its first operand.

    Further operands are read tap by tap.
    """
    spatial, taps = k.spatial(anchor)
    lane = spatial.pop() if len(spatial) - len(taps) == 3 else None
    lanes = [] if lane is None else [lane]
    n, cb, *place = spatial
    width = k.extent(place[-1])
    outer, inner = cut(k, place, tile)
    k.sch.reorder(n, cb, *outer, *taps, *inner, *lanes)
    item = grid_of_tiles(k, [n, cb], outer)
    mark(k.sch, item, width, tile.columns)
    hold_tile(k, anchor, stores, item, lane)
    row = taps[-2] if len(taps) > 1 else item
    reused = unrolled(k, taps[-1:], tile.places)
    operand(k, anchor, 0, row if reused else taps[-1])
    for index in range(1, operands):
        operand(k, anchor, index, taps[-1])
    k.unroll(*inner, *(taps[-1:] if reused else []))
    if len(taps) > 1 and unrolled(k, taps[-2:], tile.places):
        k.unroll(taps[-2])
    k.sch.decompose_reduction(anchor, taps[0])
