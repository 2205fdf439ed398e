"""float32 twins of float16 values: what folds rows is computed in float32, and narrowed last.

A sum of 12,000 elements about 6, or of the squares of 768 elements about 12, is more than float16
holds (65504), although their mean is not. So reductions, normalisations, softmax and attention work
on the twins of their operands, whether or not float32 sums were asked for, and hand on a value that
is narrowed where it is stored or read by something else:

    mean(x): float16   ->   narrow(sum(widen(x)) / n)
    sqrt(sum(x * x))   ->   narrow(sqrt(sum(widen(x) * widen(x))))

Arithmetic before such an op is computed in float32 as far as the op reads it (the squares of a
norm), and so is arithmetic on its result in the same kernel (the roots, the scale and shift of a
normalisation that came in parts). All other elementwise arithmetic stays in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.value import Body, Index, Value

SHORT = frozenset({"float16", "bfloat16"})
"""Floats whose sums overflow or round too soon."""

WIDE = "float32"

FOLDS = frozenset(
    "sum mean prod variance std nn.softmax nn.log_softmax nn.layer_norm nn.rms_norm"
    " nn.instance_norm nn.group_norm nn.batch_norm nn.attention nn.attention_bias"
    " nn.avg_pool1d nn.avg_pool2d nn.avg_pool3d"
    " nn.adaptive_avg_pool1d nn.adaptive_avg_pool2d nn.adaptive_avg_pool3d".split()
)
"""Kinds that are computed in float32. Maxima, minima and their indices are exact in float16."""

ARITHMETIC = frozenset(
    "add subtract multiply divide power square sqrt rsqrt abs negative exp log".split()
)
"""Kinds that a sum's terms and what becomes of the sum are made with: they have twins."""


def wide(value: Value) -> Value:
    """The value in float32; itself, if its type is not a short float. Counts as a reader."""
    if value.dtype not in SHORT:
        return value
    if value.wide is None:
        value.wide = _cast(value)
    value.wide.readers += 1
    return value.wide


def _cast(value: Value) -> Value:
    def at(body: Body, index: Index) -> Any:
        element = body.read(value, index)
        if isinstance(element, tirx.FloatImm):
            return tirx.const(element.value, WIDE)
        return tirx.Cast(WIDE, element)

    return Value(
        value.shape,
        WIDE,
        at,
        resident=value.resident,
        layout=value.layout,
        push=value.push,
        moved=value.moved,
        weight=value.weight,
    )


def narrow(value: Value, dtype: str) -> Value:
    """A value made from twins, as one of `dtype`; itself, if it is of that type."""
    if value.dtype == dtype:
        return value
    value.readers += 1
    return Value(
        value.shape,
        dtype,
        lambda body, index: tirx.Cast(dtype, body.read(value, index)),
        layout=value.layout,
        push=value.push,
        moved=value.moved,
        weight=value.weight,
        wide=value,
        narrowed=True,
    )


def with_twin(
    kind: str, inputs: list[Value], dtype: str, make: Callable[[list[Value], str], Value]
) -> Value:
    """The value of an elementwise op, with its twin where the kind has one.

    `make` gives the op's value over operands, in a dtype. Where an operand was narrowed, the result
    is the narrowed twin: the operand's float32 is still there.
    """
    if dtype not in SHORT or kind not in ARITHMETIC or any(v.dtype != dtype for v in inputs):
        return make(inputs, dtype)
    twin = make([wide(v) for v in inputs], WIDE)
    if any(v.narrowed for v in inputs):
        return narrow(twin, dtype)
    out = make(inputs, dtype)
    out.wide = twin
    return out
