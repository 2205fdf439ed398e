"""Binding Relax expressions in order, with origins, inside branches and out."""

from __future__ import annotations

import math
import re
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.frontend.origins import Origins, origins_of, with_origins
from tvm_dnnfusion.relay.entry import MAX_MADE, Unsupported, packed

_LEAVES = (relax.Var, relax.ShapeExpr, tvm.ir.Constant)


MAX_ELEMENTS = 1 << 40
"""Elements of a tensor: 4 TiB of float32, more than any machine that runs one model has."""


def _elements(expr: relax.Expr) -> int:
    """Elements of a tensor of static shape; 0 for what has none."""
    shape = getattr(getattr(expr, "ty", None), "shape", None)
    dims = shape.values if isinstance(shape, relax.ShapeExpr) else [0]
    return math.prod(getattr(d, "value", 1) for d in dims) if len(dims) else 1


class Emitter:
    """Collects bindings; the innermost scope is that of the branch that is being written."""

    def __init__(self) -> None:
        self._builder = relax.BlockBuilder()
        self._scopes: list[list[Any]] = [[]]
        self._count = 0
        self._constant: set[relax.Var] = set()
        self.branches = False
        self.origins: Origins = ()

    def emit(self, expr: relax.Expr) -> relax.Expr:
        """A variable bound to the expression, whose operands are bound already."""
        if isinstance(expr, _LEAVES):
            return expr
        if self.origins and not origins_of(expr):
            expr = with_origins(expr, *self.origins)
        made = self._builder.normalize(expr)
        constant = self._measure(made)
        var = relax.Var(f"lv{self._count or ''}", made.ty)
        self._count += 1
        if constant:
            self._constant.add(var)
        self._scopes[-1].append(relax.VarBinding(var, made))
        return var

    def _measure(self, made: relax.Expr) -> bool:
        """Whether the expression is constant. Raises Unsupported for a tensor beyond the limits."""
        size = _elements(made)
        if size > MAX_ELEMENTS:
            raise Unsupported(f"a tensor of {size} elements, of at most {MAX_ELEMENTS}")
        args = list(made.args) if isinstance(made, relax.Call) else []
        args = [f for a in args for f in (a.fields if isinstance(a, relax.Tuple) else [a])]
        if not args or not all(self._is_constant(a) for a in args):
            return False
        if size > max(MAX_MADE, 4 * sum(_elements(a) for a in args)):
            raise Unsupported(f"a constant of {size} elements made from few")
        return True

    def _is_constant(self, arg: relax.Expr) -> bool:
        return not isinstance(arg, relax.Var) or arg in self._constant

    def open(self) -> None:
        """Begin a branch."""
        self._scopes.append([])

    def close(self, value: Any) -> relax.SeqExpr:
        """End the branch, which gives this value."""
        body = self.emit(packed(value)) if isinstance(value, tuple) else value
        return relax.SeqExpr([relax.BindingBlock(self._scopes.pop())], body)

    def branch(self, cond: relax.Expr, yes: relax.SeqExpr, no: relax.SeqExpr) -> relax.Expr:
        """Bind an If."""
        self.branches = True
        return self.emit(relax.If(cond, yes, no))

    def function(
        self, params: list[relax.Var], value: Any, attrs: dict[str, Any]
    ) -> relax.Function:
        """The function of everything that was bound."""
        self.origins = ()
        body = self.emit(packed(value)) if isinstance(value, tuple) else value
        block = relax.BindingBlock(self._scopes[0])
        func = relax.Function(params, relax.SeqExpr([block], body), body.ty)
        return func.with_attrs(attrs)


def identifier(name: str, taken: set[str]) -> str:
    """The name with everything but letters, digits and _ replaced, unlike those that are taken."""
    base = re.sub(r"\W", "_", name, flags=re.ASCII) or "input"
    base = f"input_{base}" if base[0].isdigit() else base
    found, k = base, 0
    while found in taken:
        k += 1
        found = f"{base}_{k}"
    taken.add(found)
    return found
