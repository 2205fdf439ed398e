"""Rows for quantised operators, by the integer arithmetic that Relay's own lowering uses.

    quantize     clip(round(x / scale) + zero_point)
    dequantize   (q - zero_point) * scale
    requantize   (q - z_in) times s_in / s_out as m 2^e, m of 31 bits, in 64-bit integers; + z_out
    conv, dense  sum((q - z_q) * (w - z_w)) in int32: what is padded with is z_q, which becomes 0

Exact: each step is on integers, or is the step that Relay takes in float32. Operators that Relay
computes by a table of another library's roundings (qnn.sigmoid and its like) are not taken.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax

from tvm_dnnfusion.relay.entry import Call, Entry, Unsupported, Value, along, constant
from tvm_dnnfusion.relay.table_math import fixed_point_multiply, round_half_away
from tvm_dnnfusion.relay.table_nn import UNTUNED, conv, widened

_LIMITS = {name: np.iinfo(name) for name in ("int8", "uint8", "int16", "uint16", "int32")}


def _narrow(call: Call, x: relax.Expr, dtype: str) -> relax.Expr:
    """x [float32 or int32] clamped to an integer type, and cast."""
    if dtype not in _LIMITS:
        raise Unsupported(f"out_dtype is {dtype}")
    if dtype != "int32" or call.dtype(x) != "int32":
        limits = _LIMITS[dtype]
        x = call.do("maximum", x, call.scalar(limits.min, x))
        x = call.do("minimum", x, call.scalar(limits.max, x))
    return call.do("astype", x, dtype)


def _quantize(call: Call) -> Value:
    x, scale, zero = call.args
    axis = call.axis(x, default=-1) if call.rank(x) else 0
    scale, zero = along(call, scale, x, axis), along(call, zero, x, axis)
    rounded = round_half_away(call, call.do("divide", x, scale))
    shifted = call.do("add", rounded, call.do("astype", zero, "float32"))
    return _narrow(call, shifted, call.get("out_dtype") or "int8")


def _dequantize(call: Call) -> Value:
    x, scale, zero = call.args
    axis = call.axis(x, default=-1) if call.rank(x) else 0
    centred = _centred(call, x, along(call, zero, x, axis))
    made = call.do("multiply", call.do("astype", centred, "float32"), along(call, scale, x, axis))
    wanted = call.get("out_dtype") or "float32"
    if wanted not in ("float32", "float16"):
        raise Unsupported(f"out_dtype is {wanted}")
    return made if wanted == "float32" else call.do("astype", made, wanted)


def _centred(call: Call, x: relax.Expr, zero: relax.Expr) -> relax.Expr:
    wide = call.do("astype", x, "int32")
    return call.do("subtract", wide, call.do("astype", zero, "int32"))


def multiplier(scale: float) -> tuple[int, int]:
    """scale = m 2^(e - 31) with m of 31 bits: (m, e)."""
    if scale == 0.0:
        return 0, 0
    fraction, exponent = math.frexp(scale)
    whole = math.floor(abs(fraction) * 2.0**31 + 0.5)
    return (whole // 2, exponent + 1) if whole == 1 << 31 else (whole, exponent)


def requantize(
    call: Call,
    x: relax.Expr,
    zero: relax.Expr,
    scales: tuple[np.ndarray, np.ndarray],
    out_zero: relax.Expr,
    axis: int,
) -> relax.Expr:
    """x [int8 to int32] of one scale and zero point, in another's, as int32."""
    old, new = (np.asarray(s, "float32").ravel().astype("float64") for s in scales)
    if new.size != 1:
        raise Unsupported("a scale per channel of the result")
    made = _centred(call, x, along(call, zero, x, axis))
    if not (old.size == 1 and old[0] == new[0]):
        pairs = [multiplier(s / new[0]) for s in old]
        rank = call.rank(x)
        shape = [len(pairs) if a == axis else 1 for a in range(rank)] if len(pairs) > 1 else []
        factor, shift = (np.array(column, "int64").reshape(shape) for column in zip(*pairs))
        made = fixed_point_multiply(call, made, constant(factor), constant(shift))
    return call.do("add", made, call.do("astype", out_zero, "int32"))


