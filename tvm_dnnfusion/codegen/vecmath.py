"""Transcendental functions as polynomials that vectorise.

TVM lowers exp, tanh and erf to scalar calls of libm, which take 10 to 35 times longer than the rest
of a fused kernel. These float32 forms are straight-line arithmetic. Other dtypes keep TVM's
intrinsics. Error bounds were measured against float64 over the range and stand with each function;
tests/codegen/test_vecmath.py holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tvm import tirx

_LOG2E = 1.4426950408889634
_LN2_HI, _LN2_LO = 0.693359375, -2.12194440e-4  # their sum is ln 2 to 40 bits (Cody, Waite 1980)
_EXP = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)  # Taylor, |r| <= ln(2)/2


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


def _poly(x: Any, coefficients: tuple[float, ...]) -> Any:
    acc = _f(coefficients[0])
    for c in coefficients[1:]:
        acc = acc * x + _f(c)
    return acc


def _let(value: Any, body: Callable[[Any], Any]) -> Any:
    var = tirx.Var("t", "float32")
    return tirx.Let(var, value, body(var))


def exp(x: Any) -> Any:
    """e**x, relative error below 1.5e-7, and below 1e-6 in the last half step, above 88.37.

    0 below -87.3, inf above 88.7; NaN stays NaN.
    """
    if x.ty.dtype != "float32":
        return tirx.exp(x)
    return _let(x, _exp)


def _exp(x: Any) -> Any:
    clipped = tirx.max(tirx.min(x, _f(88.72283)), _f(-87.33654))
    # 2**128 has no float32 form: the last half step is left to the polynomial
    scaled = tirx.min(tirx.floor(clipped * _f(_LOG2E) + _f(0.5)), _f(127.0))

    def assemble(n: Any) -> Any:
        rest = clipped - n * _f(_LN2_HI) - n * _f(_LN2_LO)
        bits = tirx.Cast("int32", n) + tirx.const(127, "int32")
        power = tirx.reinterpret("float32", bits << tirx.const(23, "int32"))
        value = _let(rest, lambda r: _poly(r, _EXP)) * power
        # min and max swallow NaN on some targets; the two ends keep libm's limits
        value = tirx.Select(x > _f(88.72283), tirx.const(float("inf"), "float32"), value)
        value = tirx.Select(x < _f(-87.33654), _f(0.0), value)
        return tirx.Select(tirx.isnan(x), x, value)

    return _let(scaled, assemble)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), relative error below 2e-7; below -87 it may be 0."""
    if x.ty.dtype != "float32":
        return tirx.sigmoid(x)
    return _f(1.0) / (_f(1.0) + exp(_f(0.0) - x))


def tanh(x: Any) -> Any:
    """tanh(x), absolute error below 1.5e-7, relative error below 3e-7.

    An odd polynomial below 0.25, else by exp(-2|x|).
    """
    if x.ty.dtype != "float32":
        return tirx.tanh(x)

    def both(v: Any) -> Any:
        size = tirx.Select(v < _f(0.0), _f(0.0) - v, v)
        decay = exp(size * _f(-2.0))
        large = _let(decay, lambda d: (_f(1.0) - d) / (_f(1.0) + d))
        signed = _let(large, lambda u: tirx.Select(v < _f(0.0), _f(0.0) - u, u))
        square = v * v
        small = v * _poly(square, (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0))
        return tirx.Select(size < _f(0.25), small, signed)

    return _let(x, both)


# Abramowitz and Stegun 7.1.26: erf(x) = 1 - (a1 t + ... + a5 t^5) e^(-x^2), t = 1 / (1 + p x).
_ERF_P = 0.3275911
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def erf(x: Any) -> Any:
    """erf(x), absolute error below 4e-7 (formula 7.1.26 and a Taylor polynomial below 0.5)."""
    if x.ty.dtype != "float32":
        return tirx.erf(x)

    def both(v: Any) -> Any:
        size = tirx.Select(v < _f(0.0), _f(0.0) - v, v)
        t = _f(1.0) / (_f(1.0) + _f(_ERF_P) * size)
        tail = _let(t, lambda u: _poly(u, _ERF) * u) * exp(_f(0.0) - size * size)
        large = _f(1.0) - tail
        signed = _let(large, lambda u: tirx.Select(v < _f(0.0), _f(0.0) - u, u))
        square = v * v
        series = tuple(
            1.1283791670955126 * c
            for c in (1 / 9360, -1 / 1320, 1 / 216, -1 / 42, 1 / 10, -1 / 3, 1.0)
        )
        small = v * _poly(square, series)
        return tirx.Select(size < _f(0.5), small, signed)

    return _let(x, both)


_SINH = tuple(1 / math.factorial(k) for k in range(17, 0, -2))  # Taylor, |x| < 1


def cosh(x: Any) -> Any:
    """cosh(x), relative error below 4e-7 in float32; LLVM has no form of it for vectors."""
    return _halves(x, lambda v, up, down: up + down)


def sinh(x: Any) -> Any:
    """sinh(x), relative error below 4e-7 in float32; LLVM has no form of it for vectors."""

    def both(v: Any, up: Any, down: Any) -> Any:
        zero, one = tirx.const(0, dtype_of(v)), tirx.const(1, dtype_of(v))
        square, series = v * v, zero
        for c in _SINH:
            series = series * square + tirx.const(c, dtype_of(v))
        large = tirx.Select(v < zero, down - up, up - down)
        return tirx.Select(tirx.And(v < one, v > zero - one), v * series, large)

    return _halves(x, both)


def _halves(x: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """`combine(x, e**|x| / 2, e**-|x| / 2)`, by e**(|x| / 2), which does not overflow early."""
    dtype = dtype_of(x)
    half = tirx.const(0.5, dtype)
    v, root = tirx.Var("v", dtype), tirx.Var("r", dtype)
    size = tirx.Select(v < tirx.const(0, dtype), tirx.const(0, dtype) - v, v)
    body = combine(v, (half * root) * root, half / (root * root))
    return tirx.Let(v, x, tirx.Let(root, exp(size * half), body))


# Integers of the width of a float, by its dtype.
_BITS = {"float16": "int16", "float32": "int32", "float64": "int64"}


def hidden(x: Any) -> Any:
    """The same number, in a form that TVM's simplifier cannot cancel; LLVM drops it.

    The simplifier takes floats for reals: it makes x - x zero and x == x true where x is NaN, and
    takes (x + c) - c for x, which is how rounding is written.
    """
    dtype = dtype_of(x)
    if dtype not in _BITS:
        return x
    return tirx.reinterpret(dtype, tirx.reinterpret(_BITS[dtype], x))


LIBRARY = SimpleNamespace(
    exp=tirx.exp,
    tanh=tirx.tanh,
    erf=tirx.erf,
    sigmoid=tirx.sigmoid,
    sinh=lambda x: (tirx.exp(x) - tirx.exp(-x)) * tirx.const(0.5, dtype_of(x)),
    cosh=lambda x: (tirx.exp(x) + tirx.exp(-x)) * tirx.const(0.5, dtype_of(x)),
)
"""The same functions as calls of TVM's intrinsics: slower by far, but short."""


def dtype_of(expr: Any) -> str:
    """The dtype of a TIR expression."""
    return str(getattr(expr.ty, "dtype", expr.ty))
