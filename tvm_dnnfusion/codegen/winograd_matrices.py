"""The matrices of Winograd's F(m, r), from the points of Toom and Cook.

A convolution of m outputs by r taps, 3 or 5, takes a = m + r - 1 multiplications:

    y = A^T [(G g) * (B^T d)]        d: a inputs, g: r taps, y: m outputs

With finite points p_0 .. p_{a-2} and infinity as the last, the transposed Toom-Cook algorithm is

    A^T[i, k] = p_k^i                          A^T[m - 1, a - 1] = 1
    G[k, j]   = p_k^j / prod_{l != k} (p_k - p_l)      G[a - 1, r - 1] = 1
    B^T[k, :] = coefficients of prod_{l != k} (x - p_l)    B^T[a - 1, :] = those of prod_l (x - p_l)

(Winograd 1980; Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016). Points
come as 0 and pairs +-p, so that the rows of B^T for +p and -p are sum and difference of the same
even and odd parts; that halves the transforms' work. Powers of two keep the products exact.
Rounding errors grow with a, whose points and B^T are the same for every r: F(2, 3) only adds,
F(4, 3) and F(2, 5) multiply by up to 8, F(6, 3) and F(4, 5) by up to 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

_POINTS = {
    4: ("0", "1", "-1"),
    6: ("0", "1", "-1", "2", "-2"),
    8: ("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
}
"""Finite points by a."""

SIZES = (2, 4, 6)
"""Every m that some window has."""

WINDOWS = {r: tuple(m for m in SIZES if m + r - 1 in _POINTS) for r in (3, 5)}
"""The m of each r."""

Row = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Transform:
    """The matrices of F(m, r), exact: `inputs` is B^T [a, a], `weights` G [a, r], `outputs` A^T
    [m, a]."""

    m: int
    r: int
    inputs: tuple[Row, ...]
    weights: tuple[Row, ...]
    outputs: tuple[Row, ...]

    @property
    def alpha(self) -> int:
        """Extent of a tile's inputs, and of its products."""
        return self.m + self.r - 1


@cache
def transform(m: int, r: int = 3) -> Transform:
    """F(m, r) for m in `WINDOWS[r]`. Raises KeyError for others."""
    points = [Fraction(p) for p in _POINTS[m + r - 1]]
    scales = [_product([p - q for q in points if q != p]) for p in points]
    last = (*(Fraction(0),) * (r - 1), Fraction(1))
    weights = tuple(tuple(p**j / s for j in range(r)) for p, s in zip(points, scales))
    inputs = tuple((*_polynomial([q for q in points if q != p]), Fraction(0)) for p in points)
    outputs = tuple((*(p**i for p in points), Fraction(int(i == m - 1))) for i in range(m))
    return Transform(m, r, (*inputs, tuple(_polynomial(points))), (*weights, last), outputs)


def transformed(weight: np.ndarray, m: int) -> np.ndarray:
    """G g G^T over the last two axes: [..., r, r] -> float64 [..., a, a]."""
    g = np.array([[float(x) for x in row] for row in transform(m, weight.shape[-1]).weights])
    return g @ weight.astype("float64") @ g.T


def _product(values: list[Fraction]) -> Fraction:
    out = Fraction(1)
    for v in values:
        out *= v
    return out


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of prod (x - r), lowest power first."""
    out = [Fraction(1)]
    for r in roots:
        shifted, scaled = [Fraction(0), *out], [*(c * r for c in out), Fraction(0)]
        out = [a - b for a, b in zip(shifted, scaled)]
    return out
