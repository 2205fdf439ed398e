"""Rules by commutativity: of operands, and of operators with each other.

The first kind, A op B = B op A, is part of matching (`enabler`): every pattern is tried with its
operands in either order, so no rule is needed to turn them round, and none can loop. The second
kind, f(g(A)) = g(f(A)), lets the cheaper order be chosen: a reduction before what is constant along
it, a function before its operand is repeated or after it is cut, movements past both. Reductions
are in `commutative_reduce.py`. Numbers 8 to 10 of table 4 of the paper are here and there.
"""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.rewrite.guards import same_shape, scalar, wide
from tvm_dnnfusion.rewrite.rule import Family, Guard, Rule, Spec
from tvm_dnnfusion.rewrite.site import Site

_F = Family.COMMUTATIVE
_BOOL = Spec(dtype="bool", low=0, high=2)
_INT = Spec(dtype="int32", low=-99, high=99)
_ONE = Spec(())
_MATRIX = Spec()


def _swap(
    kind: str, before: str, after: str, printed: int | None = None, spec: Spec = _MATRIX
) -> Rule:
    return Rule(
        f"swap-{kind}",
        _F,
        before,
        after,
        enabler=True,
        reassociates=False,
        integers=True,
        printed=printed,
        example={"A": spec, "B": spec},
        note="Part of matching: operands are tried in either order.",
    )


_SWAPS = (
    _swap("multiply", "A * B", "B * A", printed=8),
    _swap("add", "A + B", "B + A"),
    _swap("maximum", "maximum(A, B)", "maximum(B, A)"),
    _swap("minimum", "minimum(A, B)", "minimum(B, A)"),
    _swap("logical-and", "land(A, B)", "land(B, A)", spec=_BOOL),
    _swap("logical-or", "lor(A, B)", "lor(B, A)", spec=_BOOL),
    _swap("logical-xor", "logical_xor(A, B)", "logical_xor(B, A)", spec=_BOOL),
    _swap("bitwise-and", "A & B", "B & A", spec=_INT),
    _swap("bitwise-or", "A | B", "B | A", spec=_INT),
    _swap("bitwise-xor", "A ^ B", "B ^ A", spec=_INT),
    _swap("equal", "equal(A, B)", "equal(B, A)"),
    _swap("not-equal", "not_equal(A, B)", "not_equal(B, A)"),
)

_POINTWISE = (
    Rule(
        "where-of-function",
        _F,
        "where(C, unary(A), unary(B))",
        "unary(where(C, A, B))",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"C": _BOOL},
        near_miss={"C": _BOOL, "B": Spec((6, 1))},
        note="The same function on both branches.",
        integers=True,
    ),
    Rule(
        "maximum-of-monotone",
        _F,
        "maximum(monotone(A), monotone(B))",
        "monotone(maximum(A, B))",
        example={"monotone": "exp"},
    ),
    Rule(
        "minimum-of-monotone",
        _F,
        "minimum(monotone(A), monotone(B))",
        "monotone(minimum(A, B))",
        example={"monotone": "exp"},
    ),
    Rule("maximum-of-negated", _F, "maximum(-A, -B)", "-minimum(A, B)", reassociates=False),
    Rule("minimum-of-negated", _F, "minimum(-A, -B)", "-maximum(A, B)", reassociates=False),
    Rule(
        "and-of-nots",
        _F,
        "land(lnot(A), lnot(B))",
        "lnot(lor(A, B))",
        reassociates=False,
        example={"A": _BOOL, "B": _BOOL},
        note="De Morgan.",
        integers=True,
    ),
    Rule(
        "or-of-nots",
        _F,
        "lor(lnot(A), lnot(B))",
        "lnot(land(A, B))",
        reassociates=False,
        example={"A": _BOOL, "B": _BOOL},
        note="De Morgan.",
        integers=True,
    ),
    Rule(
        "negated-odd",
        _F,
        "-odd(-A)",
        "odd(A)",
        reassociates=False,
        note="tanh, sin, sinh, asinh, asin, atan, atanh, tan, erf, sign.",
    ),
    Rule(
        "even-of-negated",
        _F,
        "even(-A)",
        "even(A)",
        reassociates=False,
        note="abs, square, cos, cosh.",
    ),
)


def _plain(s: Site) -> bool:
    a = s.attrs("p")
    return a.get("pad_mode") == "constant" and a.get("pad_value") == 0


def _inverse(s: Site) -> bool:
    p, q = s.literal("p"), s.literal("q")
    return p is not None and q is not None and tuple(p[a] for a in q) == tuple(range(len(p)))


_PAD = {"pad_width": (1, 1, 1, 1), "pad_mode": "constant", "pad_value": 0.0}
_T3 = Spec((4, 5, 6))

