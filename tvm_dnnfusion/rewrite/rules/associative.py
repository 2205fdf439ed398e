"""Rules by associativity: what may be grouped, or composed, in another way.

The algebra: (A op B) op C = A op (B op C) for sums, products, extremes and matrix products, and
the functions that are homomorphisms of such groups, so that they may be applied once to a whole:

    sqrt(A) sqrt(B) = sqrt(A B)     |A| |B| = |A B|       exp(A) exp(B) = exp(A + B)
    (1 / A) (1 / B) = 1 / (A B)     A^2 B^2 = (A B)^2     log A + log B = log(A B)

The first four are printed in table 4 of the paper. Chains are matched as flat operand lists, so a
rule on two factors finds them anywhere in a product.
"""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.rewrite.guards import nonnegative, nonzero, positive
from tvm_dnnfusion.rewrite.rule import Family, Guard, Rule, Spec
from tvm_dnnfusion.rewrite.site import Site

_F = Family.ASSOCIATIVE
_POS = Spec(low=0.2, high=2.0)
_ROW = Spec(shape=(6, 1), low=0.5, high=2.0)
_INT = Spec(dtype="int32", low=-99, high=99)


def _sum_fits(s: Site) -> bool:
    a, b = s.const("K1"), s.const("K2")
    if a is None or b is None or (a < 0).any() or (b < 0).any():
        return False
    return bool((a + b).max() < 8 * a.dtype.itemsize)


def _smaller(s: Site) -> bool:
    small = max(s.record("B").elements, s.record("C").elements)
    return small < s.record("A").elements


_SMALL = Guard("B and C must have fewer elements than A", _smaller)
_BROADCAST = {"A": Spec(), "B": _ROW, "C": Spec(shape=(6, 1))}
_FULL = {"A": Spec(), "B": Spec(), "C": Spec()}

_PRINTED = (
    Rule(
        "recip-pair",
        _F,
        "recip(A) * recip(A * B)",
        "square(recip(A)) * recip(B)",
        printed=1,
        example={"A": _POS, "B": _POS},
        range_risk=True,
    ),
    Rule(
        "sqrt-chain",
        _F,
        "(A * sqrt(B)) * (sqrt(B) * C)",
        "A * B * C",
        printed=2,
        guards=(nonnegative("B"),),
        example={"B": "exp(D)"},
        near_miss={},
    ),
    Rule("abs-chain", _F, "abs(A) * B * abs(C)", "abs(A * C) * B", printed=3, reassociates=True),
    Rule(
        "sum-pair",
        _F,
        "(A * sum(B, **r)) * (sum(B, **r) * C)",
        "A * square(sum(B, **r)) * C",
        printed=4,
        example={"r": {"axis": (1,), "keepdims": True}},
    ),
)

_PRODUCTS = (
    Rule(
        "self-product",
        _F,
        "A * A",
        "square(A)",
        always=True,
        integers=True,
    ),
    Rule(
        "sqrt-times-sqrt",
        _F,
        "sqrt(A) * sqrt(B)",
        "sqrt(A * B)",
        guards=(nonnegative("A", "B"),),
        example={"A": "exp(C)", "B": "abs(D)"},
        near_miss={"A": "exp(C)"},
        range_risk=True,
    ),
    Rule(
        "rsqrt-times-rsqrt",
        _F,
        "rsqrt(A) * rsqrt(B)",
        "rsqrt(A * B)",
        guards=(nonnegative("A", "B"),),
        example={"A": "exp(C)", "B": "exp(D)"},
        near_miss={"A": _POS},
        range_risk=True,
    ),
    Rule(
        "sqrt-over-sqrt",
        _F,
        "sqrt(A) / sqrt(B)",
        "sqrt(A / B)",
        guards=(nonnegative("A", "B"),),
        example={"A": "abs(C)", "B": "exp(D)"},
        near_miss={"B": "exp(D)"},
        range_risk=True,
    ),
    Rule(
        "recip-times-recip",
        _F,
        "recip(A) * recip(B)",
        "recip(A * B)",
        example={"A": _POS, "B": _POS},
        range_risk=True,
    ),
    Rule("abs-times-abs", _F, "abs(A) * abs(B)", "abs(A * B)", reassociates=False),
    Rule(
        "abs-over-abs", _F, "abs(A) / abs(B)", "abs(A / B)", reassociates=False, example={"B": _POS}
    ),
    Rule("square-times-square", _F, "square(A) * square(B)", "square(A * B)"),
    Rule("square-over-square", _F, "square(A) / square(B)", "square(A / B)", example={"B": _POS}),
    Rule("exp-times-exp", _F, "exp(A) * exp(B)", "exp(A + B)"),
    Rule("exp-over-exp", _F, "exp(A) / exp(B)", "exp(A - B)"),
    Rule(
        "log-plus-log",
        _F,
        "log(A) + log(B)",
        "log(A * B)",
        guards=(positive("A", "B"),),
        example={"A": "maximum(C, 0.5)", "B": "maximum(D, 0.25)"},
        near_miss={"A": _POS},
        range_risk=True,
    ),
    Rule(
        "log-minus-log",
        _F,
        "log(A) - log(B)",
        "log(A / B)",
        guards=(positive("A", "B"),),
        example={"A": "maximum(C, 0.5)", "B": "maximum(D, 0.25)"},
        near_miss={"A": _POS},
        range_risk=True,
    ),
)

