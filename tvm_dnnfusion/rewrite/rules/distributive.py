"""Rules by distributivity: a common factor is taken out once.

    A C + A B = A (B + C)                        products, quotients, matrix products, convolutions
    max(A + C, B + C) = max(A, B) + C            addition over extremes
    max(min(A, C), min(B, C)) = min(max(A, B), C)   the lattices of min/max, and/or
    A^2 + 2 A B + B^2 = (A + B)^2

The first three are printed in table 4 of the paper; the first is printed there as (A + B) C, which
is a misprint: the right-hand side must be A (B + C).
"""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.rewrite.guards import nonnegative, same_shape, variable
from tvm_dnnfusion.rewrite.rule import Family, Rule, Spec

_F = Family.DISTRIBUTIVE
_POS = Spec(low=0.5, high=2.0)
_BOOL = Spec(dtype="bool", low=0, high=2)
_INT = Spec(dtype="int32", low=-99, high=99)
_SQ = Spec((8, 8))
_MATS = {"A": _SQ, "B": _SQ, "C": _SQ}
_IMAGES = {"A": Spec((1, 4, 6, 6)), "B": Spec((1, 4, 6, 6)), "W": Spec((5, 4, 3, 3))}
_WEIGHTS = {"A": Spec((1, 4, 6, 6)), "W": Spec((5, 4, 3, 3)), "V": Spec((5, 4, 3, 3))}
_IMAGES_T = {**_IMAGES, "W": Spec((4, 5, 3, 3))}
_WEIGHTS_T = {**_WEIGHTS, "W": Spec((4, 5, 3, 3)), "V": Spec((4, 5, 3, 3))}
_THREE = {"A": _BOOL, "B": _BOOL, "C": _BOOL}
_INTS = {"A": _INT, "B": _INT, "C": _INT}

_VARIABLE = (variable("A"),)
_CONSTANT = {"A": np.linspace(-1, 1, 48, dtype="float32").reshape(6, 8)}

_PRINTED = (
    Rule("factor-out", _F, "A * C + A * B", "A * (B + C)", printed=5),
    Rule(
        "factor-plus-one",
        _F,
        "A + A * B",
        "A * (B + 1)",
        printed=6,
        guards=_VARIABLE,
        near_miss=_CONSTANT,
    ),
    Rule(
        "square-minus-product",
        _F,
        "square(A + B) - (A + B) * C",
        "(A + B) * (A + B - C)",
        printed=7,
    ),
)

_FACTORS = (
    Rule("factor-difference", _F, "A * C - A * B", "A * (C - B)"),
    Rule("factor-minus-one", _F, "A * B - A", "A * (B - 1)", guards=_VARIABLE, near_miss=_CONSTANT),
    Rule("factor-one-minus", _F, "A - A * B", "A * (1 - B)", guards=_VARIABLE, near_miss=_CONSTANT),
    Rule("quotient-sum", _F, "A / C + B / C", "(A + B) / C", example={"C": _POS}),
    Rule("quotient-difference", _F, "A / C - B / C", "(A - B) / C", example={"C": _POS}),
    Rule("square-plus-product", _F, "square(A) + A * B", "A * (A + B)"),
    Rule("square-minus-own-product", _F, "square(A) - A * B", "A * (A - B)"),
    Rule("binomial", _F, "square(A) + square(B) + A * B * 2", "square(A + B)"),
    Rule("negated-sum", _F, "(-A) + (-B)", "-(A + B)", reassociates=False),
    Rule("negated-difference", _F, "-(A - B)", "B - A", reassociates=False),
    Rule("minus-negated", _F, "A - (-B)", "A + B", reassociates=False),
    Rule(
        "shift-sum",
        _F,
        "(A << K) + (B << K)",
        "(A + B) << K",
        reassociates=False,
        example={**_INTS, "K": np.int32(3)},
        note="Exact: both are taken modulo 2^bits.",
        integers=True,
    ),
)

