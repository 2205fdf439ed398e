"""Row reductions, softmax and normalisations: all stages of a row while it is in the cache.

    for r, j: top[r] = max(...)     for r, j: hold[r, j] = exp(...)     for r, j: out[r, j] = ...
->  for r in parallel:
      part[l] = max over chunks of vectors; top = max over lanes; hold[j] = ...; out[r, j] = ...
"""

from __future__ import annotations

from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.maps import movement


def rows_block(k: Kernel) -> None:
    """Stages under one parallel loop over rows, where they have rows in common."""
    names = k.all()
    shared = shared_rows(k, names)
    outs = k.names("out")
    if shared == 0 or len(outs) != 1 or names[-1] != outs[0]:
        for name in names:
            _stage(k, name, parallel=True)
        return
    work = sum(product(k.extents(n)) for n in names)
    row = k.parallel(k.loops(outs[0])[:shared], work)
    for name in reversed(names[:-1]):
        k.sch.compute_at(name, row, preserve_unit_loops=True)  # folds of one element count too
    depth = 1
    for name in names:
        inner_loops(k, name, depth)


def shared_rows(k: Kernel, names: list[str]) -> int:
    """How many leading loops all stages have in common."""
    spatial = [[k.extent(x) for x in k.spatial(n)[0]] for n in names]
    count = 0
    for column in zip(*spatial):
        if len(set(column)) != 1:
            break
        count += 1
    # at least one loop stays inside, and single rows are no rows
    count = min(count, min(len(s) for s in spatial) - 1)
    return count if count > 0 and product(spatial[0][:count]) > 1 else 0


def _stage(k: Kernel, name: str, parallel: bool) -> None:
    """One stage by itself."""
    if k.reduction(name) == 0:
        movement(k, name)
        return
    spatial, _ = k.spatial(name)
    if len(spatial) > 1 and parallel:
        k.parallel(spatial[:-1], product(k.extents(name)))
        inner_loops(k, name, 1)
    else:
        inner_loops(k, name, 0)


def inner_loops(k: Kernel, name: str, depth: int) -> None:
    """The loops of a stage below the row loop: a vector loop innermost."""
    loops, folded_count = k.loops(name)[depth:], k.reduction(name)
    if not loops:
        return
    if folded_count == 0:
        k.vectorize(loops[-1])
        return
    spatial, folded = loops[: len(loops) - folded_count], loops[len(loops) - folded_count :]
    if spatial and k.extent(spatial[-1]) in (4, 8, 16):
        k.sch.reorder(*folded, spatial[-1])
        k.sch.vectorize(spatial[-1])
    elif product([k.extent(x) for x in folded]) <= 16:
        k.unroll(*folded)
    k.sch.decompose_reduction(name, folded[0])
