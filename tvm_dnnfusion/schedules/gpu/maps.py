"""Blocks without a heavy op: a work-item computes one vector of the output.

    for i in range(n): for j in range(64): out[i, j] = f(...)
->  for b in blockIdx.x: for t in threadIdx.x:
      for l in vectorized(4): out[...] = f(...)

Layout changes and joined tensors whose vectors fall apart are computed element by element.
"""

from __future__ import annotations

from tvm_dnnfusion.schedules.gpu.common import GpuKernel, product


def movement(k: GpuKernel, block: str) -> None:
    """Schedule one elementwise stage."""
    loops = k.loops(block)
    if not loops:
        k.sch.bind(k.sch.add_unit_loop(k.sch.get_sblock(block)), "threadIdx.x")
        return
    lanes = k.lanes_of(block)
    if lanes > 1:
        outer, inner = k.sch.split(loops[-1], [None, lanes])
        k.sch.vectorize(inner)
        loops[-1] = outer
    k.grid(loops)


def fold(k: GpuKernel, block: str) -> None:
    """Schedule one stage that folds axes: a work-item folds into a private accumulator.

        for i, r: out[i] += f(i, r)
    ->  for i in work-items: acc = 0; for r: acc += f(i, r); out[i] = acc
    """
    spatial, folded = k.spatial(block)
    if not spatial:
        spatial = [k.sch.add_unit_loop(k.sch.get_sblock(block))]
    lanes = k.lanes_along(block, len(spatial) - 1) if k.loops(block)[: len(spatial)] else 1
    tail = []
    if lanes > 1:
        spatial[-1], inner = k.sch.split(spatial[-1], [None, lanes])
        tail = [inner]
    k.sch.reorder(*spatial, *folded, *tail)
    item = k.grid(spatial)
    copy = k.sch.cache_write(block, 0, "local")
    k.sch.reverse_compute_at(copy, item)
    if lanes > 1:
        k.sch.vectorize(k.loops(k.sch.get(copy).name_hint)[-1])
    if tail:
        k.sch.vectorize(tail[0])
    if product([k.extent(x) for x in folded]) <= 16:
        k.unroll(*folded)
    k.sch.decompose_reduction(block, folded[0])


def stage(k: GpuKernel, block: str) -> None:
    """A stage by itself."""
    (fold if k.reduction(block) else movement)(k, block)


def map_block(k: GpuKernel) -> None:
    """Every stage of a block as a kernel of its own."""
    for name in k.all():
        stage(k, name)
