"""Adaptive average pooling to any size: windows that differ by one element, as folds of one length.

    out[i] = mean(x[i n / o : ceil((i + 1) n / o)])
->  sum[i] = sum_{k < most} (x[i n / o + k] where that is in the window, else 0);  out = sum / count
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen.stages import Stages, zero
from tvm_dnnfusion.codegen.value import Body, Index, Value


def adaptive_windows(stages: Stages, x: Value, shape: tuple[int, ...]) -> Value:
    """The means of x [N, C, *size] over the windows of `shape` [N, C, *out]."""
    size, out = x.shape[2:], shape[2:]
    rank = len(out)
    most = [max(_stop(i, n, o) - i * n // o for i in range(o)) for n, o in zip(size, out)]

    def tap(body: Body, index: Index) -> Any:
        inside: Any = tirx.const(True, "bool")
        where: list[Any] = []
        for i, k, n, o in zip(index[2:], index[2 + rank :], size, out):
            place = tirx.floordiv(i * n, o) + k
            inside = tirx.And(inside, place < _stop(i, n, o))
            where.append(place)
        return body.where(
            inside, lambda: body.read(x, (*index[:2], *where)), lambda: tirx.const(0, x.dtype)
        )

    def mean(body: Body, index: Index) -> Any:
        count: Any = 1
        for i, n, o in zip(index[2:], size, out):
            count = count * (_stop(i, n, o) - tirx.floordiv(i * n, o))
        return body.read(total, (*index, *(0,) * rank)) / tirx.Cast(x.dtype, count)

    folded = tuple(range(2 + rank, 2 + 2 * rank))
    total = stages.reduce(Value((*shape, *most), x.dtype, tap), folded, te.sum, zero)
    return Value(shape, x.dtype, mean)


def _stop(i: Any, size: int, out: int) -> Any:
    """Where window number i ends."""
    return ((i + 1) * size + out - 1) // out