_MOVEMENT = (
    Rule(
        "function-of-repeated",
        _F,
        "unary(repeating(A))",
        "repeating(unary(A))",
        reassociates=False,
        example={"A": Spec((6, 1)), "repeating": ("tile", {"repeats": (1, 8)})},
        note="broadcast_to, tile, repeat.",
        integers=True,
    ),
    Rule(
        "slice-of-function",
        _F,
        "cutting(unary(A))",
        "unary(cutting(A))",
        reassociates=False,
        example={"cutting": ("strided_slice", (1,), (2,), (6,))},
        integers=True,
    ),
    Rule(
        "slice-of-binary",
        _F,
        "cutting(binary(A, B))",
        "binary(cutting(A), cutting(B))",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"binary": "add", "cutting": ("strided_slice", (1,), (2,), (6,))},
        near_miss={
            "B": Spec((6, 1)),
            "binary": "add",
            "cutting": ("strided_slice", (1,), (2,), (6,)),
        },
        integers=True,
    ),
    Rule(
        "take-of-function",
        _F,
        "gathering(unary(A))",
        "unary(gathering(A))",
        reassociates=False,
        example={"gathering": ("take", np.array([2, 0]), {"axis": 0})},
        note="Where fewer elements are taken than there are.",
        integers=True,
    ),
    Rule(
        "function-of-take",
        _F,
        "unary(gathering(A))",
        "gathering(unary(A))",
        reassociates=False,
        example={"gathering": ("take", np.arange(20) % 6, {"axis": 0})},
        note="Where more elements are taken than there are: a table is transformed once.",
        integers=True,
    ),
    Rule(
        "function-of-padded",
        _F,
        "keeps_zero(pad(A, **p))",
        "pad(keeps_zero(A), **p)",
        guards=(Guard("the padding must be zeros", _plain),),
        reassociates=False,
        example={"p": _PAD},
        near_miss={"p": {**_PAD, "pad_value": 1.0}},
        note="Functions with f(0) = 0.",
        integers=True,
    ),
    Rule(
        "transpose-around-function",
        _F,
        "transpose(unary(transpose(A, axes=p)), axes=q)",
        "unary(A)",
        guards=(Guard("the transposes must cancel", _inverse),),
        reassociates=False,
        example={"A": _T3, "p": (1, 2, 0), "q": (2, 0, 1)},
        near_miss={"A": _T3, "p": (1, 2, 0), "q": (1, 2, 0)},
        integers=True,
    ),
    Rule(
        "transposed-operands",
        _F,
        "binary(transpose(A, axes=p), transpose(B, axes=p))",
        "transpose(binary(A, B), axes=p)",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"A": _T3, "B": _T3, "p": (1, 2, 0)},
        near_miss={"A": _T3, "B": Spec((4, 1, 6)), "p": (1, 2, 0)},
        integers=True,
    ),
    Rule(
        "reshaped-operands",
        _F,
        "binary(reshape(A, s), reshape(B, s))",
        "reshape(binary(A, B), s)",
        guards=(same_shape("A", "B"),),
        reassociates=False,
        example={"s": (12, 4)},
        near_miss={"B": Spec((8, 6)), "s": (12, 4)},
        integers=True,
    ),
)

_MATS = {"A": Spec((4, 16)), "B": _ONE, "C": Spec((16, 3))}
_WIDE = {"A": Spec((4, 2)), "B": _ONE, "C": Spec((2, 30))}
_TALL = {"A": Spec((30, 2)), "B": _ONE, "C": Spec((2, 4))}
_CONV = {"A": Spec((1, 8, 6, 6)), "B": _ONE, "W": Spec((2, 8, 3, 3))}
_CONV_WIDE = {"A": Spec((1, 2, 6, 6)), "B": _ONE, "W": Spec((30, 2, 3, 3))}
_CONV_LARGE = {"A": Spec((1, 2, 9, 9)), "B": _ONE, "W": Spec((2, 2, 1, 1))}
_S = (scalar("B"),)
_LATER = (*_S, wide("A"))


_LINEAR = (
    Rule(
        "scaled-left-matmul",
        _F,
        "(A * B) @ C",
        "(A @ C) * B",
        guards=_LATER,
        example=_MATS,
        near_miss={**_MATS, "B": Spec((16,))},
        note="Where the product has fewer elements than A.",
    ),
    Rule(
        "scaled-right-matmul",
        _F,
        "A @ (C * B)",
        "(A @ C) * B",
        guards=_LATER,
        example={**_MATS, "A": Spec((2, 16))},
        near_miss={**_MATS, "B": Spec((16, 1))},
        note="Where the product has fewer elements than C.",
    ),
    Rule(
        "scale-matmul-left",
        _F,
        "(A @ C) * B",
        "(A * B) @ C",
        guards=_S,
        example=_WIDE,
        near_miss={**_WIDE, "B": Spec((30,))},
        note="Where A has fewer elements.",
    ),
    Rule(
        "scale-matmul-right",
        _F,
        "(A @ C) * B",
        "A @ (C * B)",
        guards=_S,
        example=_TALL,
        near_miss={**_TALL, "B": Spec((4,))},
        note="Where C has fewer elements.",
    ),
    Rule(
        "scaled-conv",
        _F,
        "conv(A * B, W)",
        "conv(A, W) * B",
        guards=_LATER,
        example=_CONV,
        near_miss={**_CONV, "B": Spec((6,))},
        note="Where the result has fewer elements.",
    ),
    Rule(
        "scale-conv-input",
        _F,
        "conv(A, W) * B",
        "conv(A * B, W)",
        guards=_S,
        example=_CONV_WIDE,
        near_miss={**_CONV_WIDE, "B": Spec((4,))},
        note="Where the input has fewer elements.",
    ),
    Rule(
        "scale-conv-weight",
        _F,
        "conv(A, W) * B",
        "conv(A, W * B)",
        guards=_S,
        example=_CONV_LARGE,
        near_miss={**_CONV_LARGE, "B": Spec((9,))},
        note="Where the weight has fewer elements.",
    ),
    Rule(
        "transposed-product",
        _F,
        "transpose(A, axes=(1, 0)) @ transpose(B, axes=(1, 0))",
        "transpose(B @ A, axes=(1, 0))",
        reassociates=False,
        example={"A": Spec((4, 5)), "B": Spec((6, 4))},
        integers=True,
    ),
)

RULES = (*_SWAPS, *_POINTWISE, *_MOVEMENT, *_LINEAR)