_INVERSES = (
    Rule(
        "square-of-sqrt",
        _F,
        "square(sqrt(A))",
        "A",
        guards=(nonnegative("A"),),
        example={"A": "exp(B)"},
        near_miss={},
    ),
    Rule(
        "square-of-rsqrt",
        _F,
        "square(rsqrt(A))",
        "recip(A)",
        guards=(nonnegative("A"),),
        example={"A": "exp(B)"},
        near_miss={"A": _POS},
    ),
    Rule("sqrt-of-square", _F, "sqrt(square(A))", "abs(A)"),
    Rule(
        "times-own-rsqrt",
        _F,
        "A * rsqrt(A)",
        "sqrt(A)",
        guards=(positive("A"),),
        example={"A": "maximum(B, 0.5)"},
        near_miss={"A": "relu(B)"},
    ),
    Rule(
        "over-own-sqrt",
        _F,
        "A / sqrt(A)",
        "sqrt(A)",
        guards=(positive("A"),),
        example={"A": "maximum(B, 0.5)"},
        near_miss={"A": "relu(B)"},
    ),
    Rule(
        "sqrt-over-self",
        _F,
        "sqrt(A) / A",
        "rsqrt(A)",
        guards=(positive("A"),),
        example={"A": "maximum(B, 0.5)"},
        near_miss={"A": "relu(B)"},
    ),
    Rule("recip-of-recip", _F, "recip(recip(A))", "A", example={"A": _POS}),
    Rule("divide-by-recip", _F, "A / recip(B)", "A * B", example={"B": _POS}),
    Rule("times-recip", _F, "A * recip(B)", "A / B", example={"B": _POS}),
    Rule("recip-of-quotient", _F, "recip(A / B)", "B / A", example={"A": _POS, "B": _POS}),
    Rule("recip-of-sqrt", _F, "recip(sqrt(A))", "rsqrt(A)", example={"A": _POS}),
    Rule("recip-of-rsqrt", _F, "recip(rsqrt(A))", "sqrt(A)", example={"A": _POS}),
    Rule("sqrt-of-recip", _F, "sqrt(recip(A))", "rsqrt(A)", example={"A": _POS}),
    Rule("rsqrt-of-recip", _F, "rsqrt(recip(A))", "sqrt(A)", example={"A": _POS}),
    Rule(
        "multiply-then-divide",
        _F,
        "(A * B) / B",
        "A",
        guards=(nonzero("B"),),
        example={"B": "maximum(C, 0.5)"},
        near_miss={"B": _POS},
    ),
    Rule(
        "divide-then-multiply",
        _F,
        "(A / B) * B",
        "A",
        guards=(nonzero("B"),),
        example={"B": "maximum(C, 0.5)"},
        near_miss={"B": _POS},
    ),
)

_GROUPING = (
    Rule(
        "divide-twice",
        _F,
        "(A / B) / C",
        "A / (B * C)",
        guards=(_SMALL,),
        example={"B": _ROW, "C": _ROW},
        near_miss={"B": _POS, "C": _POS},
        range_risk=True,
    ),
    Rule(
        "scale-quotient",
        _F,
        "(A / B) * C",
        "A * (C / B)",
        guards=(_SMALL,),
        example={"B": _ROW, "C": _ROW},
        near_miss={"B": _POS, "C": _POS},
    ),
    Rule("constants-of-sum", _F, "A + K1 + K2", "A + (K1 + K2)"),
    Rule("constants-of-product", _F, "A * K1 * K2", "A * (K1 * K2)"),
    Rule(
        "constants-of-maximum",
        _F,
        "maximum(maximum(A, K1), K2)",
        "maximum(A, maximum(K1, K2))",
        reassociates=False,
        integers=True,
    ),
    Rule(
        "constants-of-minimum",
        _F,
        "minimum(minimum(A, K1), K2)",
        "minimum(A, minimum(K1, K2))",
        reassociates=False,
        integers=True,
    ),
    Rule(
        "regroup-product",
        _F,
        "(A * B) * C",
        "A * (B * C)",
        guards=(_SMALL,),
        example=_BROADCAST,
        near_miss=_FULL,
    ),
    Rule(
        "regroup-sum",
        _F,
        "(A + B) + C",
        "A + (B + C)",
        guards=(_SMALL,),
        example=_BROADCAST,
        near_miss=_FULL,
    ),
    Rule(
        "matmul-to-right",
        _F,
        "(A @ B) @ C",
        "A @ (B @ C)",
        example={"A": Spec((16, 8)), "B": Spec((8, 8)), "C": Spec((8, 2))},
        note="Where the order of the matrix products on the right needs fewer FLOPs.",
    ),
    Rule(
        "matmul-to-left",
        _F,
        "A @ (B @ C)",
        "(A @ B) @ C",
        example={"A": Spec((2, 8)), "B": Spec((8, 8)), "C": Spec((8, 16))},
        note="Where the order of the matrix products on the left needs fewer FLOPs.",
    ),
    Rule(
        "shift-twice",
        _F,
        "(A << K1) << K2",
        "A << K",
        reassociates=False,
        guards=(Guard("K1 + K2 must be less than the bits of an element", _sum_fits),),
        derive=lambda s: {"K": s.const("K1") + s.const("K2")},  # type: ignore[operator]
        example={"A": _INT, "K1": np.int32(2), "K2": np.int32(3)},
        near_miss={"A": _INT, "K1": np.int32(20), "K2": np.int32(20)},
        integers=True,
    ),
    Rule(
        "power-of-power",
        _F,
        "(A ** K1) ** K2",
        "A ** K",
        guards=(positive("A"),),
        derive=lambda s: {"K": s.const("K1") * s.const("K2")},  # type: ignore[operator]
        example={"A": "maximum(B, 0.5)", "K1": np.float32(1.5), "K2": np.float32(3)},
        near_miss={"A": _POS, "K1": np.float32(2), "K2": np.float32(1.5)},
    ),
)

RULES = (*_PRINTED, *_PRODUCTS, *_INVERSES, *_GROUPING)
