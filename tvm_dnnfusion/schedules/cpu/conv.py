"""Convolutions: register tiles of some columns by one or two vectors of output channels.

Before, the anchor stage ([N, C/f, H, W, f] over [c, kh, kw, ci]) and its epilogue:

    for n, cb, h, w, f, c, kh, kw, ci: anchor[n, cb, h, w, f] += x[...] * w[...]
    for n, cb, h, w, f: out[n, cb, h, w, f] = relu(anchor[n, cb, h, w, f] + bias[...])

After:

    for n_cb_h in parallel:
      for wo:
        for c, kh, kw, ci: for wi, cv in unrolled: for f in vectorized: tile[...] += x * w
        for cv, wi: for f in vectorized: out[...] = relu(tile[...] + bias[...])
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.params import divisors
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.lanes import by_vectors, hold, unroll_taps
from tvm_dnnfusion.schedules.cpu.maps import movement, rows_of

# Strips of rows, so that cores that are slower for a while do not hold up the others.
STRIPS_PER_CORE = 4

# Rows of a strip: its borders are laid out twice, but it has to stay in the second cache.
MAX_STRIP = 8


def conv_block(k: Kernel) -> None:
    """A convolution with its epilogue; padding and prologue are stages of their own."""
    anchor = k.names("anchor")[0]
    outs = k.names("out")
    own = [k.extent(x) for x in k.spatial(anchor)[0]]
    if all(_follows(k.extents(o), own) for o in outs) and not k.apart(anchor, outs):
        strip = anchor_tiles(k, anchor, outs)
    else:
        copy = k.sch.cache_write(anchor, 0, "local")
        strip = anchor_tiles(k, anchor, [k.sch.get(copy).name_hint], local=False)
        for name in outs:
            movement(k, name)
    for name in k.names("pack"):
        movement(k, name)
    _lay_out(k, anchor, strip)


def _lay_out(k: Kernel, anchor: str, strip: Any | None) -> None:
    """The stages that the anchor reads: for a strip of rows where they serve nothing else."""
    inside = {anchor, f"{anchor}_init", f"{anchor}_update"}
    for name in reversed(k.names("pad")):
        readers = {k.sch.get(b).name_hint for b in k.sch.get_consumers(name)}
        if strip is None or k.reduction(name) or not readers <= inside:
            movement(k, name)
            continue
        k.sch.compute_at(name, strip, preserve_unit_loops=True)
        rows_of(k, name)
        inside.add(name)


def _follows(extents: list[int], anchor: list[int]) -> bool:
    """Whether an output has the anchor's axes; the anchor may compute some columns more."""
    return (
        len(extents) == len(anchor)
        and extents[:-2] == anchor[:-2]
        and extents[-1] == anchor[-1]
        and extents[-2] <= anchor[-2] <= extents[-2] * 3 // 2
    )


def anchor_tiles(k: Kernel, anchor: str, outs: list[str], local: bool = True) -> Any | None:
    """Cut the anchor into register tiles, with what reads it (`outs`) at each tile.

    Returns the loop over strips of rows, where what a strip reads can be laid out; None where
    channels come first.
    """
    spatial, folded = k.spatial(anchor)
    n, cb, *place, lane = spatial
    tile = k.tile()
    work = product([k.extent(x) for x in (*spatial, *folded)])
    sizes = [1] * (len(place) - 2) + [tile.rows, tile.columns][-len(place) :]
    cbo, cbi = k.sch.split(cb, [None, tile.vectors])
    pairs = [k.sch.split(x, [None, t]) for x, t in zip(place, sizes)]
    outer, inner = [p[0] for p in pairs], [p[1] for p in pairs]
    if k.attr("dnnfusion.rows_first"):
        lead, rest = _rows_first(k, n, cbo, outer, folded)
    else:
        lead, rest = [n, cbo, *outer[:-1]], [outer[-1]]
    folded = k.folds(folded)
    k.sch.reorder(*lead, *rest, *folded, *inner, cbi, lane)
    # where channel blocks and rows do not feed the cores, the columns share them too
    few = len(rest) == 1 and _shares(k, product([k.extent(x) for x in lead]))
    strip = k.parallel([*lead, outer[-1]] if few else lead, work)
    at = k.loops(anchor)[0] if few else outer[-1]
    _register_tile(k, anchor, outs, at, folded, (*inner, cbi, lane), local)
    return strip if len(rest) > 1 else None


def _rows_first(
    k: Kernel, n: Any, cbo: Any, outer: list[Any], folded: list[Any]
) -> tuple[list[Any], list[Any]]:
    """The loops that the cores share, and those of one strip, outermost first.

    A strip is some rows of one axis, of one along which no window overlaps if there is one: what it
    reads stays in the cache while all its channels are computed, and all places along other axes.
    """
    taps = [k.extent(x) for x in folded[1 : 1 + len(outer)]]
    rows = list(zip(outer[:-1], taps))
    axis = next((x for x, t in reversed(rows) if t == 1), rows[-1][0])
    alone = [x for x, t in rows if t == 1 and x is not axis]
    within = [x for x, t in rows if t > 1 and x is not axis]
    tasks = k.extent(n) * product([k.extent(x) for x in alone])
    height = k.extent(axis)
    wanted = strip_rows(k.device.cores, height, tasks, MAX_STRIP)
    length = k.choices.at_most("strip_rows", wanted, lambda: divisors(height))
    strip, row = k.sch.split(axis, [None, length])
    return [n, *alone, strip], [cbo, *within, row, outer[-1]]


def strip_rows(cores: int, rows: int, tasks: int, most: int | None = None) -> int:
    """Rows of a strip, a divisor, at most `most`: so many that every core gets its strips of each
    of the tasks that there are already."""
    wanted = min(rows, -(-STRIPS_PER_CORE * cores // tasks))
    good = [r for r in range(1, rows + 1) if rows % r == 0 and rows // r >= wanted]
    return max(r for r in good if r <= (most or rows))


def _shares(k: Kernel, tasks: int) -> bool:
    """Whether the cores share the columns too."""
    few = tasks < 2 * k.device.cores
    return bool(k.choices.pick("share_columns", few, lambda: (False, True)))


def _register_tile(
    k: Kernel,
    anchor: str,
    outs: list[str],
    at: Any,
    folded: list[Any],
    tile: tuple[Any, ...],
    local: bool,
) -> None:
    *places, cbi, lane = tile
    if local:
        k.sch.set_scope(anchor, 0, "local")
    for out in outs:
        k.sch.reverse_compute_at(out, at)
        k.vectorize_under(out, at)
    k.sch.vectorize(lane)
    k.unroll(*places, cbi)
    inner = by_vectors(k, folded)
    k.sch.decompose_reduction(anchor, folded[0])
    hold(k, anchor, inner)
    unroll_taps(k, folded)