def _scales(call: Call, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    return call.known(first, "the scale"), call.known(second, "the result's scale")


def _requantize(call: Call) -> Value:
    x, _, zero, _, out_zero = call.args
    axis = call.axis(x, default=-1) if call.rank(x) else 0
    made = requantize(call, x, zero, _scales(call, 1, 3), out_zero, axis)
    return _narrow(call, made, call.get("out_dtype") or "int8")


def _sum(sign: str) -> Any:
    """Both operands in the result's scale: q = a' + b' - z, or a' - b' + z."""

    def make(call: Call) -> Value:
        a, b, _, a_zero, _, b_zero, _, zero = call.args
        left = requantize(call, a, a_zero, _scales(call, 2, 6), zero, _axis(call, a, "lhs_axis"))
        right = requantize(call, b, b_zero, _scales(call, 4, 6), zero, _axis(call, b, "rhs_axis"))
        centre = call.do("astype", zero, "int32")
        if sign == "add":
            made = call.do("subtract", call.do("add", left, right), centre)
        else:
            made = call.do("add", call.do("subtract", left, right), centre)
        return _narrow(call, made, call.dtype(a))

    return make


def _axis(call: Call, x: relax.Expr, name: str) -> int:
    return call.axis(x, name, -1) if call.rank(x) else 0


def _mul(call: Call) -> Value:
    a, b, _, a_zero, _, b_zero, _, zero = call.args
    product = call.do("multiply", _centred(call, a, a_zero), _centred(call, b, b_zero))
    (left, new), (right, _) = _scales(call, 2, 6), _scales(call, 4, 6)
    scale = np.asarray(left, "float32") * np.asarray(right, "float32")
    none = call.const(0, "int32")
    made = requantize(call, product, none, (scale, new), zero, max(0, call.rank(product) - 1))
    return _narrow(call, made, call.dtype(a))


def _conv2d(call: Call) -> Value:
    x, w, zero, kernel_zero = call.args[:4]
    if call.rank(zero) or call.rank(kernel_zero):
        raise Unsupported("a zero point per channel")
    return conv(call, _centred(call, x, zero), _centred(call, w, kernel_zero), 2)


def _product(call: Call) -> Value:
    """qnn.dense and qnn.batch_matmul: the second operand is transposed."""
    x, w, zero, kernel_zero = call.args[:4]
    if call.rank(zero) or call.rank(kernel_zero):
        raise Unsupported("a zero point per channel")
    x, w = widened(call, _centred(call, x, zero), _centred(call, w, kernel_zero))
    rank = call.rank(w)
    turned = call.do("permute_dims", w, [*range(rank - 2), rank - 1, rank - 2])
    return call.do("matmul", x, turned)


def _concatenate(call: Call) -> Value:
    parts, scales, zeros, out_scale, out_zero = call.args
    axis = call.axis(parts[0])
    new = _constant(out_scale)
    made = [
        requantize(call, part, zero, (_constant(scale), new), out_zero, axis)
        for part, scale, zero in zip(parts, scales, zeros, strict=True)
    ]
    narrow = [_narrow(call, m, call.dtype(p)) for m, p in zip(made, parts, strict=True)]
    return call.do("concat", narrow, axis)


def _constant(value: Any) -> np.ndarray:
    if not hasattr(value, "value"):
        raise Unsupported("a scale is not a constant")
    return value.value.numpy()


_DEFAULTS = ("", "None")
_WORKED = ("strides", "padding", "dilation", "groups", "data_layout", "kernel_layout",
           "out_layout", "out_dtype")  # fmt: skip
_SAID = {"channels": "the weight says it", "kernel_size": "the weight says it"}

ENTRIES: tuple[Entry, ...] = (
    Entry("qnn.quantize", "divide, trunc, add, maximum, minimum, astype", _quantize,
          "QuantizeAttrs", used=("out_dtype", "axis")),
    Entry("qnn.dequantize", "astype, subtract, multiply", _dequantize, "DequantizeAttrs",
          used=("out_dtype", "axis")),
    Entry("qnn.requantize", "multiply, right_shift of int64", _requantize, "RequantizeAttrs",
          used=("axis", "out_dtype"),
          must={"rounding": ("UPWARD", *_DEFAULTS), "compute_dtype": ("int64", *_DEFAULTS)},
          note="scales must be constants"),
    *(
        Entry(f"qnn.{name}", f"as qnn.requantize, {name}", _sum(name), "BroadcastAttrs",
              used=("lhs_axis", "rhs_axis"), note="scales must be constants")
        for name in ("add", "subtract")
    ),
    Entry("qnn.mul", "multiply, as qnn.requantize", _mul, "BroadcastAttrs",
          ignored=dict.fromkeys(("lhs_axis", "rhs_axis"), "one scale"),
          note="scales must be constants"),
    Entry("qnn.conv2d", "astype, subtract, nn.conv2d of int32", _conv2d, "Conv2DAttrs",
          used=_WORKED, ignored=_SAID, must=UNTUNED),
    Entry("qnn.dense", "astype, subtract, matmul of int32", _product, "DenseAttrs",
          used=("out_dtype",), ignored={"units": "the weight says it"}, must=UNTUNED),
    Entry("qnn.batch_matmul", "astype, subtract, matmul of int32", _product, "BatchMatmulAttrs",
          used=("out_dtype",), must={**UNTUNED, "transpose_a": (False,), "transpose_b": (True,)}),
    Entry("qnn.concatenate", "as qnn.requantize, concat", _concatenate, "ConcatenateAttrs",
          used=("axis",), note="scales must be constants"),
)  # fmt: skip
"""The rows of this file."""
