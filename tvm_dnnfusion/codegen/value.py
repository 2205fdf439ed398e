"""Values inside a block, as functions from a logical index to an expression.

Fused code generation (DNNFusion, PLDI'21, section 4.4) as one idea: an op makes no buffer, it
makes a `Value` that can be asked for the element at an index. A chain of One-to-One, Reorganize,
Shuffle and One-to-Many ops is then a composition of functions, and the index maps of Reorganize and
Shuffle vanish into the indices at the loads. The common sub-trees of the paper's data-flow tree are
computed once per element: a value with several readers is bound to a variable at its first read.
TVM's simplifier writes such variables out again and LLVM merges what is equal, so the size of an
expression is bounded (`Value.weight`): what grows beyond it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import te, tirx

from tvm_dnnfusion.codegen.layout import PLAIN, Layout
from tvm_dnnfusion.codegen.negative import ascending

Index = tuple[Any, ...]


class Body:
    """The expression under construction for one element: bound variables and what is known.

    Reads are remembered by the identity of value and index, so a value that is read twice at one
    index yields one variable. Variables bound under a condition are visible only there, because
    their loads may be out of bounds elsewhere.
    """

    def __init__(self, extents: dict[Any, int]):
        self.analyzer = tvm.sym.Analyzer()
        for var, extent in extents.items():
            self.analyzer.bind(var, tvm.ir.Range(0, extent))
        self.known: list[dict[Any, Any]] = [{}]
        self.lets: list[list[tuple[Any, Any]]] = [[]]
        self.keep: list[Any] = []  # indices whose identity is a key must stay alive
        self.inline = 0

    def read(self, value: Value, index: Index) -> Any:
        """The element of `value` at a logical index."""
        key = (id(value), tuple(i if isinstance(i, int) else id(i) for i in index))
        for scope in reversed(self.known[-1:] if self.inline else self.known):
            if key in scope:
                return scope[key]
        expr = value.at(self, index)
        if (
            value.readers > 1
            and not self.inline
            and not isinstance(expr, (tirx.IntImm, tirx.FloatImm, tvm.ir.Var))
        ):
            var = tvm.tirx.Var(f"v{len(self.keep)}", value.dtype)
            self.lets[-1].append((var, expr))
            expr = var
        self.keep.append((value, index, expr))
        self.known[-1][key] = expr
        return expr

    def position(self, value: Value, index: Index) -> Any:
        """An element that is itself an index: no variable may stand for it, since regions of
        buffers are derived from indices outside of the variables' scope."""
        self.inline += 1
        self.known.append({})
        try:
            return value.at(self, index)
        finally:
            self.known.pop()
            self.inline -= 1

    @contextmanager
    def scope(self) -> Iterator[Callable[[Any], Any]]:
        """A region that may not be executed; yields the function that closes an expression."""
        self.known.append({})
        self.lets.append([])
        try:
            yield lambda expr: _bind(self.lets[-1], expr)
        finally:
            self.known.pop()
            self.lets.pop()

    def close(self, expr: Any) -> Any:
        """The finished expression, with its variables bound."""
        return _bind(self.lets[0], expr)

    def simplify(self, expr: Any) -> Any:
        """The index expression simplified under the ranges of the loop variables."""
        if isinstance(expr, int):
            return expr
        try:
            return self.analyzer.simplify(ascending(expr))
        except TypeError:
            return expr  # it holds a load, which the analyzer cannot hash

    def where(self, condition: Any, then: Callable[[], Any], other: Callable[[], Any]) -> Any:
        """`then()` where the condition holds, else `other()`; each only evaluated in its case."""
        cond = self.analyzer.simplify(condition) if not isinstance(condition, bool) else condition
        if isinstance(cond, (bool, tirx.IntImm)):
            return then() if bool(cond) else other()
        with self.scope() as close:
            yes = close(then())
        with self.scope() as close:
            no = close(other())
        return tirx.if_then_else(cond, yes, no)


def _bind(lets: list[tuple[Any, Any]], expr: Any) -> Any:
    for var, value in reversed(lets):
        expr = tirx.Let(var, value, expr)
    return expr


