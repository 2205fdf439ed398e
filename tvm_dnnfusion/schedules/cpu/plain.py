"""The schedule that fits every kernel: inline what can be, then vectors, and rows in parallel."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.s_tir.schedule import ScheduleError

from tvm_dnnfusion.schedules.cpu.common import Kernel, ScheduleFailed, product


def plain_block(k: Kernel) -> None:
    """Schedule a kernel of any form."""
    if not all(is_simple(k, name) for name in k.all()):
        return  # loops inside of blocks, sorting and the like: TVM's own form is kept
    for name in k.all():
        inline(k, name)
    for name in k.all():
        _stage(k, name)


def is_simple(k: Kernel, name: str) -> bool:
    """Whether a block is one store under one loop per axis."""
    block = k.sch.get(k.sch.get_sblock(name))
    kinds = [int(iv.iter_type) for iv in block.iter_vars]
    plain = isinstance(block.body, tirx.BufferStore) and all(t in (0, 2) for t in kinds)
    return plain and len(kinds) == len(k.loops(name))


def inline(k: Kernel, name: str) -> None:
    """Inline a stage into its readers, where TVM can and nothing is folded."""
    if k.reduction(name):
        return
    trial = k.sch.copy()
    try:
        trial.compute_inline(name)
    except ScheduleError:
        return  # an output, or read in a way that inlining cannot follow
    k.sch.compute_inline(name)


def _stage(k: Kernel, name: str) -> None:
    block = k.sch.get(k.sch.get_sblock(name))
    kinds = [int(iv.iter_type) for iv in block.iter_vars]
    loops = k.loops(name)
    if not loops:
        return
    try:
        total = product(k.extents(name))
    except ScheduleFailed:
        return  # symbolic extents
    spatial = [x for x, t in zip(loops, kinds) if t == 0]
    folded = [x for x, t in zip(loops, kinds) if t == 2]
    if not spatial:
        return
    _nest(k, spatial, folded, total)


def _nest(k: Kernel, spatial: list[Any], folded: list[Any], total: int) -> None:
    """Parallel outside, folds inside, a vector loop innermost where whole vectors fit."""
    inner = spatial[-1]
    lanes = next((n for n in (k.lanes(), k.lanes() // 2) if n > 1 and k.extent(inner) % n == 0), 0)
    if lanes:
        outer, inner = k.sch.split(inner, [None, lanes])
        k.sch.reorder(*spatial[:-1], outer, *folded, inner)
        k.sch.vectorize(inner)
        k.parallel([*spatial[:-1], outer], total)
    else:
        k.sch.reorder(*spatial, *folded)
        k.parallel(spatial, total)
