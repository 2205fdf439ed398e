"""Stages that fold only a window, channel by channel: tiles of columns in registers."""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.tiles import tile_limit, tile_or_rest
from tvm_dnnfusion.schedules.cpu.borders import GUARD, PEEL
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.ragged import mark

# Tiles at one end of a row that get code of their own; a window wider than that is an odd one.
MAX_EDGE = 2


def window_tiles(k: Kernel, anchor: str, outs: list[str]) -> None:
    """Tiles of columns for stages that fold only a window: depthwise convolutions and poolings."""
    spatial, taps = k.spatial(anchor)
    blocked = len(spatial) - len(taps) == 3
    work = product([k.extent(x) for x in (*spatial, *taps)])
    columns, tile = (spatial[-2], spatial[-1:]) if blocked else (spatial[-1], [])
    lead = spatial[: len(spatial) - 1 - len(tile)]
    extent = k.extent(columns)
    width = _columns(k, extent) if blocked else extent
    wo, wi = k.sch.split(columns, [None, width])
    mark(k.sch, wo, extent, width)
    k.sch.reorder(*lead, wo, *taps, wi, *tile)
    at = _tasks(k, lead, wo, work, k.conditional(anchor) or extent % width != 0)
    separate = k.apart(anchor, outs)
    if separate:
        stores = [k.sch.get(k.sch.cache_write(anchor, 0, "local")).name_hint]
    else:
        stores = outs
        k.sch.set_scope(anchor, 0, "local")
    for out in stores:
        k.sch.reverse_compute_at(out, at)
        k.vectorize_under(out, at)
        if blocked:
            k.unroll_under(out, at)
    if blocked:
        k.sch.vectorize(tile[0])
        k.unroll(wi)
    else:
        k.vectorize(wi)
    if k.conditional(anchor):
        k.sch.annotate(wo, PEEL, MAX_EDGE)
        k.sch.annotate(taps[-2], GUARD, 1) if len(taps) > 1 else None
        k.unroll(taps[-1])
    elif product([k.extent(x) for x in taps]) <= 27:
        k.unroll(*taps)
    k.sch.decompose_reduction(anchor, taps[0])
    if separate:
        for out in outs:
            movement(k, out)


def _tasks(k: Kernel, lead: list[Any], wo: Any, work: int, marked: bool) -> Any:
    """Share the loops among the cores; returns the one over tiles.

    Two tiles in a row LLVM would write out as one, with more addresses than there are registers:
    then each is a task by itself.
    """
    if k.extent(wo) == 2 and not marked:
        return k.parallel([*lead, wo], work)
    k.parallel(lead, work)
    return wo


def _columns(k: Kernel, extent: int) -> int:
    """Columns of a tile."""
    most = tile_limit(k.device, 1)
    best = tile_or_rest(extent, most // 2)
    return k.choices.at_most("columns", best, lambda: range(1, min(extent, most) + 1))
