"""Row reductions, softmax and normalisations: some work-items fold a row together.

    for r, l, c: part[r, l] = max(x[r, c * 32 + l])     for r, l: red[r] = max(part[r, l]) ...
->  for group in blockIdx.x: for row in threadIdx.y:
      for item in threadIdx.x: for c: for l in vectorized(4): part[...] = ...     in local memory
      for l: red = ...                                   by every work-item, in a register
      for c: for item in threadIdx.x: for l in vectorized(4): out[...] = ...

One barrier for each fold, two where many work-items fold a row (`codegen/gpu_rows.py`); a tree over
a wave takes one for each level. What is held between stages (the powers of a softmax) stays in
local memory where that is on the chip, and is computed again where it is not: Mali's local memory
is global memory.
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.gpu_rows import GROUP, MOST_ITEMS
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product
from tvm_dnnfusion.schedules.gpu.maps import stage
from tvm_dnnfusion.schedules.gpu.tile import written

HELD_BYTES = 8192
"""Local memory that the rows of a group may take, so that four groups fit into 32 KiB at a time."""


def rows_block(k: GpuKernel) -> None:
    """Stages under one grid over rows, where they have rows in common."""
    names, outs = k.all(), k.names("out")
    count = _shared_rows(k, names)
    folds = k.names("red")
    scalar = bool(folds) and all(_is_scalar(k, n, count) for n in folds)
    if not scalar or not k.names("part") or len(outs) != 1 or names[-1] != outs[0]:
        for name in names:
            stage(k, name)
        return
    items = _items(k)
    if not _keeps_rows(k):
        for name in k.names("hold"):
            k.sch.compute_inline(name)
        names = k.all()
    row = _grid(k, outs[0], count, items)
    for name in reversed(names[:-1]):
        k.sch.compute_at(name, row, preserve_unit_loops=True)
    for name in names:
        _inner(k, name, row, items)


def _shared_rows(k: GpuKernel, names: list[str]) -> int:
    """How many leading loops all stages have in common; 0 also where there is a single row."""
    count = 0
    for column in zip(*([k.extent(x) for x in k.spatial(n)[0]] for n in names)):
        if len(set(column)) != 1:
            break
        count += 1
    return count


def _items(k: GpuKernel) -> int:
    """Work-items of a row: those for which the partial folds were made."""
    gpu = k.device.gpu
    most = min(MOST_ITEMS, gpu.work_group if gpu is not None else GROUP)
    columns = [k.extent(k.spatial(n)[0][-1]) for n in k.names("part")]
    items = max(1, min(columns) // k.device.lanes("float32"))
    while items > most:
        items //= 2
    return items


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
    loops = k.loops(out)
    if count == 0:  # a single row
        loops = [k.sch.add_unit_loop(loops[0] if loops else k.sch.get_sblock(out))]
    loops = loops[: max(1, count)]
    if len(k.loops(out)) == len(loops):  # a number for each row
        k.sch.add_unit_loop(k.sch.get_sblock(out))
    extents = [k.extent(x) for x in loops]
    fused = k.sch.fuse(*loops) if len(loops) > 1 else loops[0]
    rows, most = k.extent(fused), max(1, k.group() // items)
    if _row_bytes(k):
        most = max(1, min(most, HELD_BYTES // _row_bytes(k)))
    together = max(n for n in range(1, min(rows, most) + 1) if _cuts(n, extents))
    outer, row = k.sch.split(fused, [None, together])
    k.sch.bind(outer, "blockIdx.x")
    k.sch.bind(row, "threadIdx.y")
    return row


def _cuts(size: int, extents: list[int]) -> bool:
    """Whether blocks of so many rows are whole in the axes of the rows.

    Other blocks have indices that TVM cannot take for affine: (b % 7 * 16 + r) / 14.
    """
    for extent in reversed(extents):
        if extent % size == 0:
            return True
        if size % extent:
            return False
        size //= extent
    return False


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
    if role in ("part", "meet", "hold"):
        k.sch.set_scope(name, 0, "shared" if items > 1 else "local")
    column = _column(k, spatial)
    lanes = k.device.lanes("float32")
    vector = lanes if k.extent(column) % lanes == 0 else 1
    # vectors first, so that the condition of the last items is not one of their lanes
    vectors, lane = k.sch.split(column, [None, vector])
    outer, item = k.sch.split(vectors, [None, items])
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


def _column(k: GpuKernel, loops: list[Any]) -> Any:
    """The loops below a row as one; those of one step around them stay as they are."""
    long = [i for i, x in enumerate(loops) if k.extent(x) > 1] or [len(loops) - 1]
    inner = loops[long[0] : long[-1] + 1]
    return k.sch.fuse(*inner) if len(inner) > 1 else inner[0]
