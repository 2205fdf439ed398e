"""Register tiles of a work-item, and the operands that it holds beside its accumulators.

All arrays are private, small and read by constant indices, so that they become registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi

from tvm_dnnfusion.codegen.tiles import Tile
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, group_size, product
from tvm_dnnfusion.schedules.gpu.maps import stage

MAX_UNROLLED = 512
"""Multiply-adds of vectors that are written out one by one: beyond this a kernel leaves the
instruction cache of an Adreno (some 2,000 instructions). Source: Qualcomm's OpenCL guide."""

_OPERANDS = ("pad", "hold", "border")
"""Stages that a work-item can make itself."""

_CONDITION = tvm.ir.Op.get("prim.if_then_else")


def grid_of_tiles(k: GpuKernel, channels: Sequence[Any], places: Sequence[Any]) -> Any:
    """Bind loops over tiles: places side by side in a group, channels beside them if few.

    Returns the loop over work-items. Work-items side by side read the same weights, which a mobile
    GPU loads once for all of them, and inputs that lie side by side.
    """
    sch = k.sch
    y = sch.fuse(*channels) if len(channels) > 1 else channels[0]
    x = sch.fuse(*places) if len(places) > 1 else places[0]
    across, down = _group(k.extent(x), k.extent(y), k.group())
    bx, tx = sch.split(x, [None, across])
    by, ty = sch.split(y, [None, down])
    sch.reorder(by, bx, ty, tx)
    for loop, axis in ((by, "blockIdx.y"), (bx, "blockIdx.x"), (ty, "threadIdx.y")):
        sch.bind(loop, axis)
    sch.bind(tx, "threadIdx.x")
    return tx


def _group(x: int, y: int, most: int) -> tuple[int, int]:
    """Work-items of a group along two axes: divisors, so that no item needs a condition.

    Where neither axis has divisors that fill a quarter of the group, the last one along `x` is
    not full.
    """
    across = _divisor(x, most)
    down = _divisor(y, max(1, most // across))
    if 4 * across * down >= min(most, x * y):
        return across, down
    across = group_size(x, most)
    return across, _divisor(y, max(1, most // across))


def _divisor(n: int, most: int) -> int:
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)


def hold_tile(
    k: GpuKernel, anchor: str, stores: Sequence[str], item: Any, lane: Any | None
) -> None:
    """The accumulators in registers, written by `stores` at the end of a work-item."""
    for name in stores:
        k.sch.reverse_compute_at(name, item)
        written(k, name, item)
    if lane is not None and k.extent(lane) > 1:
        k.sch.vectorize(lane)


def written(k: GpuKernel, name: str, item: Any) -> None:
    """The loops of a stage in a work-item: a vector innermost, the rest unrolled."""
    inner = below(k, name, item)
    if not inner:
        return
    axes = [iv.dom for iv in k.sch.get(k.sch.get_sblock(name)).iter_vars]
    lanes = k.lanes_along(name, len(axes) - 1)
    extent = k.extent(inner[-1])
    rest = list(inner)
    if lanes > 1 and extent % lanes == 0:
        if extent == lanes:
            k.sch.vectorize(inner[-1])
            rest = inner[:-1]
        else:
            outer, vector = k.sch.split(inner[-1], [None, lanes])
            k.sch.vectorize(vector)
            rest = [*inner[:-1], outer]
    k.unroll(*rest)


def below(k: GpuKernel, name: str, loop: Any) -> list[Any]:
    """The loops of a block below one of them."""
    loops, found = k.loops(name), k.sch.get(loop)
    at = next(i for i, x in enumerate(loops) if k.sch.get(x).same_as(found))
    return loops[at + 1 :]


def operand(k: GpuKernel, anchor: str, index: int, at: Any) -> None:
    """What the anchor reads, by number, loaded into registers at a loop."""
    block = k.sch.get(k.sch.get_sblock(anchor))
    name = block.reads[index].source.name
    made = name if name in k.names(*_OPERANDS) and laid_out_in_place(k, anchor, name) else None
    if made is None:
        copy = k.sch.cache_read(anchor, index, "local", [anchor])
        made = k.sch.get(copy).name_hint
    else:
        k.sch.set_scope(made, 0, "local")
    k.sch.compute_at(made, at, preserve_unit_loops=True)
    written(k, made, at)


def laid_out_in_place(k: GpuKernel, anchor: str, name: str) -> bool:
    """Whether a work-item may make a stage's elements itself: only the anchor reads them, and they
    are loads and arithmetic, no folds and no calls."""
    readers = {k.sch.get(b).name_hint for b in k.sch.get_consumers(name)}
    if readers != {anchor} or k.reduction(name):
        return False
    calls: list[Any] = []

    def call(node: Any) -> None:
        if not node.op.same_as(_CONDITION):
            calls.append(node)

    tvm_ffi.structural_walk(k.sch.get(k.sch.get_sblock(name)).body, [(tvm.ir.Call, call)])
    return not calls


def unrolled(k: GpuKernel, loops: Sequence[Any], times: int) -> bool:
    """Whether loops around so many multiply-adds can be written out."""
    return product([k.extent(x) for x in loops]) * times <= MAX_UNROLLED


def follows(extents: list[int], anchor: list[int]) -> bool:
    """Whether an output has the anchor's axes; the anchor may compute some columns more."""
    return (
        len(extents) == len(anchor)
        and extents[:-2] == anchor[:-2]
        and extents[-1] == anchor[-1]
        and extents[-2] <= anchor[-2]
    )


def into_registers(k: GpuKernel, anchor: str, outs: Sequence[str] | None) -> list[str]:
    """The operands laid out, and the anchor held in registers (`held`)."""
    lay_out(k, anchor)
    return held(k, anchor, outs)


def lay_out(k: GpuKernel, anchor: str, roles: Sequence[str] = ("pad", "pack", "hold")) -> None:
    """Lay out in memory what no work-item can make itself."""
    for name in k.names(*roles):
        if name.startswith("pack") or not laid_out_in_place(k, anchor, name):
            stage(k, name)


def held(k: GpuKernel, anchor: str, outs: Sequence[str] | None) -> list[str]:
    """The anchor in registers; the stages that end a work-item: `outs`, or a copy to memory."""
    if outs is None:
        return [k.sch.get(k.sch.cache_write(anchor, 0, "local")).name_hint]
    k.sch.set_scope(anchor, 0, "local")
    return list(outs)


def cut(k: GpuKernel, place: list[Any], tile: Tile) -> tuple[list[Any], list[Any]]:
    """The loops over places as loops over tiles and loops of a tile."""
    sizes = [1] * (len(place) - 2) + [tile.rows, tile.columns][-len(place) :]
    pairs = [k.sch.split(x, [None, t]) for x, t in zip(place, sizes)]
    return [p[0] for p in pairs], [p[1] for p in pairs]
