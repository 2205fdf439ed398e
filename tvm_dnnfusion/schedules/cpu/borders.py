"""Borders of windows without a padded copy and without a branch in the inner loop.

A stage that folds a window reads its operand under conditions where the window leaves the image:

    for h, wo: for kh, kw, wi: acc[wi] += (x[...] if row inside and column inside else 0) * w

Rows are decided once per row of taps, columns once and for all, by tiles of their own at the ends:

    for h, wo = first:  for kh: if row inside: for kw, wi in unrolled: acc[wi] += ...   # some less
    for h, wo between:  for kh: if row inside: for kw, wi in unrolled: acc[wi] += x * w
    for h, wo = last:   ...

A schedule marks the loops (`GUARD`: over rows of taps, `PEEL`: over tiles of columns); `finish`
does both on the scheduled function. `PEEL` says how many tiles at one end of a row may get code of
their own. What it cannot prove stays as it is: slower, never wrong.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

from tvm_dnnfusion.schedules.cpu.trees import (
    Copies,
    analyzer_of,
    bindings,
    collect,
    conjunction,
    conjuncts,
    loop_like,
    replaced,
    unmarked,
    uses,
    with_loops,
)

GUARD, PEEL = "dnnfusion.guard", "dnnfusion.peel"

_CONDITION = tvm.ir.Op.get("prim.if_then_else")


def finish(func: Any) -> Any:
    """The function with its marked loops cut at the borders."""
    return with_loops(func, (GUARD, PEEL), _cut)


def _cut(loop: Any, copies: Copies) -> Any:
    """One loop; those inside it are done."""
    if GUARD in loop.annotations:
        return _guarded(unmarked(loop, GUARD))
    return _peeled(unmarked(loop, PEEL), int(loop.annotations[PEEL]), copies)


def _peeled(loop: Any, most: int, copies: Copies) -> Any:
    """The loop in up to three parts; the middle one needs no condition on its variable."""
    if not isinstance(loop.extent, tirx.IntImm):
        return loop
    extent = int(loop.extent)
    first, last = _interior(loop, extent)
    if (first, last) == (0, extent):
        return loop
    if first >= last:  # every tile is at a border
        first = last = extent if extent <= most else 0
    edges = [*range(first), *range(last, extent)]
    if max(first, extent - last) > most:
        return loop
    parts: dict[int, Any] = {t: copies.at(loop, tirx.const(t, "int32")) for t in edges}
    if last > first:
        var = tirx.Var(loop.loop_var.name, "int32")
        body = _within(copies.at(loop, var + first if first else var), var)
        count = tirx.const(last - first, "int32")
        parts[first] = loop_like(loop, var, tirx.const(0, "int32"), count, body)
    return tirx.SeqStmt([parts[t] for t in sorted(parts)])


def _within(body: Any, var: Any) -> Any:
    """The body of the middle part: no block in it is cut short by a condition on its variable."""

    def realize(node: Any) -> Any:
        left = [c for c in conjuncts(node.predicate) if not uses(c, [var])]
        predicate = conjunction(left) if left else tirx.const(True, "bool")
        return SBlockRealize(node.iter_values, predicate, node.block)

    return tvm_ffi.structural_map(body, [(SBlockRealize, realize)])


def _guarded(loop: Any) -> Any:
    """The condition of the taps' row around the loops over the row: for kh: if c: for kw, wi."""
    realizes = collect(loop.body, SBlockRealize)
    if len(realizes) != 1:
        return loop
    block, bound = realizes[0].block, bindings(realizes[0])
    found = conditions_of(block.body)
    inner = [x.loop_var for x in collect(loop.body, tirx.For)]
    outer = [c for c in found[:1] for c in conjuncts(c) if not uses(replaced(c, bound), inner)]
    if not outer:
        return loop

    def lift(call: Any) -> Any:
        if not (call.op.same_as(_CONDITION) and tvm_ffi.structural_equal(call.args[0], found[0])):
            return call
        left = [c for c in conjuncts(call.args[0]) if not any(c.same_as(o) for o in outer)]
        return tirx.if_then_else(conjunction(left), *call.args[1:]) if left else call.args[1]

    body = tvm_ffi.structural_map(loop.body, [(tvm.ir.Call, lift)])
    inside = tirx.IfThenElse(conjunction([replaced(c, bound) for c in outer]), body, None)
    return loop_like(loop, loop.loop_var, loop.min, loop.extent, inside)


def _interior(loop: Any, extent: int) -> tuple[int, int]:
    """The longest run of iterations in which every condition on the variable is known to hold."""
    analyzer = analyzer_of(collect(loop.body, tirx.For))
    conditions = []
    for realize in collect(loop.body, SBlockRealize):
        bound = bindings(realize)
        found = [c for x in conditions_of(realize.block.body) for c in conjuncts(x)]
        conditions += [*(replaced(c, bound) for c in found), *conjuncts(realize.predicate)]
    held = []
    for condition in conditions:
        if uses(condition, [loop.loop_var]):
            each = [
                analyzer.can_prove(replaced(condition, {loop.loop_var: tirx.const(t, "int32")}))
                for t in range(extent)
            ]
            if any(each):
                held.append(each)
    inside = [all(column) for column in zip(*held)] if held else [True] * extent
    first = inside.index(True) if True in inside else extent
    last = first
    while last < extent and inside[last]:
        last += 1
    return first, last


def conditions_of(root: Any) -> list[Any]:
    """The conditions in a block's body, outer ones first."""
    out: list[Any] = []

    def note(call: Any) -> None:
        if call.op.same_as(_CONDITION):
            out.append(call.args[0])

    tvm_ffi.structural_walk(root, [(tvm.ir.Call, note)], order="pre")
    return out
