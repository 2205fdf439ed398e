"""Borders of windows without a padded copy and without a branch in the inner loop.

A stage that folds a window reads its operand under conditions where the window leaves the image:

    for h, wo: for kh, kw, wi: acc[wi] += (x[...] if row inside and column inside else 0) * w

Rows are decided once per row of taps, columns once and for all, by tiles of their own at the ends:

    for h, wo = first:  for kh: if row inside: for kw, wi in unrolled: acc[wi] += ...   # some less
    for h, wo between:  for kh: if row inside: for kw, wi in unrolled: acc[wi] += x * w
    for h, wo = last:   ...

A schedule marks the loops (`GUARD`: over rows of taps, `PEEL`: over tiles of columns); `finish`
does both on the scheduled function. What it cannot prove stays as it is: slower, never wrong.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

GUARD, PEEL = "dnnfusion.guard", "dnnfusion.peel"

# Tiles at one end of a row that get code of their own; a window wider than that is an odd one.
MAX_EDGE = 2

_CONDITION = tvm.ir.Op.get("prim.if_then_else")


def finish(func: Any) -> Any:
    """The function with its marked loops cut at the borders."""
    marked = [
        x for x in _collect(func.body, tirx.For) if GUARD in x.annotations or PEEL in x.annotations
    ]
    if not marked:
        return func
    root = func.body.block
    cut = _Cut(root)
    body = tvm_ffi.structural_map(root.body, [(tirx.For, cut.loop)])
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init,
        cut.allocated(body), root.match_buffers, root.annotations,
    )  # fmt: skip
    return func.with_body(SBlockRealize(func.body.iter_values, func.body.predicate, block))


class _Cut:
    """Cuts loops; every copy of a loop gets accumulators of its own, `added`.

    Accumulators that several loops share would have to hold what all of them touch; one loop's are
    as small as its tile, and become registers.
    """

    def __init__(self, root: Any) -> None:
        self.buffers = list(root.alloc_buffers)
        self.uses = _counts(root.body)
        self.added: list[Any] = []

    def loop(self, loop: Any) -> Any:
        """One loop; those inside it are done."""
        if GUARD in loop.annotations:
            return _guarded(_unmarked(loop, GUARD))
        if PEEL in loop.annotations:
            return self._peeled(_unmarked(loop, PEEL))
        return loop

    def allocated(self, body: Any) -> list[Any]:
        """The buffers that the cut body still uses."""
        used = _counts(body)
        return [b for b in (*self.buffers, *self.added) if b in used]

    def _peeled(self, loop: Any) -> Any:
        """The loop in up to three parts; the middle one needs no condition on its variable."""
        if not isinstance(loop.extent, tirx.IntImm):
            return loop
        extent = int(loop.extent)
        first, last = _interior(loop, extent)
        if (first, last) == (0, extent):
            return loop
        if first >= last:  # every tile is at a border
            first = last = extent if extent <= MAX_EDGE else 0
        edges = [*range(first), *range(last, extent)]
        if max(first, extent - last) > MAX_EDGE:
            return loop
        parts: dict[int, Any] = {t: self._at(loop, tirx.const(t, "int32")) for t in edges}
        if last > first:
            var = tirx.Var(loop.loop_var.name, "int32")
            body = self._at(loop, var + first if first else var)
            count = tirx.const(last - first, "int32")
            parts[first] = _for(loop, var, tirx.const(0, "int32"), count, body)
        return tirx.SeqStmt([parts[t] for t in sorted(parts)])

    def _at(self, loop: Any, place: Any) -> Any:
        """A copy of the loop's body at a place, with variables and accumulators of its own."""
        fresh: dict[Any, Any] = {loop.loop_var: place}
        for inner in _collect(loop.body, tirx.For):
            fresh[inner.loop_var] = tirx.Var(inner.loop_var.name, inner.loop_var.ty.dtype)
        for block in _collect(loop.body, SBlock):
            for iv in block.iter_vars:
                fresh[iv.var] = tirx.Var(iv.var.name, iv.var.ty.dtype)
        for let in _collect(loop.body, tirx.Let):
            fresh[let.var] = tirx.Var(let.var.name, let.var.ty.dtype)
        inside = _counts(loop.body)
        for buffer in self.buffers:
            if inside.get(buffer, 0) == self.uses.get(buffer, -1):
                fresh[buffer] = tirx.Var(f"{buffer.name}_{len(self.added)}", buffer.ty)
                self.added.append(fresh[buffer])
        return _replaced(loop.body, fresh)


