"""Attention: a tile of query rows at a time goes through both products and the softmax.

for b, h, so in parallel:
  for to: tile of scores[si, t] in registers -> row buffer
  max, exp, sum of the rows of the tile
  for eo: tile of out[si, e] in registers, times 1 / sum, written where [B, S, H, E] has it
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.tiles import tile_limit, tile_of, vectors_of
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.rows import inner_loops

_AXES = 5  # batch, head, row, block, lane


def attention_block(k: Kernel) -> None:
    """Scores, softmax and weighted values under one parallel loop over tiles of rows."""
    for name in k.names("pad", "pack"):
        movement(k, name)
    scores, values = k.names("anchor")
    (out,) = k.names("out")
    work = product(k.extents(scores)) + product(k.extents(values))
    b, h, s, e, lane = k.loops(out)
    v = vectors_of(k.extent(e))
    rows = tile_of(k.extent(s), min(8, tile_limit(k.device, 3)))
    so, si = k.sch.split(s, [None, rows])
    eo, ei = k.sch.split(e, [None, v])
    k.sch.reorder(b, h, so, eo, si, ei, lane)
    at = k.parallel([b, h, so], work)
    k.sch.vectorize(lane)
    k.sch.compute_at(values, eo, preserve_unit_loops=True)
    register_tile(k, values)
    for name in reversed(k.names("part", "red", "hold")):
        k.sch.compute_at(name, at, preserve_unit_loops=True)
    k.sch.compute_at(scores, at, preserve_unit_loops=True)
    _scores(k, scores)
    for name in k.names("part", "red", "hold"):
        inner_loops(k, name, 1)


def _scores(k: Kernel, scores: str) -> None:
    """Tiles of scores in registers, copied to the rows that the softmax reads."""
    copy = k.sch.get(k.sch.cache_write(scores, 0, "local")).name_hint
    *_, s, t, lane = k.loops(scores)[:-1]
    d = k.loops(scores)[-1]
    to, ti = k.sch.split(t, [None, vectors_of(k.extent(t))])
    k.sch.reorder(to, d, s, ti, lane)
    k.sch.reverse_compute_at(copy, to)
    k.vectorize(k.loops(copy)[-1])
    k.sch.vectorize(lane)
    k.unroll(s, ti)
    k.sch.decompose_reduction(scores, d)


def register_tile(k: Kernel, block: str) -> None:
    """A product under its tile: the fold outside, the tile unrolled, lanes as a vector."""
    k.sch.set_scope(block, 0, "local")
    loops, count = k.loops(block), k.reduction(block)
    folded = loops[len(loops) - count :]
    *places, lane = _own(loops, count)
    k.sch.reorder(*folded, *places, lane)
    k.sch.vectorize(lane)
    k.unroll(*places)
    k.sch.decompose_reduction(block, folded[0])


def _own(loops: list[Any], count: int) -> list[Any]:
    return loops[len(loops) - count - _AXES : len(loops) - count]
