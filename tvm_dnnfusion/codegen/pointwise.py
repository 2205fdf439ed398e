"""One-to-One ops as functions of elements.

Each entry maps the elements of the operands to the element of the result; broadcasting and dtypes
are handled by `elementwise`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import tirx

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.codegen.layout import PLAIN
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.codegen.vecmath import hidden
from tvm_dnnfusion.codegen.wide import with_twin
from tvm_dnnfusion.ecg.graph import Op


def _c(value: float, like: Any) -> Any:
    return tirx.const(value, vecmath.dtype_of(like))


def _relu(x: Any) -> Any:
    return tirx.max(x, _c(0, x))


# ln(1 + e**x) is x within half a unit of the last place of float32 from here on.
_LINEAR = 17.0


def _softplus(x: Any, op: Op) -> Any:
    beta, limit = float(op.attr("beta", 1.0)), float(op.attr("threshold", 20.0))  # type: ignore[arg-type]
    if beta == 1.0 and limit >= _LINEAR and vecmath.dtype_of(x) == "float32":
        return vecmath.softplus(x)
    soft = vecmath.softplus(x * _c(beta, x)) / _c(beta, x)
    return tirx.Select(x * _c(beta, x) > _c(limit, x), x, soft)


def _selu(x: Any) -> Any:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return tirx.Select(x > _c(0, x), _c(scale, x) * x, _c(scale * alpha, x) * vecmath.expm1(x))


def _sign(x: Any) -> Any:
    zero, one = _c(0, x), _c(1, x)
    if "uint" in vecmath.dtype_of(x):
        return tirx.Select(x > zero, one, zero)
    return tirx.Select(x > zero, one, tirx.Select(x < zero, zero - one, zero))


def _not(x: Any) -> Any:
    """The simplifier makes `not a < b` into `a >= b`, which is another thing where one is NaN."""
    return tirx.EQ(tirx.Cast("int32", x), tirx.const(0, "int32"))


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "abs": tirx.abs, "negative": lambda x: _c(0, x) - hidden(x), "square": lambda x: x * x,
    "sqrt": tirx.sqrt, "rsqrt": lambda x: _c(1, x) / tirx.sqrt(x), "log": vecmath.log,
    "ceil": tirx.ceil, "floor": tirx.floor, "round": tirx.nearbyint, "trunc": tirx.trunc,
    "sin": tirx.sin, "cos": tirx.cos, "tan": tirx.tan, "asin": tirx.asin, "acos": tirx.acos,
    "atan": tirx.atan, "sign": _sign,
    "logical_not": _not, "bitwise_not": lambda x: ~x if _is_int(x) else _not(x),
    "nn.relu": _relu, "asinh": tirx.asinh,
    "acosh": tirx.acosh, "atanh": tirx.atanh,
    "isnan": tirx.isnan, "isinf": tirx.isinf, "isfinite": tirx.isfinite,
}  # fmt: skip

TRANSCENDENTAL: Mapping[str, Callable[[Any], Any]] = {
    "exp": vecmath.exp, "tanh": vecmath.tanh, "erf": vecmath.erf, "sigmoid": vecmath.sigmoid,
    "sinh": vecmath.sinh, "cosh": vecmath.cosh, "nn.silu": vecmath.silu, "nn.gelu": vecmath.gelu,
    "nn.gelu_tanh": vecmath.gelu_tanh, "nn.selu": _selu,
}  # fmt: skip

# Kinds whose expression mentions its operand more than once: it is bound to a variable first.
REPEATS = frozenset({
    "square", "nn.selu", "sign", "nn.leakyrelu", "nn.prelu", "floor_mod", "power", "left_shift",
    "right_shift",
})  # fmt: skip


def _is_int(x: Any) -> bool:
    return "int" in vecmath.dtype_of(x)


def _number(x: Any) -> Any:
    """A boolean as a number: LLVM has no comparison of booleans here."""
    return tirx.Cast("int8", x) if vecmath.dtype_of(x) == "bool" else x


def _divide(a: Any, b: Any) -> Any:
    return tirx.truncdiv(a, b) if _is_int(a) else a / b


def _floor_mod(a: Any, b: Any) -> Any:
    return tirx.floormod(a, b) if _is_int(a) else a - tirx.floor(a / b) * b


def _power(a: Any, b: Any) -> Any:
    """a**b; exponents that are small multiples of 1/4 by products and square roots."""
    known = isinstance(b, tirx.FloatImm) and abs(b.value) in _POWERS
    if not known:
        return tirx.power(a, b)
    value = _POWERS[abs(b.value)](a)
    return value if b.value > 0 else _c(1, a) / value


def _three_quarters(a: Any) -> Any:
    root = tirx.sqrt(a)
    return root * tirx.sqrt(root)


_POWERS: Mapping[float, Callable[[Any], Any]] = {
    0.25: lambda a: tirx.sqrt(tirx.sqrt(a)), 0.5: tirx.sqrt, 0.75: _three_quarters,
    1.0: lambda a: a, 1.5: lambda a: a * tirx.sqrt(a), 2.0: lambda a: a * a,
    3.0: lambda a: a * a * a, 4.0: lambda a: (a * a) * (a * a),
}  # fmt: skip


def _shift(a: Any, b: Any, left: bool) -> Any:
    """a shifted by b bits; by less than none or by all of them, bits are lost and none come back.

    Machines differ there, and LLVM promises nothing: x86 and OpenCL take b modulo the width.
    """
    dtype = vecmath.dtype_of(a)
    width, signed = tvm.DataType(dtype).bits, dtype.startswith("int")
    unsigned: Any = tirx.Cast(f"uint{width}", b) if signed else b
    fits = unsigned < tirx.const(width, f"uint{width}")
    if signed and not left:  # the sign fills all bits
        return a >> tirx.Select(fits, b, _c(width - 1, b))
    within = b & _c(width - 1, b)
    return tirx.Select(fits, a << within if left else a >> within, _c(0, a))


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - hidden(b),
    "multiply": vecmath.multiply, "divide": _divide, "power": _power,
    "maximum": tirx.max, "minimum": tirx.min,
    "floor_divide": lambda a, b: tirx.floordiv(a, b) if _is_int(a) else tirx.floor(a / b),
    "equal": lambda a, b: tirx.EQ(_number(a), hidden(_number(b))),
    "not_equal": lambda a, b: tirx.NE(_number(a), hidden(_number(b))),
    "less": lambda a, b: a < b, "less_equal": lambda a, b: a <= hidden(b),
    "greater": lambda a, b: a > b, "greater_equal": lambda a, b: a >= hidden(b),
    "logical_and": lambda a, b: tirx.And(a, b), "logical_or": lambda a, b: tirx.Or(a, b),
    "logical_xor": lambda a, b: tirx.NE(_number(a), _number(b)),
    "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "mod": tirx.truncmod, "floor_mod": _floor_mod, "atan2": tirx.atan2,
    "log_add_exp": vecmath.log_add_exp,
    "left_shift": lambda a, b: _shift(a, b, left=True),
    "right_shift": lambda a, b: _shift(a, b, left=False),
}  # fmt: skip


def broadcast(index: Index, shape: tuple[int, ...]) -> Index:
    """The index into an operand of `shape` for an index of the (broadcast) result."""
    if len(shape) == 0:
        return ()
    tail = index[len(index) - len(shape) :]
    # identity is kept where nothing is broadcast, so that reads are recognised as equal
    return tuple(0 if n == 1 else i for i, n in zip(tail, shape))


def elementwise(
    op: Op, fn: Callable[..., Any], inputs: list[Value], shape: tuple[int, ...], dtype: str
) -> Value:
    """A value that applies `fn` to the elements of broadcast operands."""

    def at(body: Body, index: Index) -> Any:
        return fn(*(body.read(v, broadcast(index, v.shape)) for v in inputs))

    if op.kind in REPEATS:
        for v in inputs:
            v.readers += 1
    main = next((v for v in inputs if v.push and v.shape == shape), None)
    same = [v for v in inputs if v.shape == shape]
    layout = next((v.layout for v in same if v.layout.blocked), PLAIN)
    return Value(
        shape,
        dtype,
        at,
        layout=layout,
        push=main.push if main else None,
        moved=bool(main and main.moved),
    )


def clip(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """clip(x, min, max) with scalars as `Lit`."""
    low, high = (float(a.value) for a in op.args[1:3])  # type: ignore[union-attr]

    def bound(x: Any) -> Any:
        cast = float if "float" in dtype else int
        lower = x if low == float("-inf") else tirx.max(x, tirx.const(cast(low), dtype))
        return lower if high == float("inf") else tirx.min(lower, tirx.const(cast(high), dtype))

    return elementwise(op, bound, inputs[:1], shape, dtype)


def astype(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """astype(x): numpy's conversion; to bool it is x != 0."""

    def convert(x: Any) -> Any:
        source = vecmath.dtype_of(x)
        if source == dtype:
            return x
        return tirx.NE(x, tirx.const(0, source)) if dtype == "bool" else tirx.Cast(dtype, x)

    return elementwise(op, convert, inputs, shape, dtype)