def _counts(root: Any) -> dict[Any, int]:
    out: dict[Any, int] = {}
    for var in _collect(root, tvm.ir.Var):
        out[var] = out.get(var, 0) + 1
    return out


def _unmarked(loop: Any, key: str) -> Any:
    left = {k: v for k, v in loop.annotations.items() if k != key}
    return _for(loop, loop.loop_var, loop.min, loop.extent, loop.body, left)


def _for(loop: Any, var: Any, low: Any, extent: Any, body: Any, annotations: Any = None) -> Any:
    notes = loop.annotations if annotations is None else annotations
    return tirx.For(var, low, extent, loop.kind, body, loop.thread_binding, notes)


def _guarded(loop: Any) -> Any:
    """The condition of the taps' row around the loops over the row: for kh: if c: for kw, wi."""
    realizes = _collect(loop.body, SBlockRealize)
    if len(realizes) != 1:
        return loop
    block, bound = realizes[0].block, _bindings(realizes[0])
    found = _conditions(block.body)
    inner = [x.loop_var for x in _collect(loop.body, tirx.For)]
    outer = [c for c in found[:1] for c in _conjuncts(c) if not _uses(_replaced(c, bound), inner)]
    if not outer:
        return loop

    def lift(call: Any) -> Any:
        if not (call.op.same_as(_CONDITION) and tvm_ffi.structural_equal(call.args[0], found[0])):
            return call
        left = [c for c in _conjuncts(call.args[0]) if not any(c.same_as(o) for o in outer)]
        return tirx.if_then_else(_all(left), *call.args[1:]) if left else call.args[1]

    body = tvm_ffi.structural_map(loop.body, [(tvm.ir.Call, lift)])
    inside = tirx.IfThenElse(_all([_replaced(c, bound) for c in outer]), body, None)
    return _for(loop, loop.loop_var, loop.min, loop.extent, inside)


def _interior(loop: Any, extent: int) -> tuple[int, int]:
    """The longest run of iterations in which every condition on the variable is known to hold."""
    analyzer = tvm.sym.Analyzer()
    for inner in _collect(loop.body, tirx.For):
        analyzer.bind(inner.loop_var, tvm.ir.Range.from_min_extent(inner.min, inner.extent))
    conditions = []
    for realize in _collect(loop.body, SBlockRealize):
        bound = _bindings(realize)
        found = [c for x in _conditions(realize.block.body) for c in _conjuncts(x)]
        conditions += [_replaced(c, bound) for c in found]
    held = []
    for condition in conditions:
        if _uses(condition, [loop.loop_var]):
            each = [
                analyzer.can_prove(_replaced(condition, {loop.loop_var: tirx.const(t, "int32")}))
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


def _collect(root: Any, kind: Any) -> list[Any]:
    out: list[Any] = []
    tvm_ffi.structural_walk(root, [(kind, out.append)])
    return out


def _bindings(realize: Any) -> dict[Any, Any]:
    """The block's own variables as expressions of the loops around it."""
    return {iv.var: v for iv, v in zip(realize.block.iter_vars, realize.iter_values)}


def _conditions(root: Any) -> list[Any]:
    """The conditions in a block's body, outer ones first."""
    out: list[Any] = []

    def note(call: Any) -> None:
        if call.op.same_as(_CONDITION):
            out.append(call.args[0])

    tvm_ffi.structural_walk(root, [(tvm.ir.Call, note)], order="pre")
    return out


def _conjuncts(condition: Any) -> list[Any]:
    if not isinstance(condition, tirx.And):
        return [condition]
    sides: Any = condition
    return [*_conjuncts(sides.a), *_conjuncts(sides.b)]


def _all(conditions: list[Any]) -> Any:
    out = conditions[0]
    for condition in conditions[1:]:
        out = tirx.And(out, condition)
    return out


def _replaced(root: Any, values: dict[Any, Any]) -> Any:
    return tvm_ffi.structural_map(root, [(tvm.ir.Var, lambda v: values.get(v, v))])


def _uses(expr: Any, variables: list[Any]) -> bool:
    found: list[Any] = []
    tvm_ffi.structural_walk(expr, [(tvm.ir.Var, found.append)])
    return any(v.same_as(x) for v in found for x in variables)
