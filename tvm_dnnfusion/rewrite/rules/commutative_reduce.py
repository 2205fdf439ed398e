"""Rules by commutativity of reductions and pools with what they reduce.

    sum(A * k) = sum(A) * k                 k constant along the reduced axes
    max(f(A)) = f(max(A))                   f non-decreasing
    prod(exp(A)) = exp(sum(A))              homomorphisms of the reduction's group
    sum(A) + sum(B) = sum(A + B)            the reduction with its own operator

A reduction shrinks its operand, so what is done after it costs a fraction. Numbers 9 and 10 of
table 4 of the paper are here; the shift is to the left only: a shift to the right drops bits of
each term.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from tvm_dnnfusion.rewrite.guards import (
    constant_along,
    floating,
    nonnegative,
    reduced_axes,
    same_shape,
    scalar,
    wide,
)
from tvm_dnnfusion.rewrite.match import Template
from tvm_dnnfusion.rewrite.rule import Family, Guard, Rule, Spec
from tvm_dnnfusion.rewrite.site import Site

_F = Family.COMMUTATIVE
_INT = Spec(dtype="int32", low=-99, high=99)
_ROW = Spec((6, 1), low=0.5, high=2.0)
_R = {"axis": (1,), "keepdims": True}
_SCALE = {"B": _ROW, "r": _R}
_ALONG = {"B": Spec(low=0.5, high=2.0), "r": _R}
_ALONG_B = (constant_along("B", "A", "r"),)


def _count(s: Site) -> Mapping[str, Any]:
    shape = s.shape("A")
    return {"K": np.asarray(prod(shape[a] for a in reduced_axes(s, "A", "r")), s.dtype("A"))}


_LINEAR = (
    Rule(
        "sum-of-shift",
        _F,
        "sum(A << K, **r)",
        "sum(A, **r) << K",
        printed=9,
        guards=(constant_along("K", "A", "r"),),
        reassociates=False,
        example={"A": _INT, "K": np.int32(3), "r": _R},
        near_miss={"A": _INT, "K": np.arange(8, dtype="int32"), "r": _R},
        integers=True,
    ),
    Rule(
        "sum-of-scaled",
        _F,
        "sum(A * B, **r)",
        "sum(A, **r) * B",
        guards=(*_ALONG_B, wide("A")),
        example=_SCALE,
        near_miss=_ALONG,
    ),
    Rule(
        "mean-of-scaled",
        _F,
        "mean(A * B, **r)",
        "mean(A, **r) * B",
        guards=_ALONG_B,
        example=_SCALE,
        near_miss=_ALONG,
    ),
    Rule(
        "sum-of-quotient",
        _F,
        "sum(A / B, **r)",
        "sum(A, **r) / B",
        guards=(*_ALONG_B, wide("A")),
        example=_SCALE,
        near_miss=_ALONG,
    ),
    Rule(
        "sum-of-negated", _F, "sum(-A, **r)", "-sum(A, **r)", reassociates=False, example={"r": _R}
    ),
    Rule(
        "mean-of-negated",
        _F,
        "mean(-A, **r)",
        "-mean(A, **r)",
        reassociates=False,
        example={"r": _R},
    ),
    Rule(
        "sum-of-shifted",
        _F,
        "sum(A + B, **r)",
        "sum(A, **r) + B * K",
        guards=_ALONG_B,
        derive=_count,
        example=_SCALE,
        near_miss=_ALONG,
        note="K = number of terms.",
    ),
    Rule(
        "mean-of-shifted",
        _F,
        "mean(A + B, **r)",
        "mean(A, **r) + B",
        guards=_ALONG_B,
        example=_SCALE,
        near_miss=_ALONG,
    ),
    Rule(
        "sum-plus-sum",
        _F,
        "sum(A, **r) + sum(B, **r)",
        "sum(A + B, **r)",
        guards=(same_shape("A", "B"),),
        example={"r": _R},
        near_miss={"B": Spec((6, 9)), "r": _R},
    ),
)

_EXTREMES = (
    Rule(
        "max-of-shifted",
        _F,
        "max(A + B, **r)",
        "max(A, **r) + B",
        guards=_ALONG_B,
        reassociates=False,
        example=_SCALE,
        near_miss=_ALONG,
        note="Exact: rounding is monotone.",
    ),
    Rule(
        "min-of-shifted",
        _F,
        "min(A + B, **r)",
        "min(A, **r) + B",
        guards=_ALONG_B,
        reassociates=False,
        example=_SCALE,
        near_miss=_ALONG,
    ),
    Rule(
        "max-of-scaled",
        _F,
        "max(A * B, **r)",
        "max(A, **r) * B",
        guards=(*_ALONG_B, nonnegative("B")),
        reassociates=False,
        example={"B": "exp(C)", "C": _ROW, "r": _R},
        near_miss=_ALONG,
    ),
    Rule(
        "min-of-scaled",
        _F,
        "min(A * B, **r)",
        "min(A, **r) * B",
        guards=(*_ALONG_B, nonnegative("B")),
        reassociates=False,
        example={"B": "exp(C)", "C": _ROW, "r": _R},
        near_miss=_ALONG,
    ),
    Rule(
        "max-of-negated", _F, "max(-A, **r)", "-min(A, **r)", reassociates=False, example={"r": _R}
    ),
    Rule(
        "min-of-negated", _F, "min(-A, **r)", "-max(A, **r)", reassociates=False, example={"r": _R}
    ),
    Rule(
        "max-of-monotone",
        _F,
        "max(monotone(A), **r)",
        "monotone(max(A, **r))",
        example={"r": _R},
        note="relu, sigmoid, tanh, exp, erf, floor, ceil, ..",
    ),
    Rule(
        "min-of-monotone", _F, "min(monotone(A), **r)", "monotone(min(A, **r))", example={"r": _R}
    ),
    Rule(
        "maximum-of-max",
        _F,
        "maximum(max(A, **r), max(B, **r))",
        "max(maximum(A, B), **r)",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"r": _R},
        near_miss={"B": Spec((6, 9)), "r": _R},
        integers=True,
    ),
    Rule(
        "minimum-of-min",
        _F,
        "minimum(min(A, **r), min(B, **r))",
        "min(minimum(A, B), **r)",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"r": _R},
        near_miss={"B": Spec((6, 9)), "r": _R},
        integers=True,
    ),
)

_PRODUCTS = (
    Rule("prod-of-exp", _F, "prod(exp(A), **r)", "exp(sum(A, **r))", printed=10, example={"r": _R}),
    Rule("prod-of-abs", _F, "prod(abs(A), **r)", "abs(prod(A, **r))", example={"r": _R}),
    Rule(
        "prod-times-prod",
        _F,
        "prod(A, **r) * prod(B, **r)",
        "prod(A * B, **r)",
        guards=(same_shape("A", "B"),),
        example={"r": _R},
        near_miss={"B": Spec((6, 9)), "r": _R},
    ),
)


def _axes(s: Site, label: str, rank: int) -> tuple[int, ...]:
    axis = s.attrs(label)["axis"]
    if axis is None:
        return tuple(range(rank))
    items = axis if isinstance(axis, tuple) else (axis,)
    return tuple(int(str(a)) % rank for a in items)


def _composed(s: Site) -> Mapping[str, Any]:
    """Both reductions as one: the outer axes in terms of the inner operand."""
    rank = len(s.shape("A"))
    inner = _axes(s, "reduce1", rank)
    kept = [a for a in range(rank) if s.attrs("reduce1")["keepdims"] or a not in inner]
    outer = tuple(kept[a] for a in _axes(s, "reduce2", len(kept)))
    both = tuple(sorted({*inner, *outer}))
    keep = bool(s.attrs("reduce2")["keepdims"])
    attrs = (("axis", both), ("keepdims", keep))
    return {"reduce": Template(s.kind("reduce1"), (), attrs)}


def _alike(s: Site) -> bool:
    a, b = s.attrs("reduce1")["keepdims"], s.attrs("reduce2")["keepdims"]
    return s.kind("reduce1") == s.kind("reduce2") and a == b


def _past_transpose(s: Site) -> Mapping[str, Any]:
    order = s.literal("p")
    axes = tuple(order[a] for a in _axes(s, "reduce1", len(order)))
    attrs = (("axis", axes), ("keepdims", False))
    return {"reduce": Template(s.kind("reduce1"), (), attrs)}


def _order_kept(s: Site) -> bool:
    order = s.literal("p")
    if order is None or s.attrs("reduce1")["keepdims"]:
        return False
    gone = _axes(s, "reduce1", len(order))
    kept = [a for i, a in enumerate(order) if i not in gone]
    return kept == sorted(kept)


def _window_in(s: Site) -> bool:
    a = s.attrs("max_pool")
    pad, size = a["padding"], a["pool_size"]
    return not a["ceil_mode"] and all(p < k for p, k in zip(pad, (*size, *size)))  # type: ignore[arg-type,misc]


def _same_axis(s: Site, label: str) -> bool:
    rank = len(s.shape("A"))
    a, b = s.attrs("r")["axis"], s.literal("x")
    return a is not None and int(a) % rank == int(b) % rank  # type: ignore[call-overload]


_IMAGE = Spec((1, 4, 8, 8))
_POOL = {"pool_size": (2, 2), "strides": (2, 2)}
_MAX = ("nn.max_pool2d", _POOL)
_AVG = ("nn.avg_pool2d", _POOL)
_T3 = Spec((4, 5, 6))

_ORDERS = (
    Rule(
        "reduce-twice",
        _F,
        "reduce2(reduce1(A))",
        "reduce(A)",
        derive=_composed,
        guards=(Guard("both must be of one kind, with the same keepdims", _alike),),
        example={"A": _T3, "reduce1": ("sum", {"axis": (2,)}), "reduce2": ("sum", {"axis": (0,)})},
        near_miss={
            "A": _T3,
            "reduce1": ("sum", {"axis": (2,)}),
            "reduce2": ("max", {"axis": (0,)}),
        },
        note="sum, mean, max, min, prod over the union of the axes.",
    ),
    Rule(
        "reduce-transposed",
        _F,
        "reduce1(transpose(A, axes=p))",
        "reduce(A)",
        derive=_past_transpose,
        guards=(Guard("the axes that stay must keep their order", _order_kept),),
        example={"A": _T3, "p": (0, 2, 1), "reduce1": ("sum", {"axis": (2,)})},
        near_miss={"A": _T3, "p": (2, 1, 0), "reduce1": ("sum", {"axis": (1,)})},
        integers=True,
    ),
    Rule(
        "argmax-of-softmax",
        _F,
        "argmax(softmax(A, axis=x), **r)",
        "argmax(A, **r)",
        guards=(
            Guard("both must work along the same axis", lambda s: _same_axis(s, "r")),
            floating("A"),
        ),
        example={"x": -1, "r": {"axis": 1, "keepdims": False}},
        near_miss={"x": -1, "r": {"axis": 0, "keepdims": False}},
        note="Ties that rounding makes may be broken otherwise.",
        integers=True,
    ),
    Rule(
        "argmax-of-log-softmax",
        _F,
        "argmax(log_softmax(A, axis=x), **r)",
        "argmax(A, **r)",
        guards=(
            Guard("both must work along the same axis", lambda s: _same_axis(s, "r")),
            floating("A"),
        ),
        example={"x": -1, "r": {"axis": 1, "keepdims": False}},
        near_miss={"x": -1, "r": {"axis": 0, "keepdims": False}},
        integers=True,
    ),
    Rule(
        "max-pool-of-monotone",
        _F,
        "max_pool(monotone(A))",
        "monotone(max_pool(A))",
        guards=(Guard("every window must reach the input", _window_in),),
        example={"A": _IMAGE, "max_pool": _MAX},
        near_miss={"A": _IMAGE, "max_pool": ("nn.max_pool2d", {**_POOL, "padding": 2})},
    ),
    Rule(
        "average-pool-of-scaled",
        _F,
        "avg_pool(A * B)",
        "avg_pool(A) * B",
        guards=(scalar("B"),),
        example={"A": _IMAGE, "B": Spec(()), "avg_pool": _AVG},
        near_miss={"A": _IMAGE, "B": Spec((8,)), "avg_pool": _AVG},
    ),
)

RULES = (*_LINEAR, *_EXTREMES, *_PRODUCTS, *_ORDERS)
