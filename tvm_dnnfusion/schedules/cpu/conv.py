"""Convolutions: register tiles of some columns by one or two vectors of output channels.

Before, the anchor stage ([N, C/f, H, W, f] over [c, kh, kw, ci]) and its epilogue:

    for n, cb, h, w, f, c, kh, kw, ci: anchor[n, cb, h, w, f] += x[...] * w[...]
    for n, cb, h, w, f: out[n, cb, h, w, f] = relu(anchor[n, cb, h, w, f] + bias[...])

After:

    for n_cb_h in parallel:
      for wo:
        for c, kh, kw, ci: for wi, cv in unrolled: for f in vectorized: tile[...] += x * w
        for cv, wi: for f in vectorized: out[...] = relu(tile[...] + bias[...])
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.maps import movement


def conv_block(k: Kernel) -> None:
    """A convolution with its epilogue; padding and prologue are stages of their own."""
    for name in k.names("pad", "pack"):
        movement(k, name)
    anchor = k.names("anchor")[0]
    outs = k.names("out")
    own = [k.extent(x) for x in k.spatial(anchor)[0]]
    if all(_follows(k.extents(o), own) for o in outs) and not k.apart(anchor, outs):
        anchor_tiles(k, anchor, outs)
        return
    copy = k.sch.cache_write(anchor, 0, "local")
    anchor_tiles(k, anchor, [k.sch.get(copy).name_hint], local=False)
    for name in outs:
        movement(k, name)


def _follows(extents: list[int], anchor: list[int]) -> bool:
    """Whether an output has the anchor's axes; the anchor may compute some columns more."""
    return (
        len(extents) == len(anchor)
        and extents[:-2] == anchor[:-2]
        and extents[-1] == anchor[-1]
        and extents[-2] <= anchor[-2] <= extents[-2] * 3 // 2
    )


def anchor_tiles(k: Kernel, anchor: str, outs: list[str], local: bool = True) -> None:
    """Cut the anchor into register tiles, with what reads it (`outs`) at each tile."""
    spatial, folded = k.spatial(anchor)
    n, cb, *place, lane = spatial
    tile = k.tile()
    work = product([k.extent(x) for x in (*spatial, *folded)])
    sizes = [1] * (len(place) - 2) + [tile.rows, tile.columns][-len(place) :]
    cbo, cbi = k.sch.split(cb, [None, tile.vectors])
    pairs = [k.sch.split(x, [None, t]) for x, t in zip(place, sizes)]
    outer, inner = [p[0] for p in pairs], [p[1] for p in pairs]
    k.sch.reorder(n, cbo, *outer, *folded, *inner, cbi, lane)
    # where channel blocks and rows do not feed the cores, the columns share them too
    lead = [n, cbo, *outer[:-1]]
    few = product([k.extent(x) for x in lead]) < 2 * k.device.cores
    k.parallel([*lead, outer[-1]] if few else lead, work)
    at = k.loops(anchor)[0] if few else outer[-1]
    _register_tile(k, anchor, outs, at, folded, (*inner, cbi, lane), local)


def _register_tile(
    k: Kernel,
    anchor: str,
    outs: list[str],
    at: Any,
    folded: list[Any],
    tile: tuple[Any, ...],
    local: bool,
) -> None:
    *places, cbi, lane = tile
    if local:
        k.sch.set_scope(anchor, 0, "local")
    for out in outs:
        k.sch.reverse_compute_at(out, at)
        k.vectorize_under(out, at)
    k.sch.vectorize(lane)
    k.unroll(*places, cbi)
    k.sch.decompose_reduction(anchor, folded[0])
