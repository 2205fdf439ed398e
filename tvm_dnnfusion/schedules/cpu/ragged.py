"""Rows that tiles do not divide: the last tile of them is shorter, and has code of its own.

So it is with products' rows, and with columns under windows that are folded channel by channel.

A split that does not divide leaves a condition on every row of every tile. A schedule marks the
loop whose body is one tile with `RAGGED`, the rows of the last one; `parted` then decides once for
a tile, on CPUs and GPUs:

    for t: for k: for r in unrolled(8): if 8 t + r < 197: tile[r] += x[8 t + r, k] * w[k]
->  for t: if 8 t + 7 < 197: for k: for r in unrolled(8): tile[r] += x[8 t + r, k] * w[k]
           else:             for k: for r in unrolled(8): if r < 5: tile'[r] += ...

where the conditions that are left are known when the rows are written out. No row is computed
twice or in vain, and nothing beyond the last one is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

from tvm_dnnfusion.schedules.cpu.trees import (
    Copies,
    analyzer_of,
    collect,
    conjunction,
    conjuncts,
    loop_like,
    replaced,
    unmarked,
    uses,
    with_loops,
)

RAGGED = "dnnfusion.ragged"

_ANCHORS = ("anchor", "pool")
"""Stages that schedules cut into tiles; others follow one."""


def mark(sch: Any, loop: Any, rows: int, height: int) -> None:
    """Mark the loop over tiles of so many rows where those do not divide them."""
    if rows % height:
        sch.annotate(loop, RAGGED, rows % height)


def parted(func: Any) -> Any:
    """The function with the last tile in front of marked loops told from the others."""
    return with_loops(func, (RAGGED,), _parted)


def _parted(loop: Any, copies: Copies) -> Any:
    rest, loop = int(loop.annotations[RAGGED]), unmarked(loop, RAGGED)
    rows = _rows(loop)
    if rows is None:
        return loop
    analyzer = analyzer_of(copies.loops)

    def of_rows(condition: Any) -> bool:
        found = _bounds(loop, condition)
        return found is not None and (
            analyzer.can_prove_equal(found.limit, rows.limit)
            and analyzer.can_prove_equal(found.first, rows.first)
            and analyzer.can_prove(found.last <= rows.last)
        )

    def ended(condition: Any) -> list[Any]:
        sides: Any = condition
        whole = not of_rows(condition)
        return [condition if whole else analyzer.simplify(sides.a - rows.first) < rest]

    every = _with_conditions(loop.body, lambda c: [] if of_rows(c) else [c])
    last = _with_conditions(loop.body, ended)
    cases = [copies.at(_around(loop, body), loop.loop_var) for body in (every, last)]
    return _around(loop, tirx.IfThenElse(analyzer.simplify(rows.last < rows.limit), *cases))


@dataclass(frozen=True)
class _Rows:
    """What a condition `row < limit` in a tile's body says: its first and last row, the limit."""

    first: Any
    last: Any
    limit: Any


def _bounds(loop: Any, condition: Any) -> _Rows | None:
    """The condition over what the loops inside run through; None where they do not matter."""
    inner = [x for x in collect(loop.body, tirx.For) if isinstance(x.extent, tirx.IntImm)]
    if not isinstance(condition, tirx.LT) or not uses(condition, [x.loop_var for x in inner]):
        return None
    sides: Any = condition
    first = {x.loop_var: tirx.const(0, "int32") for x in inner}
    last = {x.loop_var: tirx.const(int(x.extent) - 1, "int32") for x in inner}
    return _Rows(replaced(sides.a, first), replaced(sides.a, last), sides.b)


def _rows(loop: Any) -> _Rows | None:
    """The rows of a tile, from the condition on its anchor, which has no other on loops inside."""
    for realize in collect(loop.body, SBlockRealize):
        if realize.block.name_hint.startswith(_ANCHORS):
            found = [_bounds(loop, c) for c in conjuncts(realize.predicate)]
            return next((x for x in found if x is not None), None)
    return None


def _with_conditions(body: Any, change: Callable[[Any], list[Any]]) -> Any:
    """The body with each condition on a block replaced by others."""

    def realize(node: Any) -> Any:
        left = [x for c in conjuncts(node.predicate) for x in change(c)]
        predicate = conjunction(left) if left else tirx.const(True, "bool")
        return SBlockRealize(node.iter_values, predicate, node.block)

    return tvm_ffi.structural_map(body, [(SBlockRealize, realize)])


def _around(loop: Any, body: Any) -> Any:
    return loop_like(loop, loop.loop_var, loop.min, loop.extent, body)
