"""Winograd's transforms of one line of values: sums of products with the constants of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from tvm_dnnfusion.codegen.winograd_matrices import Row
from tvm_dnnfusion.schedules.cpu import nest


def rows_transform(matrix: Sequence[Row], x: list[Any], code: nest.Straight) -> list[Any]:
    """matrix @ x, where rows for +p and -p share their even and odd parts.

    [e, o] and [e, -o]: two parts, one sum and one difference instead of two full sums.
    """
    out: list[Any] = []
    k = 0
    while k < len(matrix):
        row = matrix[k]
        mirrored = k + 1 < len(matrix) and all(
            b == (a if j % 2 == 0 else -a) for j, (a, b) in enumerate(zip(row, matrix[k + 1]))
        )
        if not mirrored:
            out.append(nest.combination(_terms(row, x)))
            k += 1
            continue
        even = code.let(nest.combination(_terms(row, x, 0)))
        odd = code.let(nest.combination(_terms(row, x, 1)))
        out += [even + odd, even - odd]
        k += 2
    return out


def columns_transform(matrix: Sequence[Row], x: list[Any], code: nest.Straight) -> list[Any]:
    """matrix @ x, where columns for +p and -p meet in their sum (even rows) or difference (odd)."""
    pairs = range(1, len(x) - 1, 2)
    sums = {j: code.let(x[j] + x[j + 1]) for j in pairs}
    differences = {j: code.let(x[j] - x[j + 1]) for j in pairs}
    out = []
    for i, row in enumerate(matrix):
        folded = sums if i % 2 == 0 else differences
        terms = [(row[j], folded[j]) for j in pairs]
        ends = [(row[j], x[j]) for j in (0, len(x) - 1) if row[j]]
        out.append(nest.combination([*terms, *ends]))
    return out


def _terms(row: Row, x: list[Any], parity: int | None = None) -> list[tuple[Fraction, Any]]:
    return [(c, v) for j, (c, v) in enumerate(zip(row, x)) if c and parity in (None, j % 2)]
