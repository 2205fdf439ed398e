"""The way back: a graph becomes a Relax function.

`FunctionWriter` emits one op at a time, so that lowering can replace some of them by kernel calls;
`to_relax` emits them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.ecg.graph import Arg, Graph, GraphError, Lit, Op, Ref, Tensor
from tvm_dnnfusion.frontend.origins import with_origins
from tvm_dnnfusion.frontend.relax import Imported, Value


def to_relax(imported: Imported, graph: Graph) -> tvm.IRModule:
    """The module with its function replaced by `graph`.

    The graph may have been rewritten; barriers are emitted as they were, over the new variables.
    Function attributes, parameters and the structure of the result are kept.
    """
    writer = FunctionWriter(imported, graph)
    for op in graph.ops:
        writer.op(op)
    return writer.finish()


def graph_to_relax(graph: Graph, function: str = "main") -> tvm.IRModule:
    """A module with this graph as its only function; it cannot hold kept Relax expressions.

    Raises GraphError naming an op whose Relax expression the graph does not hold.
    """
    return to_relax(stand_alone(graph, function), graph)


def stand_alone(graph: Graph, function: str = "main") -> Imported:
    """What `from_relax` would give for a function that is just this graph."""
    params = tuple((relax.Var(_hint(t), _type(graph.tensors[t])), t) for t in graph.inputs)
    count = len(graph.outputs)
    result = 0 if count == 1 else tuple(range(count))
    return Imported(tvm.IRModule(), function, graph, {}, params, result, {})


def _type(record: Tensor) -> Any:
    return relax.TensorType(record.dims, record.dtype)


class FunctionWriter:
    """Emits a function into a copy of the module, in the order in which it is told to."""

    def __init__(self, imported: Imported, graph: Graph):
        self.imported, self.graph = imported, graph
        self.builder = relax.BlockBuilder()
        self.env: dict[str, Any] = {}
        self.added: dict[str, Any] = {}  # functions that the new one calls, by name
        self.globals: dict[str, Any] = {}
        self.pending: list[tuple[str, Callable[[], Any]]] = []
        self.pure = all(o.pure for n, o in imported.opaque.items() if n in graph.by_name)

    def op(self, op: Op) -> None:
        """Emit one op as it is."""
        self.emit(op.outputs, lambda: self._expr(op), op)

    def emit(self, outputs: tuple[str, ...], expr: Callable[[], Any], op: Op | None = None) -> None:
        """Emit an expression that makes these tensors; evaluated when the function is written."""
        self.pending.append((op.name if op else outputs[0], lambda: self._bind(outputs, expr, op)))

    def value(self, tensor: str) -> Any:
        """The Relax expression of a tensor that has been emitted, or of a constant."""
        if tensor not in self.env:
            if tensor not in self.graph.constants:
                raise GraphError(f"{tensor} is read before it is made")
            self.env[tensor] = constant(self.graph.constants[tensor], self.graph.tensors[tensor])
        return self.env[tensor]

    def finish(self, result: Callable[[str], Any] | None = None) -> tvm.IRModule:
        """Write the function and return the module. `result` gives the expression of an output."""
        name, old = self.imported.function, self.imported.module
        others = {gv: f for gv, f in old.functions.items() if gv.name_hint != name}
        own = next((gv for gv in old.functions if gv.name_hint == name), None)
        source = old[own] if own is not None else None
        self.builder = relax.BlockBuilder(tvm.IRModule(others))
        for key, added in self.added.items():
            self.globals[key] = self.builder.add_func(added, key)
        params = [var for var, _ in self.imported.params]
        with self.builder.function(
            name,
            params,
            attrs=dict(self.imported.attrs),
            pure=source is None or bool(source.is_pure),
            private=source is not None and "global_symbol" not in self.imported.attrs,
        ):
            if self.pure:
                with self.builder.dataflow():
                    out = self.builder.emit_output(self._body(result))
            else:
                out = self._body(result)
            self.builder.emit_func_output(out)
        # callers, the function itself among them, know it by the variable that it had
        new = {own if own is not None and gv.name_hint == name else gv: f
               for gv, f in self.builder.get().functions.items()}  # fmt: skip
        return tvm.IRModule(new, attrs=old.attrs)

    def _body(self, result: Callable[[str], Any] | None) -> Any:
        for param, value in self.imported.params:
            self._bind_value(param, value)
        for _, step in self.pending:
            step()
        get = result or self.value
        return _structure(self.imported.result, [get(t) for t in self.graph.outputs])

    def _bind_value(self, expr: Any, value: Value) -> None:
        if isinstance(value, str):
            self.env[value] = expr
            return
        for i, v in enumerate(value):
            self._bind_value(relax.TupleGetItem(expr, i), v)

    def _bind(self, outputs: tuple[str, ...], expr: Callable[[], Any], op: Op | None) -> None:
        value = expr()
        opaque = self.imported.opaque.get(op.name) if op else None
        if opaque is not None and opaque.cast is not None:
            var = self.builder.match_cast(value, opaque.cast, name_hint=outputs[0])
        else:
            value = with_origins(value, *op.origins) if op and op.origins else value
            # an op that is only an effect (assert_op, print) makes nothing
            hint = outputs[0] if outputs else op.name if op else ""
            var = self.builder.emit(value, name_hint=_hint(hint))
        if isinstance(var.ty, relax.TupleType):
            for i, t in enumerate(outputs):
                self.env[t] = self.builder.emit(relax.TupleGetItem(var, i), name_hint=_hint(t))
        else:
            self.env[outputs[0]] = var

    def _expr(self, op: Op) -> Any:
        opaque = self.imported.opaque.get(op.name)
        if opaque is None and op.kind in ("if", "call", "match_cast"):
            raise GraphError(f"op {op.name} ({op.kind}): its Relax expression is not at hand")
        if opaque is None:
            return call(op, [self.arg(a) for a in op.args])
        position = iter(op.inputs)  # rewriting may have renamed what the barrier reads
        remap = {var: self._rebuild(value, position) for var, value in opaque.free}
        return substitute(opaque.expr, remap)

    def _rebuild(self, value: Value, names: Any) -> Any:
        if isinstance(value, str):
            return self.value(next(names))
        return relax.Tuple([self._rebuild(v, names) for v in value])

    def arg(self, arg: Arg) -> Any:
        """An argument as a Relax expression."""
        if isinstance(arg, Ref):
            return self.value(arg.tensor)
        if isinstance(arg, tuple):
            return relax.Tuple([self.arg(a) for a in arg])
        return literal(arg)


def literal(lit: Lit) -> Any:
    """A `Lit` as Relax passes it."""
    if lit.kind == "shape":
        return relax.ShapeExpr(list(lit.value))  # type: ignore[arg-type]
    if lit.kind == "str":
        return tvm.ir.StringImm(lit.value)
    if lit.kind.startswith("float"):
        return tvm.tirx.FloatImm(lit.kind, float(lit.value))  # type: ignore[arg-type]
    return tvm.tirx.IntImm(lit.kind, int(lit.value))  # type: ignore[arg-type]


def constant(data: Any, record: Tensor) -> Any:
    """A constant tensor as Relax holds it."""
    return relax.const(tvm.runtime.tensor(data), record.dtype)


def call(op: Op, args: list[Any]) -> Any:
    """The Relax call of an op, from its kind, arguments and plain attributes."""
    relax_op = tvm.ir.Op.get(f"relax.{op.kind}")
    key = relax_op.attrs_type_key or _UNREGISTERED.get(op.kind, "")
    attrs = tvm.ir.make_node(key, **{k: _attr(k, v) for k, v in op.attrs}) if op.attrs else None
    return relax.Call(relax_op, args, attrs)


# Operators whose registration in TVM 0.27 does not name their attributes' type.
_UNREGISTERED = {
    **dict.fromkeys(
        ("sum", "mean", "max", "min", "prod", "variance", "std", "median"),
        "relax.attrs.StatisticalAttrs",
    ),
    **dict.fromkeys(("argmax", "argmin"), "relax.attrs.ArgmaxArgminAttrs"),
    **dict.fromkeys(("tril", "triu"), "relax.attrs.TriluAttrs"),
    "matmul": "relax.attrs.MatmulAttrs",
}

# Attributes that Relax holds as 64-bit PrimExpr although their value is a plain number.
_PRIM = {"indices_or_sections"}


def _attr(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        wrap = tvm.tirx.IntImm if name in _PRIM else None
        return [wrap("int64", v) if wrap else _attr(name, v) for v in value]
    if name in _PRIM and isinstance(value, int):
        return tvm.tirx.IntImm("int64", value)
    return value


def _hint(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name)


def _structure(shape: Any, values: list[Any]) -> Any:
    if isinstance(shape, int):
        return values[shape]
    if not isinstance(shape, tuple):
        return shape
    return relax.Tuple([_structure(s, values) for s in shape])


def substitute(expr: Any, remap: Mapping[Any, Any]) -> Any:
    """The expression over other variables (free variables only; bindings inside stay)."""
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Renamer(PyExprMutator):
        def visit_var_(self, op: Any) -> Any:
            return remap.get(op, op)

        def visit_dataflow_var_(self, op: Any) -> Any:
            return remap.get(op, op)

    return Renamer().visit_expr(expr)
