"""Attention: a work-group takes some rows of queries of one head through both products.

    for b_h_so in blockIdx.x:
      for tiles in threadIdx.x: tile of q k^T in registers, * scale + mask -> rows, in local memory
      for vectors in threadIdx.x: max over a part of a row;   for rows in threadIdx.x: max of those
      for vectors in threadIdx.x: e^(row - max), in local memory;   their sums in the same way
      for tiles in threadIdx.x: tile of power v in registers, / sum, written where out has it

Scores never leave the chip, and keys and values are read once for the rows of a tile. Where keys
are too many for local memory to hold a few rows of them, each stage is a kernel of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.codegen.gpu_tiles import shared_tiles
from tvm_dnnfusion.codegen.product_tiles import product_tile
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product
from tvm_dnnfusion.schedules.gpu.maps import movement, stage
from tvm_dnnfusion.schedules.gpu.tile import below, operand, written

LOCAL_BYTES = 16384
"""Local memory of a group at which two of them fit into 32 KiB at a time."""

ROWS = (16, 8, 4)
"""Rows of a group: with fewer, keys and values would be read more often than scores from memory."""


@dataclass(frozen=True)
class Group:
    """The loop over groups, and the work-items of each."""

    loop: Any
    items: int


def attention_block(k: GpuKernel) -> None:
    """Scores, softmax and weighted values in one kernel, beside that which transposes the keys."""
    scores, values = k.names("anchor")
    outs = k.names("out")
    for name in k.names("query", "key", "value"):
        movement(k, name)
    own = _own(k, values)
    if len(outs) == 1 and _follows(k.extents(outs[0]), own) and not k.apart(values, outs):
        driver, later = outs[0], []
        k.sch.compute_inline("mid0")
    else:
        driver, later = "mid0", outs
    inner = k.names("hold", "part", "red")
    rows = _rows(k, driver, inner)
    first, second, items = _tiles(k, scores, values, rows)
    group = Group(_groups(k, driver, rows), items) if rows else None
    _product(k, values, driver, group, second)
    if group is not None:
        for name in reversed(inner):
            k.sch.compute_at(name, group.loop, preserve_unit_loops=True)
            k.sch.set_scope(name, 0, "shared")
    _product(k, scores, inner[0], group, first)
    for name in inner[1:]:
        _softmax(k, name, group)
    for name in later:
        stage(k, name)


def _follows(out: list[int], own: list[int]) -> bool:
    """Whether an output has the rows and columns of the values, in that order."""
    return out == own or (len(out) == 4 and out[:3] == own[:3] and out[3] <= own[3] * own[4])


def _own(k: GpuKernel, name: str) -> list[int]:
    """The extents of what a stage makes, while it is not scheduled."""
    return [k.extent(x) for x in k.spatial(name)[0]]


def _rows(k: GpuKernel, driver: str, inner: list[str]) -> int:
    """Rows of a group; 0 where even the fewest of them are too long for local memory."""
    gpu = k.device.gpu
    batch, heads, count = k.extents(driver)[:3]
    row_bytes = 4 * sum(product(_own(k, n)[3:]) for n in inner)
    for rows in ROWS:
        last = rows == ROWS[-1]
        fewer = not last and (rows >= 2 * count or batch * heads * count < rows * k.device.cores)
        there = gpu.local_bytes if gpu is not None else LOCAL_BYTES
        limit = there if last else min(LOCAL_BYTES, there)
        if not fewer and rows * row_bytes <= limit:
            return min(rows, count)
    return 0


def _tiles(
    k: GpuKernel, scores: str, values: str, rows: int
) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Tiles of both products, and the work-items of a group that have whole ones."""
    batch, heads, count, keys, _ = _own(k, scores)
    columns = _own(k, values)[3]
    if not rows:
        first, second = (
            product_tile(k.device, count, n, batch * heads, ragged=False) for n in (keys, columns)
        )
        return first[:2], second[:2], k.group()
    steps = [k.extent(k.spatial(n)[1][0]) for n in (scores, values)]
    shared = ((rows, keys, steps[0]), (rows, columns, steps[1]))
    return shared_tiles(k.device, shared, k.group())


