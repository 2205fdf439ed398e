"""Integers of 8 and 16 bits on GPUs: remainders and choices in forms that OpenCL compilers take.

TVM lowers a floored remainder or quotient to a `Select`, which it writes as OpenCL's `select` with
a condition of 32 bits: with operands of other widths that call is ambiguous, and does not compile.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

_NARROW = ("int8", "int16")
_WIDE = ("int64", "uint64", "float64")


def _dtype(x: Any) -> str:
    return str(getattr(x.ty, "dtype", x.ty))


def _widened(make: Any) -> Any:
    """The operation in 32 bits where it is of fewer."""

    def widen(node: Any) -> Any:
        dtype = _dtype(node)
        if dtype not in _NARROW:
            return node
        return make(node.a.astype("int32"), node.b.astype("int32")).astype(dtype)

    return widen


def _choice(dtypes: tuple[str, ...]) -> Any:
    """A choice between operands of such types as a condition."""

    def condition(node: Any) -> Any:
        if _dtype(node) not in dtypes:
            return node
        return tirx.if_then_else(node.condition, node.true_value, node.false_value)

    return condition


def _folds(func: Any) -> bool:
    """Whether a block folds: TVM knows the combiner of an argmax by its choices between int64."""
    found: list[bool] = []
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: found.append(b.init is not None))])
    return any(found)


def narrow_integers(func: Any) -> Any:
    """The function with such operations in 32 bits, and other choices as conditions."""
    dtypes = (*_NARROW, "uint8", "uint16", *(() if _folds(func) else _WIDE))
    rules = [
        (tirx.FloorMod, _widened(tirx.floormod)),
        (tirx.FloorDiv, _widened(tirx.floordiv)),
        (tirx.Select, _choice(dtypes)),
    ]
    return func.with_body(tvm_ffi.structural_map(func.body, rules))
