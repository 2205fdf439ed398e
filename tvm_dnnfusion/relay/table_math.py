"""Rows for elementwise operators and reductions.

log2(x)            = log(x) / ln 2
trunc_mod(a, b)    = a - b * trunc(a / b)
reduce(exclude)    = reduce over the axes that are not named
variance(x, mean)  = mean((x - mean)^2), times n / (n - 1) where it is unbiased
"""

from __future__ import annotations

import math
from typing import Any

from tvm import relax
from tvm.ir import GenericConst

from tvm_dnnfusion.relay.entry import Call, Entry, Unsupported, Value, identity, relax_op, same

UNARY = (
    "abs acos acosh asin asinh atan atanh bitwise_not ceil cos cosh erf exp floor isfinite isinf "
    "isnan log logical_not negative rsqrt sigmoid sign sin sinh sqrt tan tanh trunc nn.relu "
    "zeros_like ones_like"
).split()
BINARY = (
    "add bitwise_and bitwise_or bitwise_xor equal greater "
    "greater_equal left_shift less less_equal logical_and logical_or logical_xor maximum minimum "
    "multiply not_equal power right_shift subtract where"
).split()
DIVISIONS = ("divide", "floor_divide", "floor_mod", "mod")
IDENTITY = {
    "copy": "",
    "on_device": "OnDeviceAttrs",
    "device_copy": "DeviceCopyAttrs",
    "annotation.checkpoint": "",
    "annotation.stop_fusion": "",
    "annotation.bitpack_start": "",
    "annotation.bitpack_end": "",
    "annotation.cast_hint": "CastHintAttrs",
    "annotation.compiler_begin": "CompilerAttrs",
    "annotation.compiler_end": "CompilerAttrs",
}
PLACE = dict.fromkeys(
    ("virtual_device", "constrain_result", "constrain_body", "src_virtual_device",
     "dst_virtual_device", "compiler", "dtype"),
    "where it runs is not kept",
)  # fmt: skip


def _log(base: float) -> Any:
    def make(call: Call) -> Value:
        scale = call.scalar(1.0 / math.log(base), call.x)
        return call.do("multiply", call.do("log", call.x), scale)

    return make


def _round(call: Call) -> Value:
    """Half away from zero, as Relay's; Relax's goes to the even neighbour."""
    if not call.dtype(call.x).startswith(("float", "bfloat")):
        return call.x
    return round_half_away(call, call.x)


def round_half_away(call: Call, x: relax.Expr) -> relax.Expr:
    """trunc(x) + sign(x) where the part cut off is at least one half."""
    whole = call.do("trunc", x)
    rest = call.do("abs", call.do("subtract", x, whole))
    far = call.do("greater_equal", rest, call.scalar(0.5, x))
    step = call.do("multiply", call.do("astype", far, call.dtype(x)), call.do("sign", x))
    return call.do("add", whole, step)


def _trunc_divide(call: Call) -> Value:
    """Towards zero: Relax's division of integers does so by itself."""
    quotient = _whole_division("divide")(call)
    if call.dtype(call.x).startswith(("float", "bfloat")):
        return call.do("trunc", quotient)
    return quotient


def _trunc_mod(call: Call) -> Value:
    if not call.dtype(call.x).startswith(("float", "bfloat")):
        return _whole_division("mod")(call)
    return call.do("subtract", call.x, call.do("multiply", _trunc_divide(call), call.args[1]))


def _whole_division(op: str) -> Any:
    """A constant divisor of integers must not be 0: folding the constants would divide by it."""

    def make(call: Call) -> Value:
        divisor = call.args[1]
        whole = not call.dtype(call.x).startswith(("float", "bfloat"))
        if whole and isinstance(divisor, GenericConst) and not divisor.value.numpy().all():
            raise Unsupported("an integer is divided by 0")
        return call.do(op, *call.args)

    return make


def _clip(call: Call) -> Value:
    dtype = call.dtype(call.x)
    low, high = float(call.attrs["a_min"]), float(call.attrs["a_max"])
    whole = not dtype.startswith(("float", "bfloat"))
    x = call.x
    if low > -math.inf:
        x = call.do("maximum", x, call.scalar(math.ceil(low) if whole else low, x))
    if high < math.inf:
        x = call.do("minimum", x, call.scalar(math.floor(high) if whole else high, x))
    if low > -math.inf and high < math.inf and low <= high and not whole:
        return call.emit(relax.op.clip(call.x, relax.prim_value(low), relax.prim_value(high)))
    return x


def _cast(call: Call) -> Value:
    return call.do("astype", call.x, call.attrs["dtype"])


def _cast_like(call: Call) -> Value:
    return call.do("astype", call.x, call.dtype(call.args[1]))


def reduced_axes(call: Call) -> list[int]:
    """The axes that a reduction sums over: all but the named ones where `exclude` is set."""
    rank = call.rank(call.x)
    named = call.get("axis", ())
    named = (named,) if isinstance(named, int) else named
    if any(not -rank <= a < rank for a in named):
        raise Unsupported(f"axis {named} of {rank} axes")
    axes = sorted({a % rank for a in named})
    if call.get("exclude", False):
        return [a for a in range(rank) if a not in axes]
    return axes or list(range(rank))


def _reduce(op: str) -> Any:
    def make(call: Call) -> Value:
        axes = reduced_axes(call)
        if not axes:
            return call.x
        return call.emit(relax_op(op)(call.x, axes, bool(call.get("keepdims", False))))

    return make


