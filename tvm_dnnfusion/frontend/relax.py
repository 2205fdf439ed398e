"""Relax in: a Relax function becomes the graph of the ECG (`to_relax.py` is the way back).

The first step of the pipeline for every frontend. Only the bridge knows both sides: the graph holds
plain values, and what has no plain form (control flow, calls of other functions, symbolic shapes)
becomes a barrier whose Relax expression is kept here, in `Imported.opaque`, and emitted again
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

import tvm
import tvm_ffi
from tvm import relax

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Lit, Op, Ref, Tensor, refs
from tvm_dnnfusion.frontend.origins import origins_of

Value = Union[str, tuple["Value", ...]]
"""What a Relax variable stands for: a tensor's name, or a tuple of values."""


@dataclass(frozen=True)
class Opaque:
    """An expression that the graph holds as a barrier: the Relax value and its free variables."""

    expr: Any
    free: tuple[tuple[Any, Value], ...]
    pure: bool
    cast: Any = None  # the type of a MatchCast


@dataclass(frozen=True)
class Imported:
    """A Relax function as a graph, with what is needed to write it back.

    `result` is the structure of the returned value over positions in `graph.outputs`.
    """

    module: tvm.IRModule
    function: str
    graph: Graph
    opaque: Mapping[str, Opaque]
    params: tuple[tuple[Any, Value], ...]
    result: Any
    attrs: Mapping[str, Any]


def from_relax(mod: tvm.IRModule, function: str = "main") -> Imported:
    """The graph of one Relax function.

    Parameters
    ----------
    mod : IRModule with that function; any mix of dataflow blocks, control flow and calls.
    function : its name.

    Raises
    ------
    ValueError if the module has no such Relax function.
    """
    found = [gv for gv in mod.get_global_vars() if gv.name_hint == function]
    if not found or not isinstance(mod[found[0]], relax.Function):
        names = [gv.name_hint for gv, f in mod.functions.items() if isinstance(f, relax.Function)]
        raise ValueError(f"the module has no Relax function {function!r}; it has {names}")
    reader = _Reader()
    func = mod[found[0]]
    params = tuple((p, reader.param(p)) for p in func.params)
    for block in func.body.blocks:
        for binding in block.bindings:
            reader.binding(binding)
    outputs: list[str] = []
    result = reader.result(func.body.body, outputs)
    graph = Graph(
        reader.tensors, tuple(reader.ops), tuple(reader.inputs), tuple(outputs), reader.constants
    )
    return Imported(
        mod, function, graph.check(), reader.opaque, params, result, dict(func.attrs or {})
    )