_LINEAR = (
    Rule(
        "matmul-left-sum",
        _F,
        "A @ C + B @ C",
        "(A + B) @ C",
        guards=(same_shape("A", "B"),),
        example=_MATS,
        near_miss={**_MATS, "B": Spec((1, 8))},
    ),
    Rule(
        "matmul-right-sum",
        _F,
        "A @ B + A @ C",
        "A @ (B + C)",
        guards=(same_shape("B", "C"),),
        example=_MATS,
        near_miss={**_MATS, "C": Spec((8, 1))},
    ),
    Rule(
        "matmul-left-difference",
        _F,
        "A @ C - B @ C",
        "(A - B) @ C",
        guards=(same_shape("A", "B"),),
        example=_MATS,
        near_miss={**_MATS, "B": Spec((1, 8))},
    ),
    Rule(
        "matmul-right-difference",
        _F,
        "A @ B - A @ C",
        "A @ (B - C)",
        guards=(same_shape("B", "C"),),
        example=_MATS,
        near_miss={**_MATS, "C": Spec((8, 1))},
    ),
    Rule(
        "conv-input-sum",
        _F,
        "conv(A, W) + conv(B, W)",
        "conv(A + B, W)",
        guards=(same_shape("A", "B"),),
        example=_IMAGES,
        near_miss={**_IMAGES, "A": Spec((2, 4, 6, 6))},
    ),
    Rule(
        "conv-weight-sum",
        _F,
        "conv(A, W) + conv(A, V)",
        "conv(A, W + V)",
        guards=(same_shape("W", "V"),),
        example=_WEIGHTS,
        near_miss={**_WEIGHTS, "V": Spec((1, 4, 3, 3))},
    ),
    Rule(
        "conv-input-difference",
        _F,
        "conv(A, W) - conv(B, W)",
        "conv(A - B, W)",
        guards=(same_shape("A", "B"),),
        example=_IMAGES,
        near_miss={**_IMAGES, "A": Spec((2, 4, 6, 6))},
    ),
    Rule(
        "conv-weight-difference",
        _F,
        "conv(A, W) - conv(A, V)",
        "conv(A, W - V)",
        guards=(same_shape("W", "V"),),
        example=_WEIGHTS,
        near_miss={**_WEIGHTS, "V": Spec((1, 4, 3, 3))},
    ),
    Rule(
        "transposed-conv-input-sum",
        _F,
        "conv_transpose(A, W) + conv_transpose(B, W)",
        "conv_transpose(A + B, W)",
        guards=(same_shape("A", "B"),),
        example=_IMAGES_T,
        near_miss={**_IMAGES_T, "A": Spec((2, 4, 6, 6))},
    ),
    Rule(
        "transposed-conv-weight-sum",
        _F,
        "conv_transpose(A, W) + conv_transpose(A, V)",
        "conv_transpose(A, W + V)",
        guards=(same_shape("W", "V"),),
        example=_WEIGHTS_T,
        near_miss={**_WEIGHTS_T, "V": Spec((4, 1, 3, 3))},
    ),
)

_LATTICES = (
    Rule(
        "maximum-of-sums",
        _F,
        "maximum(A + C, B + C)",
        "maximum(A, B) + C",
        reassociates=False,
        note="Exact: rounding is monotone.",
    ),
    Rule("minimum-of-sums", _F, "minimum(A + C, B + C)", "minimum(A, B) + C", reassociates=False),
    Rule(
        "maximum-of-differences",
        _F,
        "maximum(A - C, B - C)",
        "maximum(A, B) - C",
        reassociates=False,
    ),
    Rule(
        "minimum-of-differences",
        _F,
        "minimum(A - C, B - C)",
        "minimum(A, B) - C",
        reassociates=False,
    ),
    Rule(
        "maximum-of-products",
        _F,
        "maximum(A * C, B * C)",
        "maximum(A, B) * C",
        guards=(nonnegative("C"),),
        reassociates=False,
        example={"C": "exp(D)"},
        near_miss={},
    ),
    Rule(
        "minimum-of-products",
        _F,
        "minimum(A * C, B * C)",
        "minimum(A, B) * C",
        guards=(nonnegative("C"),),
        reassociates=False,
        example={"C": "exp(D)"},
        near_miss={},
    ),
    Rule(
        "minimum-of-maxima",
        _F,
        "minimum(maximum(A, C), maximum(B, C))",
        "maximum(minimum(A, B), C)",
        reassociates=False,
        integers=True,
    ),
    Rule(
        "maximum-of-minima",
        _F,
        "maximum(minimum(A, C), minimum(B, C))",
        "minimum(maximum(A, B), C)",
        reassociates=False,
        integers=True,
    ),
    Rule(
        "or-of-ands",
        _F,
        "lor(land(A, C), land(B, C))",
        "land(lor(A, B), C)",
        reassociates=False,
        example=_THREE,
        integers=True,
    ),
    Rule(
        "and-of-ors",
        _F,
        "land(lor(A, C), lor(B, C))",
        "lor(land(A, B), C)",
        reassociates=False,
        example=_THREE,
        integers=True,
    ),
    Rule(
        "bitwise-or-of-ands",
        _F,
        "(A & C) | (B & C)",
        "(A | B) & C",
        reassociates=False,
        example=_INTS,
        integers=True,
    ),
    Rule(
        "bitwise-and-of-ors",
        _F,
        "(A | C) & (B | C)",
        "(A & B) | C",
        reassociates=False,
        example=_INTS,
        integers=True,
    ),
    Rule(
        "bitwise-xor-of-ands",
        _F,
        "(A & C) ^ (B & C)",
        "(A ^ B) & C",
        reassociates=False,
        example=_INTS,
        integers=True,
    ),
)

RULES = (*_PRINTED, *_FACTORS, *_LINEAR, *_LATTICES)
