"""Names of the source layers, carried by Relax expressions in their spans.

A frontend writes the name of the layer that an expression came from as the source name of its
span; TVM's passes keep the span of an expression that they keep. An expression made of several
layers has a `SequentialSpan`. Reading and writing cost one walk over the function.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax
from tvm.ir import SequentialSpan, SourceName, Span

Origins = tuple[str, ...]


def span_of(*names: str) -> Span | SequentialSpan | None:
    """The span that carries these layer names, in order and without repetitions."""
    spans = [Span(SourceName(name), 0, 0, 0, 0) for name in dict.fromkeys(names) if name]
    if not spans:
        return None
    return spans[0] if len(spans) == 1 else SequentialSpan(spans)


def names_in(span: Span | SequentialSpan | None) -> Origins:
    """The layer names in a span: () for none."""
    if span is None:
        return ()
    if isinstance(span, SequentialSpan):
        return tuple(dict.fromkeys(name for part in span.spans for name in names_in(part)))
    return (str(span.source_name.name),)


def origins_of(expr: relax.Expr) -> Origins:
    """Names of the source layers that an expression came from, () where it carries none.

    A Function gives those of all its bindings, in order.
    """
    if isinstance(expr, relax.Function):
        values = (b.value for block in _blocks(expr.body) for b in block.bindings)
        return tuple(dict.fromkeys(name for v in values for name in origins_of(v)))
    return names_in(getattr(expr, "span", None))


def with_origins(expr: relax.Expr, *names: str) -> relax.Expr:
    """The expression with these names; calls, tuple items and branchings can carry them."""
    span = span_of(*names)
    if isinstance(expr, relax.Call):
        ty = getattr(expr, "ty", None)
        return relax.Call(expr.op, expr.args, expr.attrs, expr.ty_args, span, ty)
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(expr.tuple_value, expr.index, span)
    if isinstance(expr, relax.If):
        return relax.If(expr.cond, expr.true_branch, expr.false_branch, span)
    return expr


def stamp_tree(expr: relax.Expr, name: str) -> relax.Expr:
    """Write the name on an expression that is not bound yet, and on what is nested in it."""
    if isinstance(expr, relax.Call) and not origins_of(expr):
        args = [stamp_tree(arg, name) for arg in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args, span_of(name))
    if isinstance(expr, relax.TupleGetItem) and not origins_of(expr):
        return relax.TupleGetItem(stamp_tree(expr.tuple_value, name), expr.index, span_of(name))
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([stamp_tree(field, name) for field in expr.fields])
    return expr


def map_bindings(
    func: relax.Function, change: Callable[[relax.Var, relax.Expr], relax.Expr | None]
) -> relax.Function:
    """The function with each bound value replaced by `change(var, value)`; None drops it.

    Variables stay the same objects. Branches of an `If` are left to `change`.
    """
    blocks = [_map_block(block, change) for block in _blocks(func.body)]
    body = relax.SeqExpr(blocks, func.body.body)
    return relax.Function(func.params, body, func.ret_ty, func.is_pure, func.attrs, func.span)


def _map_block(
    block: relax.BindingBlock, change: Callable[[relax.Var, relax.Expr], relax.Expr | None]
) -> relax.BindingBlock:
    bindings = []
    for binding in block.bindings:
        value = change(binding.var, binding.value)
        if value is None:
            continue
        if isinstance(binding, relax.MatchCast):
            bindings.append(relax.MatchCast(binding.var, value, binding.ty, binding.span))
        else:
            bindings.append(relax.VarBinding(binding.var, value, binding.span))
    kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
    return kind(bindings)


def _blocks(body: relax.Expr) -> tuple[relax.BindingBlock, ...]:
    return tuple(body.blocks) if isinstance(body, relax.SeqExpr) else ()
