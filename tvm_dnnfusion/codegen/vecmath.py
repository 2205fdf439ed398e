"""Transcendental functions that vectorise, as operators of their own.

TVM lowers exp, tanh, erf and log to scalar calls of libm, which take 10 to 35 times longer than the
rest of a fused kernel. Here each is an operator `dnnfusion.<name>` that stands for straight-line
float32 arithmetic (`polynomials`) and is written out only at the very end, when loops are vectors
already (TVM's LowerIntrin). Until then an element is one call however deep functions nest, so that
schedules, simplification and code size do not grow with them; and no pass that takes floats for
reals sees the arithmetic. Other dtypes keep TVM's intrinsics.

Importing this module registers the operators; doing so again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.ir import _ffi_api as ir_api

from tvm_dnnfusion.codegen import native, polynomials
from tvm_dnnfusion.codegen.polynomials_neon import NeonForm

_PREFIX = "dnnfusion."
_PURE = 1  # CallEffectKind::kPure

ULP: Mapping[str, float] = {
    "exp": 1.2, "expm1": 1.8, "log": 1.0, "tanh": 2.6, "erf": 5.0, "sigmoid": 2.5, "silu": 2.6,
    "softplus": 2.1, "mish": 3.6, "tanh_softplus": 3.4, "sinh": 2.4, "cosh": 1.6, "gelu": 3.5,
    "gelu_tanh": 2.5,
}  # fmt: skip
"""Largest error over all of float32, in units of the last place of the exact result (2**-149 below
2**-126), with and without fused multiply-add. For those of `TAIL`: from that argument on."""

TAIL: Mapping[str, float] = {"gelu": -1.0, "gelu_tanh": -1.0, "silu": -88.0}
"""Below this argument, where x Phi(x) fades, the error is bounded by 2**-22 |x| instead, which is
what 1 + erf(x / sqrt 2) in float32 gives; that of silu by 1e-36."""

_FORMS: Mapping[str, Callable[..., Any]] = {
    name: getattr(polynomials, name) for name in (*ULP, "log_add_exp")
}


def dtype_of(expr: Any) -> str:
    """The dtype of a TIR expression."""
    return str(getattr(expr.ty, "dtype", expr.ty))


def _lowering(
    form: Callable[..., Any], kind: type[polynomials.Form] = polynomials.Form
) -> Callable[[Any], Any]:
    def lower(call: Any) -> Any:
        m = kind(call)
        return m.close(form(m, *(m.let(a) for a in call.args)))

    return lower


def _register() -> None:
    known = set(map(str, tvm.ir.Op.list_op_names()))
    lowered = tvm.get_global_func("tirx.RegisterOpLowerIntrinsic")
    for name, form in _FORMS.items():
        full = _PREFIX + name
        if full in known:
            continue
        ir_api.RegisterOp(full, (form.__doc__ or name).splitlines()[0])  # type: ignore[attr-defined]
        op = tvm.ir.Op.get(full)
        op.set_num_inputs(2 if name == "log_add_exp" else 1)
        op.set_attr("TCallEffectKind", _PURE)
        op.set_attr("TVectorizable", True)
        op.set_attr("TScriptPrinterName", full)
        lowered(full, _lowering(form), "default", 10)
        lowered(full, _lowering(form, NeonForm), "llvm.aarch64", 10)


_register()
native.register()


def _call(name: str, *args: Any) -> Any:
    return tirx.call_intrin(dtype_of(args[0]), _PREFIX + name, *args)


def _is(expr: Any, name: str) -> bool:
    return isinstance(expr, tvm.ir.Call) and getattr(expr.op, "name", "") == _PREFIX + name


def _c(value: float, like: Any) -> Any:
    return tirx.const(value, dtype_of(like))


def _float32(x: Any) -> bool:
    return dtype_of(x) == "float32"


def exp(x: Any) -> Any:
    """e**x."""
    return _call("exp", x) if _float32(x) else tirx.exp(x)


def expm1(x: Any) -> Any:
    """e**x - 1, without cancellation where x is small (float32)."""
    return _call("expm1", x) if _float32(x) else tirx.exp(x) - _c(1, x)


def log(x: Any) -> Any:
    """The natural logarithm."""
    return _call("log", x) if _float32(x) else tirx.log(x)


def tanh(x: Any) -> Any:
    """tanh(x); of softplus(x) as one function."""
    if not _float32(x):
        return tirx.tanh(x)
    return _call("tanh_softplus", x.args[0]) if _is(x, "softplus") else _call("tanh", x)


def _widened(fn: Callable[[Any], Any], x: Any) -> Any:
    """fn(x) of a 16-bit float, computed in float32: libm has no erf for it."""
    return tirx.Cast(dtype_of(x), fn(tirx.Cast("float32", x)))


def erf(x: Any) -> Any:
    """erf(x)."""
    if dtype_of(x) in _HALVES:
        return _widened(erf, x)
    return _call("erf", x) if _float32(x) else tirx.erf(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x)."""
    return _call("sigmoid", x) if _float32(x) else tirx.sigmoid(x)


