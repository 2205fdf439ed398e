"""Resizing to the nearest neighbour as index maps, in integers.

    out[.., i, ..] = x[.., round(at(i)), ..]    at(i) = (i p + q) / d, of whole numbers

TVM computes the places in float32, where an OpenCL compiler contracts a multiplication and an
addition, and half-way places then fall on either side (7 columns of 2: the fourth read the second).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from tvm import tirx

from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]
Line = tuple[Fraction, Fraction]
"""Slope and start of the places that a row's elements read."""

_SPATIAL = {"NCHW": (2, 3), "NHWC": (1, 2), "NCDHW": (2, 3, 4), "NDHWC": (1, 2, 3)}
_HALF = Fraction(1, 2)
_LONGEST = 1 << 30
"""Numbers in indices are of int32."""


def nearest(op: Op, inputs: list[Value], shape: Dims, graph: Graph) -> Value | None:
    """image.resize2d and resize3d (x, size) with method="nearest_neighbor".

    None for other methods, for regions, and where `round` has half-way places up and down.
    """
    source = inputs[0]
    axes = _SPATIAL.get(str(op.attr("layout")))
    if axes is None or op.attr("method") != "nearest_neighbor":
        return None
    picks: dict[int, Pick] = {}
    for axis in axes:
        pick = _pick(op, source.shape[axis], shape[axis])
        if pick is None:
            return None
        picks[axis] = pick

    def at(body: Body, index: Index) -> Any:
        return body.read(source, tuple(picks[a](body, i) if a in picks else i
                                       for a, i in enumerate(index)))  # fmt: skip

    kept = {"layout": source.layout} if axes[0] == 2 else {}
    return Value(shape, source.dtype, at, **kept)


class Pick:
    """The element of `count` that each place of a row reads: the floor of a line, within them."""

    def __init__(self, line: Line, count: int, size: int):
        slope, start = line
        self.d = math.lcm(slope.denominator, start.denominator)
        self.p, self.q = int(slope * self.d), int(start * self.d)
        self.count = count
        self.ends = (self._floor(0), self._floor(size - 1))

    def fits(self, size: int) -> bool:
        """Whether no number on the way is too large."""
        return max(self.p * size + abs(self.q), self.d) < _LONGEST

    def all(self, size: int) -> list[int]:
        """The elements that are read, one for each place."""
        return [min(max(self._floor(i), 0), self.count - 1) for i in range(size)]

    def __call__(self, body: Body, i: Any) -> Any:
        if (self.p, self.q, self.d) == (1, 0, 1):
            return i
        found = body.simplify((i * self.p + self.q) // self.d)
        if self.ends[0] < 0:
            found = tirx.max(found, 0)
        return found if self.ends[1] < self.count else tirx.min(found, self.count - 1)

    def _floor(self, i: int) -> int:
        return (i * self.p + self.q) // self.d


def _pick(op: Op, count: int, size: int) -> Pick | None:
    """What `size` places of an axis of `count` elements read."""
    mode, rounding = op.attr("coordinate_transformation_mode"), str(op.attr("rounding_method"))
    line = _line(str(mode), count, size)
    if line is None:
        return None
    rounding = rounding or ("round" if mode == "align_corners" else "floor")
    offers = [Pick(made, count, size) for made in _rounded(line, rounding)]
    if not offers or not offers[0].fits(size):
        return None
    return offers[0] if rounding != "round" else _even(offers, line, size)


def _line(mode: str, count: int, size: int) -> Line | None:
    """The places in the source; None for a region of it."""
    scale = Fraction(count, size)
    if mode == "half_pixel" or mode == "pytorch_half_pixel":
        return scale, (scale - 1) / 2 if size > 1 or mode == "half_pixel" else Fraction(0)
    if mode == "align_corners":
        return Fraction(count - 1, max(1, size - 1)), Fraction(0)
    if mode == "asymmetric":
        return scale, Fraction(0)
    return (scale, scale / 2) if mode == "tf_half_pixel_for_nn" else None


def _rounded(line: Line, rounding: str) -> list[Line]:
    """Lines whose floor is the place rounded; of "round" those for halves down and for halves up.

    The ceiling of a fraction of d is the floor of what lies (d - 1) / d beyond it.
    """
    slope, start = line

    def ceiling(start: Fraction) -> Line:
        d = math.lcm(slope.denominator, start.denominator)
        return slope, start + Fraction(d - 1, d)

    down, up = ceiling(start - _HALF), (slope, start + _HALF)
    forms = {"floor": [line], "ceil": [ceiling(start)], "round_prefer_floor": [down],
             "round_prefer_ceil": [up], "round": [down, up]}  # fmt: skip
    return forms.get(rounding, [])


def _even(offers: list[Pick], line: Line, size: int) -> Pick | None:
    """The offer that agrees with rounding halves to even numbers."""
    slope, start = line
    count = offers[0].count
    wanted = [min(max(round(slope * i + start), 0), count - 1) for i in range(size)]
    return next((pick for pick in offers if pick.all(size) == wanted), None)
