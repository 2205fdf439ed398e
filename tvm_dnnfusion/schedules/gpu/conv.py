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

from typing import Any

from tvm_dnnfusion.schedules.gpu.common import GpuKernel
from tvm_dnnfusion.schedules.gpu.maps import movement, stage
from tvm_dnnfusion.schedules.gpu.tile import (
    grid_of_tiles,
    hold_tile,
    laid_out_in_place,
    operand,
    unrolled,
)


def conv_block(k: GpuKernel) -> None:
    """A convolution with its epilogue."""
    anchor = k.names("anchor")[0]
    outs = k.names("out")
    own = [k.extent(x) for x in k.spatial(anchor)[0]]
    together = all(_follows(k.extents(o), own) for o in outs) and not k.apart(anchor, outs)
    convolve(k, anchor, outs if together else None)
    for name in () if together else outs:
        movement(k, name)


def convpool_block(k: GpuKernel) -> None:
    """A convolution, its epilogue, and the pooling of that: two kernels, one after the other."""
    anchor, mid = k.names("anchor")[0], k.names("mid")[0]
    own = [k.extent(x) for x in k.spatial(anchor)[0]]
    together = _follows(k.extents(mid), own) and not k.apart(anchor, [mid])
    convolve(k, anchor, [mid] if together else None)
    for name in (*(() if together else (mid,)), *k.names("pool"), *k.names("out")):
        stage(k, name)


def _follows(extents: list[int], anchor: list[int]) -> bool:
    """Whether an output has the anchor's axes; the anchor may compute some columns more."""
    return (
        len(extents) == len(anchor)
        and extents[:-2] == anchor[:-2]
        and extents[-1] == anchor[-1]
        and extents[-2] <= anchor[-2]
    )


def convolve(k: GpuKernel, anchor: str, outs: list[str] | None) -> None:
    """The anchor in tiles, with what reads it; into memory of its own where that is None."""
    for name in k.names("pack"):
        movement(k, name)
    for name in k.names("pad", "hold"):
        if not laid_out_in_place(k, anchor, name):
            stage(k, name)
    if outs is None:
        stores = [k.sch.get(k.sch.cache_write(anchor, 0, "local")).name_hint]
    else:
        stores = outs
        k.sch.set_scope(anchor, 0, "local")
    _tiles(k, anchor, stores)


def _tiles(k: GpuKernel, anchor: str, stores: list[str]) -> None:
    spatial, folded = k.spatial(anchor)
    n, cb, *place, lane = spatial
    ci = folded[-1]
    tile = k.tile()
    sizes = [1] * (len(place) - 2) + [tile.rows, tile.columns][-len(place) :]
    cbo, cbi = k.sch.split(cb, [None, tile.vectors])
    pairs = [k.sch.split(x, [None, t]) for x, t in zip(place, sizes)]
    outer, inner = [p[0] for p in pairs], [p[1] for p in pairs]
    k.sch.reorder(n, cbo, *outer, *folded, *inner, cbi, lane)
    item = grid_of_tiles(k, [n, cbo], outer)
    hold_tile(k, anchor, stores, item, lane)
    _operands(k, anchor, folded, tile.places * tile.vectors)
    k.unroll(*inner, cbi)
    if unrolled(k, [ci], tile.places * tile.vectors):
        k.unroll(ci)
    k.sch.decompose_reduction(anchor, folded[0])


def _operands(k: GpuKernel, anchor: str, folded: list[Any], accumulators: int) -> None:
    """Inputs above the last tap where that can be unrolled, else below it; weights innermost."""
    _, *taps, ci = folded
    reused = unrolled(k, [taps[-1], ci], accumulators)
    operand(k, anchor, 0, folded[-3] if reused else taps[-1])
    operand(k, anchor, 1, ci)
    if reused:
        k.unroll(taps[-1])
