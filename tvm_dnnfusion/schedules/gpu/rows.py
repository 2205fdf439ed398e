"""Row reductions, softmax and normalisations: some work-items fold a row together.

    for r, l, c: part[r, l] = max(x[r, c * 32 + l])     for r, l: red[r] = max(part[r, l]) ...
->  for group in blockIdx.x: for row in threadIdx.y:
      for item in threadIdx.x: for c: for l in vectorized(4): part[...] = ...     in local memory
      for l: red = ...                                   by every work-item, in a register
      for c: for item in threadIdx.x: for l in vectorized(4): out[...] = ...

One barrier for each fold, where a tree over a wave takes one for each level. What is held between
stages (the powers of a softmax) stays in local memory where that is on the chip, and is computed
again where it is not: Mali's local memory is global memory.
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.schedules.cpu.rows import shared_rows
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product
from tvm_dnnfusion.schedules.gpu.maps import stage
from tvm_dnnfusion.schedules.gpu.tile import written

HELD_BYTES = 8192
"""Local memory that the rows of a group may take, so that four groups fit into 32 KiB at a time."""


def rows_block(k: GpuKernel) -> None:
    """Stages under one grid over rows, where they have rows in common."""
    names, outs = k.all(), k.names("out")
    count = shared_rows(k, names)
    items = _items(k)
    scalar = all(_is_scalar(k, n, count) for n in k.names("red")) if count else False
    if not scalar or len(outs) != 1 or names[-1] != outs[0]:
        for name in names:
            stage(k, name)
        return
    if not _keeps_rows(k):
        for name in k.names("hold"):
            k.sch.compute_inline(name)
        names = k.all()
    row = _grid(k, outs[0], count, items)
    for name in reversed(names[:-1]):
        k.sch.compute_at(name, row, preserve_unit_loops=True)
    for name in names:
        _inner(k, name, row, items)


def _items(k: GpuKernel) -> int:
    """Work-items of a row: those for which the partial folds were made, 1 without any."""
    columns = [k.extent(k.spatial(n)[0][-1]) for n in k.names("part")]
    return max(1, min(columns, default=1) // k.device.lanes("float32"))


def _is_scalar(k: GpuKernel, name: str, rows: int) -> bool:
    """Whether a stage is one number for each row."""
    return product([k.extent(x) for x in k.spatial(name)[0][rows:]]) == 1


def _keeps_rows(k: GpuKernel) -> bool:
    """Whether stages as long as a row may stay in local memory."""
    gpu = k.device.gpu
    return gpu is not None and gpu.local_on_chip and _row_bytes(k) <= HELD_BYTES


def _row_bytes(k: GpuKernel) -> int:
    return 4 * sum(k.extents(n)[-1] for n in k.names("hold"))


def _grid(k: GpuKernel, out: str, count: int, items: int) -> Any:
    """The loop over the rows of a group; groups are whole, since barriers stand in them."""
    loops = k.loops(out)[:count]
    fused = k.sch.fuse(*loops) if len(loops) > 1 else loops[0]
    rows, most = k.extent(fused), max(1, k.group() // items)
    if _row_bytes(k):
        most = max(1, min(most, HELD_BYTES // _row_bytes(k)))
    together = max(n for n in range(1, min(rows, most) + 1) if rows % n == 0)
    outer, row = k.sch.split(fused, [None, together])
    k.sch.bind(outer, "blockIdx.x")
    k.sch.bind(row, "threadIdx.y")
    return row


def _inner(k: GpuKernel, name: str, row: Any, items: int) -> None:
    """The loops of a stage below its row."""
    loops, at = k.loops(name), k.sch.get(row)
    depth = next(i for i, x in enumerate(loops) if k.sch.get(x).same_as(at)) + 1
    folded = k.reduction(name)
    spatial, folds = loops[depth : len(loops) - folded], loops[len(loops) - folded :]
    role = name.rstrip("0123456789_")
    if role == "red":
        k.sch.set_scope(name, 0, "local")
        if folds:
            k.sch.decompose_reduction(name, folds[0])
        return
    if role in ("part", "hold"):
        k.sch.set_scope(name, 0, "shared" if items > 1 else "local")
    column = k.sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    lanes = k.device.lanes("float32")
    vector = lanes if k.extent(column) % (items * lanes) == 0 else 1
    outer, item, lane = k.sch.split(column, [None, items, vector])
    if folds:
        k.sch.reorder(outer, item, *folds, lane)
    if vector > 1:
        k.sch.vectorize(lane)
    k.sch.bind(item, "threadIdx.x")
    if folds:
        copy = k.sch.get(k.sch.cache_write(name, 0, "local")).name_hint
        k.sch.reverse_compute_at(copy, item)
        written(k, copy, item)
        k.sch.decompose_reduction(name, folds[0])
