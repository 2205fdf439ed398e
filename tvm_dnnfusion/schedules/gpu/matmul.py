"""Matrix products: a work-item computes some rows by some vectors of columns.

    for b, m, nb, f, k: anchor[b, m, nb, f] += a[b, m, k] * w[b, k, nb, f]
->  for b_mo in blockIdx.y, threadIdx.y: for no in blockIdx.x, threadIdx.x:
      for ko:
        for m, in registers: for ki in vectorized(4): rows[m, ki] = a
        for ki in unrolled:
          for nv, in registers: for f in vectorized: ws = w
          for m, nv in unrolled: for f in vectorized: tile[...] += rows * ws
      then the epilogue of the tile

The last rows are a shorter tile where the tiles do not divide them: `schedules/cpu/ragged.py`. Few
rows by a long fold: `split.py`.
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.product_tiles import product_tile
from tvm_dnnfusion.schedules.cpu.ragged import mark
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product
from tvm_dnnfusion.schedules.gpu.maps import movement
from tvm_dnnfusion.schedules.gpu.split import parts_of, split_product
from tvm_dnnfusion.schedules.gpu.tile import grid_of_tiles, hold_tile, into_registers, operand


def matmul_block(k: GpuKernel) -> None:
    """A product with its epilogue."""
    anchor, outs = k.names("anchor")[0], k.names("out")
    spatial, (depth,) = k.spatial(anchor)
    *batch, m, nb, lane = spatial
    rows, blocks, lanes = k.extent(m), k.extent(nb), k.extent(lane)
    lead = [k.extent(x) for x in batch]
    best = product_tile(k.device, rows, blocks, product(lead))[:2]
    height, v = k.choices.pick("tile", best, tuple, lambda t: blocks % t[1] == 0)
    matched = all(_matches(k.extents(o), [*lead, rows], blocks, lanes, v) for o in outs)
    direct = matched and not k.apart(anchor, outs)
    stores = into_registers(k, anchor, outs if direct else None)
    step = next(n for n in (lanes, 4, 2, 1) if k.extent(depth) % n == 0)
    ko, ki = k.sch.split(depth, [None, step])
    items = product(lead) * -(-rows // height) * blocks // v
    parts = parts_of(k, items, k.extent(ko), lanes) if height * v == 1 else 1
    if parts > 1:
        part, _ = k.sch.split(ko, [parts, None])
        split_product(k, anchor, stores, len(batch) + 1, part)
    else:
        _tile(k, anchor, stores, spatial, (ko, ki), (height, v))
    for name in () if direct else outs:
        movement(k, name)


def _tile(
    k: GpuKernel, anchor: str, stores: list[str], spatial: list[Any], depth: tuple[Any, Any],
    tile: tuple[int, int],
) -> None:  # fmt: skip
    *batch, m, nb, lane = spatial
    (ko, ki), (height, v) = depth, tile
    rows = k.extent(m)
    mo, mi = k.sch.split(m, [None, height])
    no, ni = k.sch.split(nb, [None, v])
    k.sch.reorder(*batch, mo, no, ko, ki, mi, ni, lane)
    item = grid_of_tiles(k, [*batch, mo], [no])
    mark(k.sch, item, rows, height)
    hold_tile(k, anchor, stores, item, lane)
    operand(k, anchor, 0, ko)
    operand(k, anchor, 1, ki)
    k.unroll(ki, mi, ni)
    k.sch.decompose_reduction(anchor, ko)


def _matches(extents: list[int], lead: list[int], blocks: int, lanes: int, v: int) -> bool:
    """Whether an output has the product's own rows and columns, in that order."""
    if extents == [*lead, blocks, lanes]:
        return True
    return extents[:-1] == lead and (blocks - v) * lanes < extents[-1] <= blocks * lanes