@dataclass(eq=False)
class Value:
    """A tensor inside a block: [shape] of dtype, element by element.

    `readers` counts the ops and outputs that read it. `resident`: a read is a plain load, whatever
    the index. `layout` is how the elements lie in memory, or would best be written. `push` maps an
    index of the block's anchor (its heavy op) to the index of this value that depends on it, where
    that is one to one; `moved` says that the order is not the anchor's. `weight` counts the loads
    in the expression of an element, written out. `wide` is the twin in float32 of a value in
    float16, where one was made; `narrowed`: the value is that twin, rounded (`wide.py`).
    """

    shape: tuple[int, ...]
    dtype: str
    at: Callable[[Body, Index], Any] = field(repr=False)
    readers: int = 0
    resident: bool = False
    layout: Layout = PLAIN
    push: Callable[[Body, Index], Index] | None = field(default=None, repr=False)
    moved: bool = False
    weight: int = 1
    wide: Value | None = field(default=None, repr=False)
    narrowed: bool = False


def load(
    tensor: Any, shape: tuple[int, ...], layout: Layout = PLAIN, start: tuple[int, ...] = ()
) -> Value:
    """A value that lies in memory: all of the tensor, or its part from a logical index on."""

    def at(body: Body, index: Index) -> Any:
        whole = tuple(i + s if s else i for i, s in zip(index, start)) if any(start) else index
        place = layout.index(whole)
        return tensor(*(body.simplify(i) for i in place))

    return Value(shape, str(tensor.dtype), at, resident=True, layout=layout)


def lies_in_rows(value: Value) -> bool:
    """Whether an element is a load, or one that is widened, and those of a row (the last axis) lie
    side by side."""
    index = tuple(tirx.Var(f"i{a}", "int32") for a in range(len(value.shape)))
    element = value.at(Body(dict(zip(index, value.shape))), index)
    element = element.value if isinstance(element, tirx.Cast) else element
    loaded = isinstance(element, tvm.ir.Call)
    return value.resident and loaded and element.args[-1].same_as(index[-1])


def compute(
    name: str,
    shape: tuple[int, ...],
    expr: Callable[[Body, Index], Any],
    reduce: tuple[int, ...] = (),
    combine: Callable[..., Any] | None = None,
    sums: str = "",
) -> Any:
    """A stage: a te.Tensor of `shape`, element by `expr(body, index)`.

    With `reduce`, further axes of those extents are appended to the index and folded by `combine`
    (te.sum, te.max ...), in the dtype `sums` where that is given. The stage's block in TIR bears
    `name`.
    """
    axes = [te.reduce_axis((0, n), f"r{i}") for i, n in enumerate(reduce)]

    def element(*index: Any) -> Any:
        ranges = dict(zip(index, shape)) | {a.var: n for a, n in zip(axes, reduce)}
        body = Body(ranges)
        out = body.close(expr(body, (*index, *(a.var for a in axes))))
        if sums:
            out = _widened(out, sums)
        return combine(out, axis=axes) if combine is not None else out

    return te.compute(shape, element, name=name)


def _widened(expr: Any, dtype: str) -> Any:
    """The term of a sum in a wider dtype; a product is exact there."""
    if isinstance(expr, tirx.Mul):
        return tirx.Cast(dtype, expr.a) * tirx.Cast(dtype, expr.b)
    return tirx.Cast(dtype, expr)


@dataclass(frozen=True)
class Narrowed:
    """A stage whose sums are kept in a wider dtype than its readers are made for."""

    stage: Any
    dtype: str

    def __call__(self, *index: Any) -> Any:
        """The element in the narrow dtype."""
        return tirx.Cast(self.dtype, self.stage(*index))


def narrowed(stage: Any, dtype: str) -> Any:
    """The stage as one of `dtype`."""
    return stage if str(stage.dtype) == dtype else Narrowed(stage, dtype)


def store(name: str, value: Value, layout: Layout = PLAIN) -> Any:
    """A stage that holds the value in a layout."""

    def expr(body: Body, place: Index) -> Any:
        return body.read(value, tuple(layout.logical(place)))

    return compute(name, layout.shape(value.shape), expr)
