"""Einsum of two tensors as a matmul, for which there are schedules and rewriting rules.

Attention is often exported so. Indices are sorted into batch (in both operands and the result),
inner (in both operands only), left and right; each kind becomes one dimension.

    einsum("bqhd,bkhd->bhqk", x, y)
        -> x: permute to [b, h, q, d]; y: permute to [b, h, d, k]; matmul; result as [b, h, q, k]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax


@dataclass(frozen=True)
class _Indices:
    """The index letters of a product of two tensors, by what becomes of them."""

    batch: str
    left: str
    right: str
    inner: str

    @property
    def made(self) -> str:
        """Order of the matmul's result."""
        return self.batch + self.left + self.right


def einsum_as_matmul(equation: str, operands: Sequence[relax.Expr]) -> relax.Expr | None:
    """The product as permute_dims, reshape and matmul; None if it is no matmul.

    `equation` has an arrow and no ellipsis.
    """
    terms, result = equation.split("->")
    names = terms.split(",")
    if len(names) != 2 or len(operands) != 2:
        return None
    sizes = _sizes(names, operands)
    indices = _sort(names[0], names[1], result)
    if sizes is None or indices is None or not indices.inner:
        return None
    kinds = indices.batch, indices.left, indices.inner, indices.right
    batch, left, inner, right = ([sizes[i] for i in kind] for kind in kinds)
    x = _arranged(operands[0], names[0], indices.batch + indices.left + indices.inner)
    y = _arranged(operands[1], names[1], indices.batch + indices.inner + indices.right)
    x = _shaped(x, batch + left + inner, [*batch, math.prod(left), math.prod(inner)])
    y = _shaped(y, batch + inner + right, [*batch, math.prod(inner), math.prod(right)])
    product = relax.op.matmul(x, y)
    flat = [*batch, math.prod(left), math.prod(right)]
    product = _shaped(product, flat, batch + left + right)
    return _arranged(product, indices.made, result)


def _sort(first: str, second: str, result: str) -> _Indices | None:
    """None for a repeated index, and for one that only one operand has and that is summed."""
    if any(len(set(term)) != len(term) for term in (first, second, result)):
        return None
    if any(i not in result for i in set(first) ^ set(second)):
        return None
    both = [i for i in first if i in second]
    return _Indices(
        batch="".join(i for i in both if i in result),
        left="".join(i for i in first if i not in second),
        right="".join(i for i in second if i not in first),
        inner="".join(i for i in both if i not in result),
    )


def _sizes(names: Sequence[str], operands: Sequence[relax.Expr]) -> dict[str, int] | None:
    """Extent of each index; None where one is symbolic, or broadcast from 1."""
    sizes: dict[str, int] = {}
    for term, operand in zip(names, operands, strict=True):
        shape = operand.ty.shape
        if not isinstance(shape, relax.ShapeExpr) or len(shape.values) != len(term):
            return None
        for index, extent in zip(term, shape.values, strict=True):
            number = getattr(extent, "value", None)
            if not isinstance(number, int) or sizes.setdefault(index, number) != number:
                return None
    return sizes


def _arranged(x: relax.Expr, have: str, want: str) -> relax.Expr:
    return x if have == want else relax.op.permute_dims(x, [have.index(i) for i in want])


def _shaped(x: relax.Expr, have: list[int], want: list[int]) -> relax.Expr:
    return x if have == want else relax.op.reshape(x, want)