def _groups(k: GpuKernel, driver: str, rows: int) -> Any:
    """The loop over groups."""
    b, h, s, *_ = k.loops(driver)
    so, _ = k.sch.split(s, [None, rows])
    group = k.sch.fuse(b, h, so)
    k.sch.bind(group, "blockIdx.x")
    return group


def _below(k: GpuKernel, name: str, group: Group | None) -> list[Any]:
    return k.loops(name) if group is None else below(k, name, group.loop)


def _items(k: GpuKernel, loops: list[Any], group: Group | None) -> Any:
    """Work-items over loops: those of the group in turns, or a grid of its own."""
    if group is None:
        return k.grid(loops)
    fused = k.sch.fuse(*loops) if len(loops) > 1 else loops[0]
    _, item = k.sch.split(fused, [None, group.items])
    k.sch.bind(item, "threadIdx.x")
    return item


def _axes(k: GpuKernel, name: str) -> int:
    """The axes of what a stage makes."""
    return len(k.sch.get(k.sch.get_sblock(name)).iter_vars) - k.reduction(name)


def _product(
    k: GpuKernel, anchor: str, reader: str, group: Group | None, tile: tuple[int, int]
) -> None:
    """A product in register tiles under the stage that reads it, which ends each tile."""
    blocks, lanes = _own(k, anchor)[-2:]
    loops = _below(k, reader, group)
    if _axes(k, reader) == 4:  # of the last axis, which may end within the last vector
        loops[-1:] = k.sch.split(loops[-1], [blocks, lanes])
    *lead, row, block, lane = loops
    height, vectors = tile
    ro, ri = k.sch.split(row, [None, height])
    bo, bi = k.sch.split(block, [None, vectors])
    k.sch.reorder(*lead, ro, bo, ri, bi, lane)
    item = _items(k, [*lead, ro, bo], group)
    k.sch.compute_at(anchor, item, preserve_unit_loops=True)
    k.sch.set_scope(anchor, 0, "local")
    whole = k.lanes_along(reader, _axes(k, reader) - 1) == lanes
    (k.sch.vectorize if whole else k.sch.unroll)(lane)
    k.unroll(ri, bi)
    _fold(k, anchor, item)


def _fold(k: GpuKernel, anchor: str, item: Any) -> None:
    """The loops of a product in a work-item, its operands in registers."""
    *places, lane, depth = below(k, anchor, item)
    step = next(n for n in (4, 2, 1) if k.extent(depth) % n == 0)
    outer, inner = k.sch.split(depth, [None, step])
    k.sch.reorder(outer, inner, *places, lane)
    k.sch.vectorize(lane)
    operand(k, anchor, 0, outer)
    operand(k, anchor, 1, inner)
    k.unroll(inner, *places)
    k.sch.decompose_reduction(anchor, outer)


def _softmax(k: GpuKernel, name: str, group: Group | None) -> None:
    """A stage of the softmax: parts of rows, folds of those, powers."""
    loops, count = _below(k, name, group), k.reduction(name)
    spatial, folded = loops[: len(loops) - count], loops[len(loops) - count :]
    lanes = k.lanes_along(name, _axes(k, name) - 1)
    tail = []
    if lanes > 1:
        spatial[-1], lane = k.sch.split(spatial[-1], [None, lanes])
        tail = [lane]
    k.sch.reorder(*spatial, *folded, *tail)
    whole = group is None or product([k.extent(x) for x in spatial]) % group.items == 0
    item = _items(k, spatial, group)
    if folded and whole:  # a copy would lose the condition of items that have nothing to do
        copy = k.sch.get(k.sch.cache_write(name, 0, "local")).name_hint
        k.sch.reverse_compute_at(copy, item)
        written(k, copy, item)
    for loop in tail:
        k.sch.vectorize(loop)
    if folded:
        k.sch.decompose_reduction(name, folded[0])
