"""Elements under a window that may leave the image."""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.movement import both
from tvm_dnnfusion.codegen.value import Body, Index, Value

Dims = tuple[int, ...]


def bordered(
    x: Value,
    stride: Dims,
    dilation: Dims,
    before: Dims,
    outside: Any,
    body: Body,
    place: Index,
    taps: Index,
) -> Any:
    """The element of x [N, C, *size] under a tap at an output place, `outside` beyond the image.

    Rows (all axes but the last) have a condition of their own around that of the columns, so that
    a schedule can decide it once for all columns.
    """
    rows: Any = True
    columns: Any = True
    where: list[Any] = []
    for o, s, k, d, b, n in zip(place[2:], stride, taps, dilation, before, x.shape[2:]):
        at = body.simplify(o * s + k * d - b)
        where.append(at)
        inside = _inside(body, at, n)
        last = len(where) == len(stride)
        rows, columns = (rows, both(columns, inside)) if last else (both(rows, inside), columns)

    def row() -> Any:
        return body.where(columns, lambda: body.read(x, (*place[:2], *where)), lambda: outside)

    return body.where(rows, row, lambda: outside)


def _inside(body: Body, at: Any, extent: int) -> Any:
    """0 <= at < extent, as far as it is not known from the loops' extents."""
    if isinstance(at, int):
        return 0 <= at < extent
    low: Any = True if body.analyzer.can_prove(at >= 0) else at >= 0
    high: Any = True if body.analyzer.can_prove(at < extent) else at < extent
    return both(low, high)
