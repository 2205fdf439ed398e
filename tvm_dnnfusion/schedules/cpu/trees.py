"""Scheduled functions taken apart: finding nodes, replacing variables, copies of a loop's body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize


def collect(root: Any, kind: Any) -> list[Any]:
    """All nodes of a kind."""
    out: list[Any] = []
    tvm_ffi.structural_walk(root, [(kind, out.append)])
    return out


def replaced(root: Any, values: dict[Any, Any]) -> Any:
    """The tree with variables replaced."""
    return tvm_ffi.structural_map(root, [(tvm.ir.Var, lambda v: values.get(v, v))])


def analyzer_of(loops: Sequence[Any]) -> Any:
    """An analyzer that knows the ranges of loops."""
    out = tvm.sym.Analyzer()
    for x in loops:
        out.bind(x.loop_var, tvm.ir.Range.from_min_extent(x.min, x.extent))
    return out


def uses(expr: Any, variables: Sequence[Any]) -> bool:
    """Whether one of the variables occurs."""
    return any(v.same_as(x) for v in collect(expr, tvm.ir.Var) for x in variables)


def bindings(realize: Any) -> dict[Any, Any]:
    """The block's own variables as expressions of the loops around it."""
    return {iv.var: v for iv, v in zip(realize.block.iter_vars, realize.iter_values)}


def conjuncts(condition: Any) -> list[Any]:
    """The conditions that a conjunction joins."""
    if not isinstance(condition, tirx.And):
        return [condition]
    sides: Any = condition
    return [*conjuncts(sides.a), *conjuncts(sides.b)]


def conjunction(conditions: Sequence[Any]) -> Any:
    """The conditions joined: one or more."""
    out = conditions[0]
    for condition in conditions[1:]:
        out = tirx.And(out, condition)
    return out


def loop_like(loop: Any, var: Any, low: Any, extent: Any, body: Any, notes: Any = None) -> Any:
    """A loop of the same kind, with the same annotations unless others are given."""
    notes = loop.annotations if notes is None else notes
    return tirx.For(var, low, extent, loop.kind, body, loop.thread_binding, notes)


def unmarked(loop: Any, key: str) -> Any:
    """The loop without an annotation."""
    left = {k: v for k, v in loop.annotations.items() if k != key}
    return loop_like(loop, loop.loop_var, loop.min, loop.extent, loop.body, left)


class Copies:
    """Copies of loops' bodies, each with accumulators of its own, `added`.

    Accumulators that several loops share would have to hold what all of them touch; one loop's are
    as small as its tile, and become registers.
    """

    def __init__(self, root: Any) -> None:
        self.buffers = list(root.alloc_buffers)
        self.loops = collect(root.body, tirx.For)
        self.uses = _counts(root.body)
        self.added: list[Any] = []

    def at(self, loop: Any, place: Any) -> Any:
        """A copy of the loop's body at a place, with variables and accumulators of its own."""
        fresh: dict[Any, Any] = {loop.loop_var: place}
        for inner in collect(loop.body, tirx.For):
            fresh[inner.loop_var] = tirx.Var(inner.loop_var.name, inner.loop_var.ty.dtype)
        for block in collect(loop.body, SBlock):
            for iv in block.iter_vars:
                fresh[iv.var] = tirx.Var(iv.var.name, iv.var.ty.dtype)
        for let in collect(loop.body, tirx.Let):
            fresh[let.var] = tirx.Var(let.var.name, let.var.ty.dtype)
        inside = _counts(loop.body)
        for buffer in self.buffers:
            if inside.get(buffer, 0) == self.uses.get(buffer, -1):
                fresh[buffer] = tirx.Var(f"{buffer.name}_{len(self.added)}", buffer.ty)
                self.added.append(fresh[buffer])
        return replaced(loop.body, fresh)

    def allocated(self, body: Any) -> list[Any]:
        """The buffers that the body still uses."""
        used = _counts(body)
        return [b for b in (*self.buffers, *self.added) if b in used]


def _counts(root: Any) -> dict[Any, int]:
    out: dict[Any, int] = {}
    for var in collect(root, tvm.ir.Var):
        out[var] = out.get(var, 0) + 1
    return out


def with_loops(func: Any, marks: Sequence[str], change: Callable[[Any, Copies], Any]) -> Any:
    """The function with its marked loops changed, inner ones first; itself where none is marked."""

    def marked(loop: Any) -> bool:
        return any(m in loop.annotations for m in marks)

    if not any(marked(x) for x in collect(func.body, tirx.For)):
        return func
    root = func.body.block
    copies = Copies(root)

    def loop(node: Any) -> Any:
        return change(node, copies) if marked(node) else node

    body = tvm_ffi.structural_map(root.body, [(tirx.For, loop)])
    block = SBlock(
        root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init,
        copies.allocated(body), root.match_buffers, root.annotations,
    )  # fmt: skip
    return func.with_body(SBlockRealize(func.body.iter_values, func.body.predicate, block))