def silu(x: Any) -> Any:
    """x / (1 + e**-x)."""
    return _call("silu", x) if _float32(x) else x * tirx.sigmoid(x)


def gelu(x: Any) -> Any:
    """x Phi(x)."""
    if dtype_of(x) in _HALVES:
        return _widened(gelu, x)
    if _float32(x):
        return _call("gelu", x)
    return x * _c(0.5, x) * (_c(1, x) + tirx.erf(x * _c(0.7071067811865476, x)))


def gelu_tanh(x: Any) -> Any:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3)))."""
    if _float32(x):
        return _call("gelu_tanh", x)
    inner = _c(0.7978845608028654, x) * (x + _c(0.044715, x) * x * x * x)
    return _c(0.5, x) * x * (_c(1, x) + tirx.tanh(inner))


def softplus(x: Any) -> Any:
    """ln(1 + e**x)."""
    if _float32(x):
        return _call("softplus", x)
    return tirx.max(x, _c(0, x)) + tirx.log(_c(1, x) + tirx.exp(-tirx.abs(x)))


def log_add_exp(a: Any, b: Any) -> Any:
    """ln(e**a + e**b)."""
    if _float32(a):
        return _call("log_add_exp", a, b)
    top = tirx.max(a, b)
    return top + tirx.log(tirx.exp(a - top) + tirx.exp(b - top))


def cosh(x: Any) -> Any:
    """cosh(x)."""
    return _call("cosh", x) if _float32(x) else (tirx.exp(x) + tirx.exp(-x)) * _c(0.5, x)


def sinh(x: Any) -> Any:
    """sinh(x); the float64 form loses relative accuracy near 0."""
    return _call("sinh", x) if _float32(x) else (tirx.exp(x) - tirx.exp(-x)) * _c(0.5, x)


def multiply(a: Any, b: Any) -> Any:
    """a * b; of x and tanh(softplus(x)) as mish(x)."""
    for x, y in ((a, b), (b, a)):
        if _is(y, "tanh_softplus") and _same(y.args[0], x):
            return _call("mish", x)
    return a * b


def _same(a: Any, b: Any) -> bool:
    """Whether two expressions are one variable, or loads of one element of a stage."""
    if a.same_as(b):
        return True
    if not (isinstance(a, tvm.ir.Call) and isinstance(b, tvm.ir.Call) and a.op.same_as(b.op)):
        return False
    (x, *here), (y, *there) = a.args, b.args
    if not (isinstance(x, te.Tensor) and x.same_as(y) and len(here) == len(there)):
        return False
    return all(tvm_ffi.structural_equal(i, k) for i, k in zip(here, there))


_HALVES = frozenset({"float16", "bfloat16"})

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