def where(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """where(condition, x, y), all operands broadcast."""
    return elementwise(op, lambda c, a, b: tirx.Select(c, a, b), inputs, shape, dtype)


def leaky(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """leakyrelu(x; alpha)."""
    alpha = float(op.attr("alpha", 0.01))  # type: ignore[arg-type]
    return elementwise(
        op, lambda x: tirx.Select(x > _c(0, x), x, x * _c(alpha, x)), inputs, shape, dtype
    )


def prelu(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """prelu(x, slope; axis): slope is a vector along the axis, or one element."""
    axis = int(op.attr("axis", 1)) % len(shape)  # type: ignore[arg-type]
    data, slope = inputs
    data.readers += 1

    def at(body: Body, index: Index) -> Any:
        x = body.read(data, index)
        place = (0 if slope.shape == (1,) else index[axis],)
        return tirx.Select(x > _c(0, x), x, x * body.read(slope, place))

    return Value(shape, dtype, at)


def softplus(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value:
    """softplus(x; beta, threshold)."""
    return elementwise(op, lambda x: _softplus(x, op), inputs, shape, dtype)


SPECIAL: Mapping[str, Callable[[Op, list[Value], tuple[int, ...], str], Value]] = {
    "clip": clip, "astype": astype, "where": where, "nn.leakyrelu": leaky, "nn.prelu": prelu,
    "nn.softplus": softplus,
    "nn.dropout": lambda op, i, s, d: elementwise(op, lambda x: x, i, s, d),
}  # fmt: skip


def emit(op: Op, inputs: list[Value], shape: tuple[int, ...], dtype: str) -> Value | None:
    """The value of a One-to-One op, or None if it is not one that is known here."""
    fn = TRANSCENDENTAL.get(op.kind) or UNARY.get(op.kind)
    if fn is None and len(inputs) == 2:
        fn = BINARY.get(op.kind)
    if fn is not None:
        return with_twin(op.kind, inputs, dtype, lambda v, d: elementwise(op, fn, v, shape, d))
    special = SPECIAL.get(op.kind)
    return special(op, inputs, shape, dtype) if special else None


def weight(op: Op, inputs: list[Value]) -> int:
    """Loads in the expression of an op's element, when its operands' expressions are written out.

    TVM's simplifier puts expressions in place of the variables that stand for them, so an
    expression grows with every mention of an operand.
    """
    return sum(v.weight for v in inputs) * (2 if op.kind in REPEATS else 1)


# Heavier expressions are stored, so that what reads them loads them.
MAX_WEIGHT = 512
MAX_SHARED_WEIGHT = 128  # with several readers, which would each write it out

KINDS = frozenset(UNARY) | frozenset(TRANSCENDENTAL) | frozenset(BINARY) | frozenset(SPECIAL)
