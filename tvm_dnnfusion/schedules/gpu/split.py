"""Products with few outputs: the fold is cut into parts, which work-items fold side by side.

A classifier's product has one row: 250 vectors of columns keep no GPU busy, and each work-item
would wait for its loads one after the other.

    for n, f, k: anchor[n, f] += a[k] * w[k, n, f]

Where local memory is a memory of its own (Adreno), a group's parts meet there:

->  for no in blockIdx.x:
      for s in threadIdx.y: for ni in threadIdx.x:
        for ki: for f in vectorized: tile[f] += a * w;    part[s, ni, f] = tile[f]    # local memory
      barrier
      for ni in threadIdx.x: for f in threadIdx.y: for s: sum += part[s, ni, f];   out = sum + bias

Where it is not (Mali), a barrier and a copy would gain nothing: the parts meet in global memory, by
a second kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm_dnnfusion.codegen.gpu_tiles import work_items
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, group_size
from tvm_dnnfusion.schedules.gpu.tile import below, grid_of_tiles, hold_tile, operand

LEAST_STEPS = 16
"""Steps of a part: fewer would not pay for writing and reading its result."""

SPLIT_WAVES = 16
"""How many times the fewest work-items a split product should have: each has a single sum, whose
steps wait for each other."""

MOST_PARTS = 16
"""Parts that a single work-item can still sum up without being the slow one itself."""


def parts_of(k: GpuKernel, items: int, steps: int, lanes: int) -> int:
    """Into how many parts a fold of so many steps is cut where there are so many work-items.

    1 where they are enough, or the fold is short. In local memory there are as many parts as lanes:
    a work-item that has folded a part sums up one lane.
    """
    missing = SPLIT_WAVES * work_items(k.device) // items
    most = min(MOST_PARTS, steps // LEAST_STEPS)
    good = [p for p in range(1, most + 1) if steps % p == 0 and p <= missing]
    best = max(good, default=1)
    return lanes if _meets_on_chip(k) and steps % lanes == 0 and best >= lanes else best


def _meets_on_chip(k: GpuKernel) -> bool:
    return k.device.gpu is not None and k.device.gpu.local_on_chip


def split_product(k: GpuKernel, anchor: str, stores: Sequence[str], axis: int, part: Any) -> None:
    """A product one of whose folds has been cut into parts, `part` being the loop over them.

    The anchor's last axis are the lanes, its axis number `axis` the blocks of them; `stores` are
    the stages that end it.
    """
    parts = k.extent(part)
    stage = k.sch.get(k.sch.rfactor(part, 0)).name_hint
    copy = k.sch.get(k.sch.cache_write(stage, 0, "local")).name_hint
    if _meets_on_chip(k) and parts == k.extent(k.loops(copy)[-1]):
        _in_local_memory(k, anchor, stores, axis, stage, copy)
    else:
        _in_global_memory(k, anchor, stores, axis, stage, copy)


def _in_global_memory(
    k: GpuKernel, anchor: str, stores: Sequence[str], axis: int, stage: str, copy: str
) -> None:
    part, *spatial, lane = k.loops(copy)
    blocks = spatial.pop(axis)
    k.sch.reorder(part, *spatial, blocks, lane)
    item = grid_of_tiles(k, [part, *spatial], [blocks])
    k.sch.vectorize(lane)
    _fold(k, stage, item)
    (*spatial, lane), (sums,) = k.spatial(anchor)
    blocks = spatial.pop(axis)
    k.sch.reorder(*spatial, blocks, sums, lane)
    item = k.grid([*spatial, blocks])
    hold_tile(k, anchor, stores, item, lane)
    k.sch.unroll(sums)
    k.sch.decompose_reduction(anchor, sums)


def _in_local_memory(
    k: GpuKernel, anchor: str, stores: Sequence[str], axis: int, stage: str, copy: str
) -> None:
    (*spatial, lane), (sums,) = k.spatial(anchor)
    blocks = spatial.pop(axis)
    across = group_size(k.extent(blocks), max(1, k.group() // k.extent(lane)))
    outer, inner = k.sch.split(blocks, [None, across])
    k.sch.reorder(*spatial, outer, inner, lane, sums)
    group = k.sch.fuse(*spatial, outer)
    for loop, tag in ((group, "blockIdx.x"), (inner, "threadIdx.x"), (lane, "threadIdx.y")):
        k.sch.bind(loop, tag)
    for name in stores:
        k.sch.reverse_compute_at(name, lane)
    k.sch.set_scope(copy, 0, "shared")
    k.sch.compute_at(copy, group, preserve_unit_loops=True)
    part, *units, lanes = below(k, copy, group)
    blocks = units.pop(axis)
    k.sch.reorder(part, *units, blocks, lanes)
    k.sch.bind(part, "threadIdx.y")
    k.sch.bind(blocks, "threadIdx.x")
    k.sch.vectorize(lanes)
    _fold(k, stage, blocks)
    k.sch.unroll(sums)
    k.sch.decompose_reduction(anchor, sums)


def _fold(k: GpuKernel, stage: str, item: Any) -> None:
    """A work-item folds its part: inputs in vectors of the innermost fold, weights one by one."""
    k.sch.compute_at(stage, item, preserve_unit_loops=True)
    loops, count = below(k, stage, item), k.reduction(stage)
    places, folded = loops[: len(loops) - count], loops[len(loops) - count :]
    lane = places.pop()
    k.sch.reorder(*places, *folded, lane)
    k.sch.vectorize(lane)
    operand(k, stage, 0, folded[-2])
    operand(k, stage, 1, folded[-1])
    k.sch.unroll(folded[-1])
    k.sch.decompose_reduction(stage, folded[0])
