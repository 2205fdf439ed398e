"""Ops that make elements from their index alone: constants, triangles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Graph, Lit, Op

Dims = tuple[int, ...]


def _splat(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value:
    """zeros, ones, full and their *_like forms: one element everywhere."""
    dtype = graph.tensors[op.output].dtype
    if "full" not in op.kind:
        number = tirx.const(0 if "zeros" in op.kind else 1, dtype)
        return Value(shape, dtype, lambda body, index: number, resident=True)
    fill = inputs[-1]
    cast = (lambda x: x) if fill.dtype == dtype else (lambda x: tirx.Cast(dtype, x))
    return Value(shape, dtype, lambda body, index: cast(body.read(fill, (0,) * len(fill.shape))))


def _triangle(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """tril(x, k), triu(x, k): x where column - row is at most, or at least, k; else 0."""
    diagonal = op.args[1] if len(op.args) > 1 else Lit("int64", 0)
    if not isinstance(diagonal, Lit):
        return None
    source, k = inputs[0], int(diagonal.value)  # type: ignore[arg-type]
    zero = tirx.const(0, source.dtype)

    def at(body: Body, index: Index) -> Any:
        x = body.read(source, index)
        offset = index[-1] - index[-2]
        if isinstance(offset, int):
            return x if (offset <= k if op.kind == "tril" else offset >= k) else zero
        return tirx.Select(offset <= k if op.kind == "tril" else offset >= k, x, zero)

    return Value(shape, source.dtype, at)


KINDS: Mapping[str, Callable[[Op, list[Value], Dims, Graph], Value | None]] = {
    **dict.fromkeys(("zeros", "ones", "full", "zeros_like", "ones_like", "full_like"), _splat),
    "tril": _triangle, "triu": _triangle,
}  # fmt: skip
