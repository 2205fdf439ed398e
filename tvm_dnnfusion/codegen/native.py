"""Functions in OpenCL's own words: exp, tanh, erf and the like are built into its compilers.

The operators of `vecmath` become polynomials on CPUs, where libm's functions are slow; a GPU has
exp and log in hardware, and vendors' compilers hold good forms of the others (OpenCL 1.2, section
7.4: exp and log within 3 units of the last place, tanh 5, erf 16). Bits become numbers by as_float:
TVM 0.27 writes the address of a value instead, which is not C where the value has none.

`vecmath` registers these lowerings, for targets of kind "opencl" only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import tirx

_NAMES = {"float32": "float", "int32": "int", "float16": "half", "int16": "short",
          "uint32": "uint", "uint16": "ushort", "float64": "double", "int64": "long"}  # fmt: skip


def _extern(name: str, x: Any, *others: Any) -> Any:
    return tirx.call_pure_extern(_dtype(x), name, x, *others)


def _dtype(x: Any) -> str:
    return str(getattr(x.ty, "dtype", x.ty))


def _c(value: float, like: Any) -> Any:
    return tirx.const(value, _dtype(like))


def _sigmoid(x: Any) -> Any:
    return _c(1, x) / (_c(1, x) + tirx.exp(_c(0, x) - x))


def _softplus(x: Any) -> Any:
    small = tirx.exp(_c(0, x) - _extern("fabs", x))
    return tirx.max(x, _c(0, x)) + _extern("log1p", small)


def _tanh_softplus(x: Any) -> Any:
    return tirx.tanh(_softplus(x))


def _gelu(x: Any) -> Any:
    # erfc keeps its accuracy where 1 + erf(x) fades
    return x * _c(0.5, x) * _extern("erfc", x * _c(-0.7071067811865476, x))


def _gelu_tanh(x: Any) -> Any:
    inner = _c(0.7978845608028654, x) * (x + _c(0.044715, x) * x * x * x)
    return _c(0.5, x) * x * (_c(1, x) + tirx.tanh(inner))


def _log_add_exp(a: Any, b: Any) -> Any:
    top: Any = tirx.max(a, b)
    low: Any = tirx.min(a, b)
    return top + _extern("log1p", tirx.exp(low - top))


FORMS: Mapping[str, Callable[..., Any]] = {
    "exp": tirx.exp, "log": tirx.log, "tanh": tirx.tanh, "erf": tirx.erf,
    "expm1": lambda x: _extern("expm1", x), "sinh": lambda x: _extern("sinh", x),
    "cosh": lambda x: _extern("cosh", x), "sigmoid": _sigmoid, "silu": lambda x: x * _sigmoid(x),
    "softplus": _softplus, "tanh_softplus": _tanh_softplus,
    "mish": lambda x: x * _tanh_softplus(x), "gelu": _gelu, "gelu_tanh": _gelu_tanh,
    "log_add_exp": _log_add_exp,
}  # fmt: skip
"""By the name of the operator of `vecmath`."""


# TVM writes them with C's suffix for float (acosf), which OpenCL C does not know.
_OWN_NAMES = ("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "tan")


def as_type(call: Any) -> Any:
    """reinterpret(x) -> as_float(x), of vectors as_float4(x)."""
    made = tvm.DataType(_dtype(call))
    scalar = _dtype(call).split("x")[0]
    if scalar not in _NAMES:
        return call
    lanes = made.lanes if made.lanes > 1 else ""
    return tirx.call_pure_extern(_dtype(call), f"as_{_NAMES[scalar]}{lanes}", call.args[0])


def register() -> None:
    """Register the lowerings; doing so again changes nothing."""
    lowered = tvm.get_global_func("tirx.RegisterOpLowerIntrinsic")
    for name, form in FORMS.items():
        lowered(f"dnnfusion.{name}", lambda call, f=form: f(*call.args), "opencl", 11)
    for name in _OWN_NAMES:
        lowered(f"tirx.{name}", lambda call, n=name: _extern(n, *call.args), "opencl", 11)
    lowered("tirx.reinterpret", as_type, "opencl", 11)
