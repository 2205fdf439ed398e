"""Attention: some vectors of query rows at a time go through both products and the softmax.

for b, h in parallel:                   # or b, h, so where the heads do not feed the cores evenly
  key, value packed
  for so: some vectors of rows
    query packed
    for to: tile of scores[t, u vectors of rows] in registers, + mask -> hold
    max, exp, sum over t, rows as lanes
    for si: tile of out[s, v vectors of e] in registers, times 1 / sum, written where out has it
"""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.attention import key_rows, query_vectors, value_vectors
from tvm_dnnfusion.codegen.params import divisors
from tvm_dnnfusion.codegen.tiles import product_limit, tile_of
from tvm_dnnfusion.schedules.cpu.common import Kernel, product
from tvm_dnnfusion.schedules.cpu.lanes import by_vectors, hold
from tvm_dnnfusion.schedules.cpu.maps import movement

_AXES = 5  # batch, head, row, block, lane
_SCORES = 6  # batch, head, block of rows, key, vector, lane


def attention_block(k: Kernel) -> None:
    """Scores, softmax and weighted values under one parallel loop over heads."""
    scores, values = k.names("anchor")
    outs = k.names("out")
    work = product(k.extents(scores)) + product(k.extents(values))
    own = [k.extent(x) for x in k.spatial(values)[0]]
    _, _, rows, blocks, lanes = own
    if len(outs) == 1 and _follows(k.extents(outs[0]), own) and not k.apart(values, outs):
        driver = outs[0]
        k.sch.compute_inline("mid0")
    else:
        driver = "mid0"
        for name in outs:
            movement(k, name)
    b, h, s, *columns = k.loops(driver)
    step = lanes * query_vectors(k.choices, rows // lanes)
    columns_of = value_vectors(k.choices, blocks)
    limit = product_limit(k.device, columns_of)
    rows_of = k.choices.at_most("query_rows", tile_of(step, limit), lambda: divisors(step, limit))
    so, si, _ = k.sch.split(s, [None, step // rows_of, rows_of])
    heads = k.extent(b) * k.extent(h)
    own_heads = heads % k.device.cores == 0 or heads >= 4 * k.device.cores
    even = k.choices.pick("by_head", own_heads, lambda: (False, True))
    if even:
        at = k.parallel([b, h], work)
        strip = so
    else:
        at = strip = k.parallel([b, h, so], work)
    k.vectorize(columns[-1])
    k.sch.compute_at(values, si, preserve_unit_loops=True)
    _values(k, values, columns_of)
    _rows(k, scores, strip)
    for name in k.names("key", "value"):
        if even:
            k.sch.compute_at(name, at, preserve_unit_loops=True)
            k.vectorize(k.loops(name)[-1])
        else:
            movement(k, name)
    for name in k.names("mask"):
        movement(k, name)


def _follows(out: list[int], own: list[int]) -> bool:
    """Whether an output has the rows and columns of the values, in that order."""
    if out == own:
        return True
    return out[:-1] == own[:3] and out[-1] <= own[3] * own[4]


def _rows(k: Kernel, scores: str, strip: Any) -> None:
    """Queries, scores and softmax of a strip of rows."""
    logits = next(n for n in k.names("hold") if _reads(k, n, scores))
    for name in reversed(k.names("red", "hold")):
        k.sch.compute_at(name, strip, preserve_unit_loops=True)
    *_, t, u, lane = k.loops(logits)
    tile = key_rows(k.choices, k.device, k.extent(t), k.extent(u))
    to, _ = k.sch.split(t, [None, tile])
    k.sch.vectorize(lane)
    k.sch.compute_at(scores, to, preserve_unit_loops=True)
    _register_tile(k, scores, _SCORES, 0)
    (query,) = k.names("query")
    k.sch.compute_at(query, strip, preserve_unit_loops=True)
    for name in k.names("red", "hold"):
        if name != logits:
            _column_folds(k, name)


def _reads(k: Kernel, block: str, source: str) -> bool:
    """Whether a block reads what another one writes."""
    made = k.sch.get(k.sch.get_sblock(source)).writes[0].source
    return any(r.source.same_as(made) for r in k.sch.get(k.sch.get_sblock(block)).reads)


def _column_folds(k: Kernel, name: str) -> None:
    """A stage of the softmax: the keys outside, vectors of rows inside."""
    loops, count = k.loops(name), k.reduction(name)
    if not count:
        k.sch.vectorize(loops[-1])
        return
    u, lane, folded = loops[-3:]
    k.sch.reorder(folded, u, lane)
    k.sch.vectorize(lane)
    k.sch.unroll(u)
    k.sch.decompose_reduction(name, folded)


def _values(k: Kernel, block: str, v: int) -> None:
    """The second product of some rows, vectors of columns after each other."""
    _register_tile(k, block, _AXES, v)


def _register_tile(k: Kernel, block: str, axes: int, v: int) -> None:
    """A product under its tile: the fold outside, the tile unrolled, lanes as a vector.

    `v` cuts the vectors of columns into tiles of so many; 0 takes them whole.
    """
    k.sch.set_scope(block, 0, "local")
    loops = k.loops(block)
    *places, lane, folded = loops[-axes - 1 :]
    if v:
        outer, places[-1] = k.sch.split(places[-1], [None, v])
        k.sch.reorder(outer, *places[:-1])
    k.sch.reorder(folded, *places, lane)
    k.sch.vectorize(lane)
    k.unroll(*places)
    folds = [folded]
    inner = by_vectors(k, folds)
    k.sch.decompose_reduction(block, folds[0])
    hold(k, block, inner)
