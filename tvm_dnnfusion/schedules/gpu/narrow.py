"""Narrow integers and truth values on GPUs, in forms that mean in OpenCL C what TIR means.

OpenCL C computes operands of fewer than 32 bits in 32, and TVM writes no cast after it:

    float32(a + b)        of uint8, 250 + 10 is 260    ->  float32(uint8(int32(a) + int32(b)))
    float32(a < b)        of vectors, true is -1       ->  float32(select(a < b, 1, 0))
    a < 5 ? a : 7         of int8                      ->  int32(a) < 5 ? a : 7

In the last, TVM's simplifier makes a floored quotient of the comparison, and of that a `Select`,
written as OpenCL's `select` with operands of two widths: the call is ambiguous, and does not
compile. Choices between other than 32 bits are therefore conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock

_NARROW = ("int8", "int16", "uint8", "uint16")
_WIDE = ("int64", "uint64", "float64")
_UNSIGNED = ("uint32", "uint64")

_ARITHMETIC: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
    (tirx.Add, lambda a, b: a + b), (tirx.Sub, lambda a, b: a - b),
    (tirx.Mul, lambda a, b: a * b), (tirx.Div, tirx.truncdiv), (tirx.Mod, tirx.truncmod),
    (tirx.FloorDiv, tirx.floordiv), (tirx.FloorMod, tirx.floormod),
    (tirx.LShift, lambda a, b: a << b),
)  # fmt: skip

_COMPARISONS = (tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE)


def _dtype(x: Any) -> str:
    return str(getattr(x.ty, "dtype", x.ty))


def _wide(x: Any) -> Any:
    """A narrow integer in 32 bits, in which its sums, and products of 16 bits, do not overflow."""
    return x.astype("uint32" if _dtype(x) == "uint16" else "int32")


def _arithmetic(make: Callable[[Any, Any], Any]) -> Any:
    """The operation in 32 bits where it is of fewer, and its result as narrow as it was."""

    def widen(node: Any) -> Any:
        dtype = _dtype(node)
        return make(_wide(node.a), _wide(node.b)).astype(dtype) if dtype in _NARROW else node

    return widen


def _inverted(node: Any) -> Any:
    """The inverse of bits, which has bits beyond a narrow operand's."""
    return (~_wide(node.a)).astype(_dtype(node)) if _dtype(node) in _NARROW else node


def _comparison(kind: Any) -> Any:
    def compare(node: Any) -> Any:
        if _dtype(node.a) not in _NARROW:
            return node
        return kind(node.a.astype("int32"), node.b.astype("int32"))

    return compare


def _number(node: Any) -> Any:
    """A truth value as a number: 1, which OpenCL's vectors do not have."""
    source, made = tvm.DataType(_dtype(node.value)), tvm.DataType(_dtype(node))
    if not _is_truth(source) or _is_truth(made):
        return node
    direct = made.bits == 32
    dtype = str(made) if direct else "int32" + str(made)[len(str(made).split("x")[0]) :]
    one, zero = tirx.const(1, dtype), tirx.const(0, dtype)
    found = tirx.Select(node.value, one, zero)
    return found if direct else found.astype(str(made))


def _bound(node: Any) -> Any:
    """A truth value that has a name, as a number: vectors of truth have no type in OpenCL C."""
    if not _is_truth(_dtype(node.var)):
        return node
    number = tirx.Var(node.var.name, "int32")
    truth = tirx.NE(number, tirx.const(0, "int32"))

    def read(var: Any) -> Any:
        return truth if var.same_as(node.var) else var

    value = tirx.Select(node.value, tirx.const(1, "int32"), tirx.const(0, "int32"))
    return tirx.Let(number, value, tvm_ffi.structural_map(node.body, [(tirx.Var, read)]))


def _is_truth(dtype: Any) -> bool:
    return str(dtype).split("x")[0] == "bool"


def _choice(dtypes: tuple[str, ...]) -> Any:
    """A choice between operands of such types as a condition."""

    def condition(node: Any) -> Any:
        if _dtype(node) not in dtypes:
            return node
        return tirx.if_then_else(_opaque(node.condition), node.true_value, node.false_value)

    return condition


def _opaque(condition: Any) -> Any:
    """The condition, out of sight of TVM's regions where it compares unsigned integers.

    Those are found by subtraction, in which the passes make unsigned constants below zero and fail.
    """
    found: list[Any] = []
    rules = [(k, lambda n: found.append(n) if _dtype(n.a) in _UNSIGNED else None)
             for k in _COMPARISONS]  # fmt: skip
    tvm_ffi.structural_walk(condition, rules)
    return tirx.call_pure_extern("bool", "convert_int", condition) if found else condition


def _loop(node: Any) -> Any:
    """Vectors of truth values as elements: in memory true is 1, and there is no load of them."""
    if node.kind != tirx.ForKind.VECTORIZED:
        return node
    truths: list[Any] = []

    def access(x: Any) -> None:
        source = getattr(x, "source", None)
        buffer = x.buffer if source is None else source
        truths.extend([x] if _is_truth(buffer.ty.dtype) else [])

    tvm_ffi.structural_walk(node.body, [(TensorLoad, access), (tirx.BufferStore, access)])
    if not truths:
        return node
    kind = tirx.ForKind.UNROLLED
    return tirx.For(node.loop_var, node.min, node.extent, kind, node.body, None, node.annotations)


def _folds(func: Any) -> bool:
    """Whether a block folds: TVM knows the combiner of an argmax by its choices between int64."""
    found: list[bool] = []
    tvm_ffi.structural_walk(func.body, [(SBlock, lambda b: found.append(b.init is not None))])
    return any(found)


def narrow_integers(func: Any) -> Any:
    """The function with narrow arithmetic in 32 bits, truth as 1, other choices as conditions."""
    dtypes = (*_NARROW, *(() if _folds(func) else _WIDE))
    rules = [
        *((kind, _arithmetic(make)) for kind, make in _ARITHMETIC),
        *((kind, _comparison(kind)) for kind in _COMPARISONS),
        (tirx.BitwiseNot, _inverted),
        (tirx.Cast, _number),
        (tirx.Let, _bound),
        (tirx.For, _loop),
        (tirx.Select, _choice(dtypes)),
    ]
    return func.with_body(tvm_ffi.structural_map(func.body, rules))