def plain(value: Any) -> Attr:
    """A TVM attribute as a plain value. Raises TypeError when it has none (a symbolic extent)."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
        return value.value
    if isinstance(value, (list, tuple)) or type(value).__name__ in ("Array", "ShapeTuple", "Shape"):
        return tuple(plain(v) for v in value)
    if type(value).__name__ in ("dtype", "DataType", "PrimType", "StringImm"):
        return (
            str(getattr(value, "value", value))
            if type(value).__name__ == "StringImm"
            else str(getattr(value, "dtype", value))
        )
    raise TypeError(f"no plain form of {type(value).__name__}: {value}")


@dataclass
class _Reader:
    """Walks the bindings of a function and collects the graph."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    opaque: dict[str, Opaque] = field(default_factory=dict)
    env: dict[Any, Value] = field(default_factory=dict)
    const_names: dict[Any, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    extents: dict[Any, str] = field(default_factory=dict)  # symbolic extent -> the cast defining it

    def fresh(self, base: str) -> str:
        name, k = base, 0
        while name in self.names:
            k += 1
            name = f"{base}_{k}"
        self.names.add(name)
        return name

    def declare(self, base: str, ty: Any) -> Value:
        """New tensors of a Relax type; a tuple of tensors becomes several."""
        if isinstance(ty, relax.TupleType):
            return tuple(self.declare(f"{base}.{i}", f) for i, f in enumerate(ty.fields))
        name = self.fresh(base)
        self.tensors[name] = _record(name, ty)
        return name

    def param(self, var: Any) -> Value:
        value = self.declare(var.name, var.ty)
        self.env[var] = value
        self.inputs.extend(_flat(value))
        return value

    def constant(self, const: Any) -> str:
        if const not in self.const_names:
            data = const.value.numpy()
            name = self.fresh(f"const_{len(self.const_names)}")
            self.const_names[const] = name
            self.tensors[name] = Tensor(name, tuple(data.shape), str(const.value.dtype))
            self.constants[name] = data
        return self.const_names[const]

    def alias(self, value: Any) -> Value | None:
        """The value of an expression that makes nothing new, or None."""
        if isinstance(value, relax.Var):
            return self.env.get(value)  # None: a symbolic extent
        if _is_tensor_constant(value):
            return self.constant(value)
        if isinstance(value, relax.Tuple):
            fields = [self.alias(f) for f in value.fields]
            return (
                None
                if any(f is None for f in fields)
                else tuple(f for f in fields if f is not None)
            )
        if isinstance(value, relax.TupleGetItem):
            source = self.alias(value.tuple_value)
            return source[value.index] if isinstance(source, tuple) else None
        return None

    def binding(self, binding: Any) -> None:
        value = binding.value
        cast = binding.ty if isinstance(binding, relax.MatchCast) else None
        known = self.alias(value) if cast is None else None
        if known is not None:
            self.env[binding.var] = known
            return
        args = _call_args(self, value) if cast is None else None
        outputs = self.declare(binding.var.name, binding.var.ty)
        self.env[binding.var] = outputs
        # an op is named as its first output: one name less to know when reading a plan
        name = (_flat(outputs) or (self.fresh(binding.var.name),))[0]
        origins = origins_of(value)
        if args is not None and not any(isinstance(o, tuple) for o in outputs):
            kind = value.op.name.removeprefix("relax.")
            op = Op(
                name,
                kind,
                args,
                _flat(outputs),
                _attrs(value.attrs),
                origins,
                barrier=self.static_barrier(args, _flat(outputs)),
            )
            self.ops.append(op)
            return
        self.add_opaque(name, value, outputs, origins, cast)

    def static_barrier(self, args: tuple[Arg, ...], outputs: tuple[str, ...]) -> str | None:
        for t in (*refs(args), *outputs):
            record = self.tensors[t]
            if record.dtype and not record.is_static:
                return "SYMBOLIC_SHAPE"
            if not record.dtype:
                return "NOT_A_TENSOR"
        return None

    def add_opaque(
        self, name: str, value: Any, outputs: Value, origins: tuple[str, ...], cast: Any
    ) -> None:
        free = tuple((v, self.env[v]) for v in relax.analysis.free_vars(value) if v in self.env)
        args = tuple(Ref(t) for _, v in free for t in _flat(v))
        used = _extents(value) if cast is None else [*_extents(value), *_extents(cast)]
        defined = dict.fromkeys(self.extents[v] for v in used if v in self.extents)
        # an extent that a cast defined must be there before: the graph knows it as one more input
        args += tuple(Ref(t) for t in defined)
        if cast is not None:
            for v in _extents(cast):
                self.extents.setdefault(v, _flat(outputs)[0])
        kind, barrier = _opaque_kind(value, cast)
        self.ops.append(Op(name, kind, args, _flat(outputs), (), origins, barrier=barrier))
        self.opaque[name] = Opaque(value, free, _is_pure(value), cast)

    def result(self, body: Any, outputs: list[str]) -> Any:
        """Structure of the returned value; appends its tensors to `outputs`.

        What is no tensor and reads none (a number, a shape) stands in it as the expression.
        """
        value = self.alias(body)
        if value is None and isinstance(body, relax.Tuple):
            return tuple(self.result(field, outputs) for field in body.fields)
        if value is None:
            return body

        def walk(v: Value) -> Any:
            if isinstance(v, tuple):
                return tuple(walk(x) for x in v)
            outputs.append(v)
            return len(outputs) - 1

        return walk(value)


def _extents(node: Any) -> list[Any]:
    """The symbolic extents that an expression or a type mentions."""
    found: dict[Any, None] = {}

    def visit(x: Any) -> None:
        if isinstance(x, tvm.ir.Var) and not isinstance(x.ty, (relax.TensorType, relax.TupleType)):
            found[x] = None

    tvm_ffi.structural_walk(node, visit)
    return list(found)


def _flat(value: Value) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(t for v in value for t in _flat(v))


def _record(name: str, ty: Any) -> Tensor:
    if not isinstance(ty, relax.TensorType):
        return Tensor(name, None, "")
    dtype = str(getattr(ty.dtype, "dtype", ty.dtype) or "")
    if ty.shape is None or not isinstance(ty.shape, relax.ShapeExpr):
        return Tensor(name, None, dtype)
    dims = tuple(int(d) if isinstance(d, tvm.tirx.IntImm) else str(d) for d in ty.shape.values)
    return Tensor(name, dims, dtype)


def _is_tensor_constant(value: Any) -> bool:
    return isinstance(value, tvm.ir.Constant) and isinstance(value.ty, relax.TensorType)


def _is_pure(value: Any) -> bool:
    if isinstance(value, relax.If):
        return False  # an If may not stand in a dataflow block
    if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op):
        flag = value.op.get_attr("FPurity")
        return flag is None or bool(flag)
    return not isinstance(value, relax.Call)


