"""Depthwise convolutions: a work-item computes some columns of one vector of channels.

    for n, cb, h, w, f, kh, kw: anchor[n, cb, h, w, f] += x[...] * w[...]
->  for n_cb in blockIdx.y, threadIdx.y: for h_w in blockIdx.x, threadIdx.x:
      for kh in unrolled:
        for columns under the window, in registers: for f in vectorized: xs = x or 0
        for kw, w in unrolled: for f in vectorized: tile[...] += xs * w

Channels that are no multiple of a vector are computed one by one.
"""

from __future__ import annotations

from tvm_dnnfusion.schedules.gpu.common import GpuKernel
from tvm_dnnfusion.schedules.gpu.conv import cut, follows, into_registers
from tvm_dnnfusion.schedules.gpu.maps import map_block, movement
from tvm_dnnfusion.schedules.gpu.tile import grid_of_tiles, hold_tile, operand, unrolled


def depthwise_block(k: GpuKernel) -> None:
    """A depthwise convolution with its epilogue."""
    anchor, outs = k.names("anchor")[0], k.names("out")
    spatial, taps = k.spatial(anchor)
    if len(spatial) - len(taps) < 3:
        map_block(k)
        return
    own = [k.extent(x) for x in spatial]
    together = all(follows(k.extents(o), own) for o in outs) and not k.apart(anchor, outs)
    stores = into_registers(k, anchor, outs if together else None)
    n, cb, *place, lane = spatial
    tile = k.tile()
    outer, inner = cut(k, place, tile)
    k.sch.reorder(n, cb, *outer, *taps, *inner, lane)
    item = grid_of_tiles(k, [n, cb], outer)
    hold_tile(k, anchor, stores, item, lane)
    row = taps[-2] if len(taps) > 1 else item
    reused = unrolled(k, taps[-1:], tile.places)
    operand(k, anchor, 0, row if reused else taps[-1])
    operand(k, anchor, 1, taps[-1])
    k.unroll(*inner, *(taps[-1:] if reused else []))
    if len(taps) > 1 and unrolled(k, taps[-2:], tile.places):
        k.unroll(taps[-2])
    k.sch.decompose_reduction(anchor, taps[0])
    for name in () if together else outs:
        movement(k, name)
