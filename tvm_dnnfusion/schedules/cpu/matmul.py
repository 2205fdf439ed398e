"""Matrix products: register tiles of some rows by some vectors of columns.

    for b, m, nb, f, k: anchor[b, m, nb, f] += a[b, m, k] * w[b, nb, k, f]
->  for b_no in parallel: for mo: for k: for mi, nv in unrolled: for f in vectorized: tile += a * w
                                  then the epilogue of the tile

The last rows are a shorter tile where the tiles do not divide them: `ragged.py`.
"""

from __future__ import annotations

from tvm_dnnfusion.codegen.product_tiles import product_tile
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.lanes import by_vectors, hold
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.ragged import mark


def matmul_block(k: Kernel) -> None:
    """A product with its epilogue."""
    for name in k.names("pad", "pack", "hold"):
        movement(k, name)
    anchor, outs = k.names("anchor")[0], k.names("out")
    spatial, folded = k.spatial(anchor)
    *batch, m, nb, lane = spatial
    rows, blocks, lanes = k.extent(m), k.extent(nb), k.extent(lane)
    lead = [k.extent(x) for x in batch]
    height, v = _tile_of(k, rows, blocks)
    matched = all(_matches(k.extents(o), [*lead, rows], blocks, lanes, v) for o in outs)
    direct = matched and not k.apart(anchor, outs)
    if not direct:
        copy = k.sch.cache_write(anchor, 0, "local")
        stores = [k.sch.get(copy).name_hint]
    else:
        stores = outs
    work = product(k.extents(anchor))
    mo, mi = k.sch.split(m, [None, height])
    no, ni = k.sch.split(nb, [None, v])
    folded = k.folds(folded)
    k.sch.reorder(*batch, no, mo, *folded, mi, ni, lane)
    tasks = product(lead) * k.extent(no)
    few = k.choices.pick("share_columns", tasks < 2 * k.device.cores, lambda: (False, True))
    k.parallel([*batch, no, mo] if few else [*batch, no], work)
    at = k.loops(anchor)[0] if few else mo
    mark(k.sch, at, rows, height)
    _tile(k, anchor, stores, at, folded, (mi, ni, lane), direct)
    if not direct:
        for name in outs:
            movement(k, name)


def _tile_of(k: Kernel, rows: int, blocks: int) -> tuple[int, int]:
    """Rows and vectors of a tile: as the kernel was made for, where that says so."""
    if k.attr("dnnfusion.tile") is not None:
        return k.tile().columns, k.tile().vectors
    best = product_tile(k.device, rows, blocks)[:2]
    return k.choices.pick("tile", best, tuple, lambda t: blocks % t[1] == 0)


def _matches(extents: list[int], lead: list[int], blocks: int, lanes: int, v: int) -> bool:
    """Whether an output has the product's own rows and columns, in that order."""
    if extents == [*lead, blocks, lanes]:
        return True
    return extents[:-1] == lead and (blocks - v) * lanes < extents[-1] <= blocks * lanes


def _tile(k, anchor, stores, at, folded, tile, direct):  # type: ignore[no-untyped-def]
    mi, ni, lane = tile
    if direct:
        k.sch.set_scope(anchor, 0, "local")
    for out in stores:
        k.sch.reverse_compute_at(out, at)
        k.vectorize_under(out, at)
        k.unroll_under(out, at)
    k.sch.vectorize(lane)
    k.unroll(mi, ni)
    inner = by_vectors(k, folded)
    k.sch.decompose_reduction(anchor, folded[0])
    hold(k, anchor, inner)
