"""A convolution and the pooling that reads it, strip by strip (Many-to-Many after Many-to-Many).

    conv over the whole image -> mid -> pooling over the whole image
->  for n, channels, strip in parallel:
      mid[rows of the strip and its halo] = epilogue(conv)     # stays in the core's cache
      pool[strip] = fold(mid)

The rows of the halo between two strips are computed twice.
"""

from __future__ import annotations

from tvm_dnnfusion.codegen.params import divisors
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.conv import anchor_tiles, strip_rows
from tvm_dnnfusion.schedules.cpu.lanes import by_vectors, hold, unroll_taps
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.window import window_tiles


def convpool_block(k: Kernel) -> None:
    """conv -> epilogue -> pooling -> epilogue as one pass over strips of rows."""
    for name in k.names("pad", "pack"):
        movement(k, name)
    anchor, mid = k.names("anchor")[0], k.names("mid")[0]
    pool, outs = k.names("pool")[0], k.names("out")
    if k.extents(mid)[1:2] + k.extents(mid)[-1:] != _channels(k, anchor) or k.apart(pool, outs):
        _one_after_the_other(k, anchor, mid, pool, outs)
        return
    spatial, taps = k.spatial(pool)
    n, cb, h, *rest, lane = spatial
    v = k.tile().vectors
    work = product(k.extents(anchor))
    cbo, cbi = k.sch.split(cb, [None, v])
    # Long strips compute fewer rows twice.
    height = k.extent(h)
    wanted = strip_rows(k.device.cores, height, k.extent(cbo))
    rows = k.choices.at_most("strip_rows", wanted, lambda: divisors(height))
    ho, hi = k.sch.split(h, [None, rows])
    k.sch.reorder(n, cbo, ho, cbi, hi, *rest, *taps, lane)
    strip = k.parallel([n, cbo, ho], work)
    for out in outs:
        k.sch.reverse_compute_at(out, rest[-1])
        k.vectorize_under(out, rest[-1])
    k.sch.compute_at(mid, strip, preserve_unit_loops=True)
    _conv_strip(k, anchor, mid, len(spatial), v)
    k.sch.vectorize(lane)
    k.sch.decompose_reduction(pool, taps[0])


def _channels(k: Kernel, anchor: str) -> list[int]:
    """Channel blocks and lanes of the anchor."""
    spatial = k.spatial(anchor)[0]
    return [k.extent(spatial[1]), k.extent(spatial[-1])]


def _one_after_the_other(k: Kernel, anchor: str, mid: str, pool: str, outs: list[str]) -> None:
    """Channels that do not fill the lanes: the epilogue is in another order than the anchor."""
    copy = k.sch.get(k.sch.cache_write(anchor, 0, "local")).name_hint
    anchor_tiles(k, anchor, [copy], local=False)
    movement(k, mid)
    window_tiles(k, pool, outs)


def _conv_strip(k: Kernel, anchor: str, mid: str, rank: int, v: int) -> None:
    """The convolution of a strip, tile by tile, under the loops of its epilogue."""
    _, cb, *place, w, lane = k.loops(mid)[-rank:]
    # the anchor's width cuts into even tiles, that of the windows may not: only `mid` is cut short
    wo, wi = k.sch.split(w, [None, k.tile().columns])
    k.sch.reorder(*place, wo, wi, cb, lane)
    k.sch.compute_at(anchor, wo, preserve_unit_loops=True)
    k.vectorize(lane)
    k.sch.set_scope(anchor, 0, "local")
    loops, count = k.loops(anchor), k.reduction(anchor)
    folded = loops[len(loops) - count :]
    _, a_cb, *a_place, a_lane = loops[len(loops) - count - rank : len(loops) - count]
    k.sch.reorder(*folded, *a_place, a_cb, a_lane)
    k.sch.vectorize(a_lane)
    k.unroll(*a_place, a_cb)
    inner = by_vectors(k, folded)
    k.sch.decompose_reduction(anchor, folded[0])
    hold(k, anchor, inner)
    unroll_taps(k, folded)