def _opaque_kind(value: Any, cast: Any) -> tuple[str, str]:
    if cast is not None:
        return "match_cast", "SYMBOLIC_SHAPE"
    if isinstance(value, relax.If):
        return "if", "CONTROL_FLOW"
    if isinstance(value, relax.Call):
        op = value.op
        if isinstance(op, tvm.ir.Op):
            kind = op.name.removeprefix("relax.")
            return kind, "OPAQUE_CALL" if kind.startswith("call_") else "SYMBOLIC_SHAPE"
        return "call", "OPAQUE_CALL"
    return type(value).__name__.lower(), "NOT_A_TENSOR"


def _call_args(reader: _Reader, value: Any) -> tuple[Arg, ...] | None:
    """The arguments of an operator call in plain form, or None when some have none."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return None
    if not value.op.name.startswith("relax.") or not _is_pure(value) or value.ty_args:
        return None
    args = [_arg(reader, a) for a in value.args]
    if any(a is None for a in args):
        return None
    try:
        _attrs(value.attrs)
    except TypeError:
        return None
    return tuple(a for a in args if a is not None)


def _arg(reader: _Reader, arg: Any) -> Arg | None:
    if isinstance(arg, relax.Tuple):
        fields = [_arg(reader, f) for f in arg.fields]
        return None if any(f is None for f in fields) else tuple(f for f in fields if f is not None)
    known = reader.alias(arg)
    if known is not None:
        return Ref(known) if isinstance(known, str) else _tuple_ref(known)
    if isinstance(arg, relax.ShapeExpr):
        if all(isinstance(d, tvm.tirx.IntImm) for d in arg.values):
            return Lit("shape", tuple(int(d) for d in arg.values))
        return None
    if isinstance(arg, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
        return Lit(str(getattr(arg.ty, "dtype", arg.ty)), arg.value)
    if isinstance(arg, tvm.ir.StringImm):
        return Lit("str", str(arg.value))
    return None


def _tuple_ref(value: Value) -> Arg:
    return Ref(value) if isinstance(value, str) else tuple(_tuple_ref(v) for v in value)


def _attrs(attrs: Any) -> tuple[tuple[str, Attr], ...]:
    if attrs is None:
        return ()
    info = getattr(type(attrs), "__tvm_ffi_type_info__", None)
    if info is None:
        raise TypeError(f"no fields in {type(attrs).__name__}")
    return tuple(sorted((f.name, plain(getattr(attrs, f.name))) for f in info.fields))
