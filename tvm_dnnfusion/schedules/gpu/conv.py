"""Convolutions: a work-item computes some places by some vectors of output channels.

Before, the anchor stage ([N, C/f, H, W, f] over [c, kh, kw, ci]) and its epilogue:

    for n, cb, h, w, f, c, kh, kw, ci: anchor[n, cb, h, w, f] += x[...] * w[...]
    for n, cb, h, w, f: out[n, cb, h, w, f] = relu(anchor[n, cb, h, w, f] + bias[...])

After:

    for n_cb in blockIdx.y, threadIdx.y: for h_w in blockIdx.x, threadIdx.x:
      for c, kh:
        for rows and columns under the window, in registers: for f in vectorized: xs = x or 0
        for kw, ci in unrolled:
          for cv, in registers: for f in vectorized: ws = w
          for h, w, cv in unrolled: for f in vectorized: tile[...] += xs * ws
      for h, w, cv in unrolled: for f in vectorized: out[...] = relu(tile[...] + bias[...])

Borders are laid out in registers, not in memory; an input element that several taps of a row meet
is loaded once. Local memory is not used: a group's inputs are read through the first cache, and the
barriers cost more than they save (Mali has no local memory of its own at all).
"""

from __future__ import annotations

from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product
from tvm_dnnfusion.schedules.gpu.maps import movement
from tvm_dnnfusion.schedules.gpu.split import parts_of, split_product
from tvm_dnnfusion.schedules.gpu.tile import (
    cut,
    grid_of_tiles,
    hold_tile,
    into_registers,
    operand,
    unrolled,
)
from tvm_dnnfusion.schedules.gpu.window import pool, same_places


def conv_block(k: GpuKernel) -> None:
    """A convolution with its epilogue."""
    anchor = k.names("anchor")[0]
    outs = k.names("out")
    together = same_places(k, anchor, outs)
    convolve(k, anchor, outs if together else None)
    for name in () if together else outs:
        movement(k, name)


def convpool_block(k: GpuKernel) -> None:
    """A convolution, its epilogue, and the pooling of that: two kernels, one after the other."""
    anchor, mid = k.names("anchor")[0], k.names("mid")[0]
    together = same_places(k, anchor, [mid])
    convolve(k, anchor, [mid] if together else None)
    if not together:
        movement(k, mid)
    pool(k, k.names("pool")[0], k.names("out"))


def convolve(k: GpuKernel, anchor: str, outs: list[str] | None) -> None:
    """The anchor in tiles, with what reads it; into memory of its own where that is None."""
    stores = into_registers(k, anchor, outs)
    spatial, folded = k.spatial(anchor)
    n, cb, *place, lane = spatial
    *_, tap, ci = folded
    tile = k.tile()
    items = product([k.extent(x) for x in spatial[:-1]])
    parts = parts_of(k, items, k.extent(folded[0]), k.extent(lane))
    if parts > 1 and tile.places * tile.vectors == 1:
        part, _ = k.sch.split(folded[0], [parts, None])
        split_product(k, anchor, stores, 1, part)
        return
    cbo, cbi = k.sch.split(cb, [None, tile.vectors])
    outer, inner = cut(k, place, tile)
    k.sch.reorder(n, cbo, *outer, *folded, *inner, cbi, lane)
    item = grid_of_tiles(k, [n, cbo], outer)
    hold_tile(k, anchor, stores, item, lane)
    accumulators = tile.places * tile.vectors
    # an input that several taps of a row meet is loaded once, where those can be written out
    reused = unrolled(k, [tap, ci], accumulators)
    operand(k, anchor, 0, folded[-3] if reused else tap)
    operand(k, anchor, 1, ci)
    k.unroll(*inner, cbi, *([tap] if reused else []))
    if unrolled(k, [ci], accumulators):
        k.unroll(ci)
    k.sch.decompose_reduction(anchor, folded[0])