def _truth(op: str) -> Any:
    """all is the minimum, any the maximum of zeros and ones."""

    def make(call: Call) -> Value:
        axes = reduced_axes(call)
        numbers = call.do("astype", call.x, "int32")
        found = call.emit(relax_op(op)(numbers, axes, bool(call.get("keepdims", False))))
        return call.do("astype", found, "bool")

    return make


def _arg(op: str) -> Any:
    """Indices as int32; a reduction over several axes counts through them as if flattened."""

    def make(call: Call) -> Value:
        axes, keep = reduced_axes(call), bool(call.get("keepdims", False))
        x, dims = call.x, call.rank(call.x)
        if len(axes) == 1:
            found = call.emit(relax_op(op)(x, axes[0], keep))
        elif len(axes) == dims:
            found = call.emit(relax_op(op)(x, None, keep))
        else:
            raise Unsupported("it reduces over several axes, and not over all")
        return call.do("astype", found, "int32")

    return make


def _variance(call: Call) -> Value:
    axes, keep = reduced_axes(call), bool(call.get("keepdims", False))
    x, mean = call.args
    if call.rank(mean) != call.rank(x):
        kept = [1 if i in axes else d for i, d in enumerate(call.dims(x))]
        mean = call.do("reshape", mean, kept)
    centred = call.do("subtract", x, mean)
    found = call.do("mean", call.do("multiply", centred, centred), axes, keep)
    if not call.get("unbiased", False):
        return found
    count = math.prod(call.dims(x)[a] for a in axes)
    return call.do("multiply", found, call.scalar(count / (count - 1), x))


def _scan(op: str) -> Any:
    def make(call: Call) -> Value:
        axis, dtype = call.get("axis"), call.get("dtype")
        exclusive = bool(call.get("exclusive", False))
        return call.emit(relax_op(op)(call.x, axis, dtype or None, exclusive))

    return make


def _fixed_point(call: Call) -> Value:
    """round(x * multiplier * 2^(shift - 31)), upwards at ties, in 64-bit integers."""
    factor, shift = int(call.attrs["multiplier"]), int(call.attrs["shift"])
    return fixed_point_multiply(
        call, call.x, call.const(factor, "int64"), call.const(shift, "int64")
    )


def fixed_point_multiply(
    call: Call, x: relax.Expr, factor: relax.Expr, shift: relax.Expr
) -> relax.Expr:
    """x [int32] scaled by factor * 2^(shift - 31); factor and shift are constants, int64."""
    data = shift.value.numpy()
    left, right = data.clip(min=0), 31 - data.clip(max=0)
    wide = call.do("astype", x, "int64")
    if left.any():
        wide = call.do("left_shift", wide, call.const(left, "int64"))
    wide = call.do("multiply", wide, factor)
    wide = call.do("add", wide, call.const(1 << (right - 1), "int64"))
    return call.do("astype", call.do("right_shift", wide, call.const(right, "int64")), "int32")


_REDUCE = ("axis", "keepdims", "exclude")
_ALIASES = {"fast_exp": "exp", "fast_erf": "erf", "fast_tanh": "tanh"}

ENTRIES: tuple[Entry, ...] = (
    *(same(name) for name in UNARY),
    *(same(name) for name in BINARY),
    *(Entry(name, name, _whole_division(name)) for name in DIVISIONS),
    *(same(old, new, note="the exact function") for old, new in _ALIASES.items()),
    *(
        Entry(name, "its operand", identity, struct, ignored=PLACE, note="")
        for name, struct in IDENTITY.items()
    ),
    Entry("trunc_divide", "divide; trunc", _trunc_divide),
    Entry("trunc_mod", "mod; subtract, multiply, trunc, divide", _trunc_mod),
    Entry("log2", "log, multiply", _log(2.0)),
    Entry("log10", "log, multiply", _log(10.0)),
    Entry("round", "trunc, sign, add, ...", _round, note="halves away from zero; Relax: to even"),
    Entry("clip", "clip; maximum, minimum", _clip, "ClipAttrs", used=("a_min", "a_max")),
    Entry("cast", "astype", _cast, "CastAttrs", used=("dtype",)),
    Entry("cast_like", "astype", _cast_like),
    Entry("fixed_point_multiply", "astype, multiply, right_shift", _fixed_point,
          "FixedPointMultiplyAttrs", used=("multiplier", "shift")),
    *(
        Entry(name, name, _reduce(name), "ReduceAttrs", used=_REDUCE)
        for name in ("sum", "mean", "max", "min", "prod")
    ),
    Entry("all", "min of int32", _truth("min"), "ReduceAttrs", used=_REDUCE),
    Entry("any", "max of int32", _truth("max"), "ReduceAttrs", used=_REDUCE),
    *(
        Entry(name, f"{name}, astype", _arg(name), "ArgReduceAttrs", used=_REDUCE,
              must={"select_last_index": (False,)}, note="indices are int32; Relax: int64")
        for name in ("argmax", "argmin")
    ),
    Entry("variance", "subtract, multiply, mean", _variance, "VarianceAttrs",
          used=(*_REDUCE, "unbiased"), note="Relay takes the mean as an operand"),
    *(
        Entry(name, name, _scan(name), "ScanopAttrs", used=("axis", "dtype", "exclusive"))
        for name in ("cumsum", "cumprod")
    ),
)  # fmt: skip
"""The rows of this file."""
