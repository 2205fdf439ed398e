"""Blocks without a heavy op: every output in one pass over its memory.

    for i in range(n): for j in range(64): out[i, j] = f(...)
->  for i in parallel(n):
      for jo in range(4): for ji in vectorized(16): out[i, jo * 16 + ji] = f(...)
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.tiles import by_lane
from tvm_dnnfusion.schedules.cpu.borders import PEEL, conditions_of
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.crossed import crossed, tile_length
from tvm_dnnfusion.schedules.cpu.phases import cut_rows, cuts
from tvm_dnnfusion.schedules.cpu.trees import uses

# Smaller stages stay in the first cache.
MIN_CROSSED = 1 << 13

# Elements of the shortest vectors at a border, and the vectors of a row of which two are at one.
EDGE = 4
FEW_EDGES = 8

# Rows that a core takes at the least, so that none waits long for another.
ROWS_PER_CORE = 4


def movement(k: Kernel, block: str) -> None:
    """Schedule one elementwise stage: vector loop innermost, the rest in parallel."""
    loops, _ = k.spatial(block)
    if not loops:
        return
    extents = [k.extent(x) for x in loops]
    total = product(extents)
    if len(loops) == 1:
        n, lanes = extents[0], k.lanes()
        if n % lanes == 0 and n > lanes:
            outer, inner = k.sch.split(loops[0], [None, lanes])
            k.sch.vectorize(inner)
            k.parallel([outer], total)
        return
    if cuts(k, block):
        k.parallel(loops[:-2], total)
        cut_rows(k, block)
        return
    if _tiled(k, block, loops, extents):
        return
    k.parallel(loops[: _shared(k, extents)], total)
    rows_of(k, block)


def rows_of(k: Kernel, block: str) -> None:
    """The rows of a stage in vectors. Those of a border have code of their own (`borders.py`)."""
    row, whole = k.loops(block)[-1], k.lanes()
    if cuts(k, block):
        cut_rows(k, block)
        return
    if not _bordered(k, block):
        k.vectorize(row)
        return
    # vectors at a border are made element by element: they shall be few
    lanes = next(
        n for n in (whole, whole // 2, EDGE) if k.extent(row) >= FEW_EDGES * n or n <= EDGE
    )
    outer, inner = k.sch.split(row, [None, lanes])
    k.sch.vectorize(inner)
    k.sch.annotate(outer, PEEL, FEW_EDGES)


def _bordered(k: Kernel, block: str) -> bool:
    """Whether a stage lays out rows that a border begins or ends."""
    node = k.sch.get(k.sch.get_sblock(block))
    found = conditions_of(node.body) if block.startswith("pad") else []
    return any(uses(c, [node.iter_vars[-1].var]) for c in found)


def _shared(k: Kernel, extents: list[int]) -> int:
    """How many outer loops the cores share as one.

    Short vectors are over before the quotients are that one loop makes of its number: the loop over
    a row stays one by itself, where those outside it feed the cores.
    """
    rows = len(extents) - 2
    enough = rows > 0 and product(extents[:rows]) >= ROWS_PER_CORE * k.device.cores
    return rows if by_lane(k.device) and enough else len(extents) - 1


def _tiled(k: Kernel, block: str, loops: list[Any], extents: list[int]) -> bool:
    """A transposition in tiles; False where the stage is none."""
    axis = crossed(k.sch.get(k.sch.get_sblock(block)))
    if axis is None or product(extents) < MIN_CROSSED:
        return False
    sizes = tile_length(extents[axis]), tile_length(extents[-1])
    if None in sizes:
        return False
    (ao, ai), (lo, li) = (k.sch.split(loops[i], [None, t]) for i, t in zip((axis, -1), sizes))
    lead = [ao if i == axis else x for i, x in enumerate(loops[:-1])]
    k.sch.reorder(*lead, lo, ai, li)
    k.vectorize(li)
    k.parallel([*lead, lo], product(extents))
    return True


def map_block(k: Kernel) -> None:
    """Every stage of a pointwise block."""
    for name in k.all():
        movement(k, name)
