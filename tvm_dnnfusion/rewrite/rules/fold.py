"""Constant folding, common sub-expressions, and forms that every other rule may rely on.

    f(K1, K2, ..)            ->  the value
    f(A), f(A)               ->  one f(A)
    A / K -> A * (1 / K),  A - K -> A + (-K),  power(A, 2) -> square(A), ..

These always apply, before any rule that is ranked by FLOPs: later patterns then need one form only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_dnnfusion.rewrite.draft import fold
from tvm_dnnfusion.rewrite.guards import nonnegative, nonzero, variable
from tvm_dnnfusion.rewrite.rule import Family, Guard, Miss, Rule, Spec
from tvm_dnnfusion.rewrite.site import Site
from tvm_dnnfusion.rewrite.work import key_of


def _fold(s: Site) -> Mapping[str, str] | Miss | None:
    if any(t not in s.work.constants for t in s.root.inputs):
        return None
    if len(s.root.outputs) > 1:
        return _fold_split(s)
    data = fold(s.root, s.work.tensors, s.work.constants)
    if data is None:
        return Miss("the value would be much larger than its operands, or is not computed here")
    return {s.root.output: s.draft.constant("value", data)}


def _fold_split(s: Site) -> Mapping[str, str] | Miss | None:
    from tvm_dnnfusion.ecg.evaluate import NotEvaluated, evaluate_op

    try:
        parts = evaluate_op(s.root, s.work.tensors, s.work.constants)
    except NotEvaluated as error:
        return Miss(str(error))
    return {
        t: s.draft.constant("value", np.ascontiguousarray(v)) for t, v in zip(s.root.outputs, parts)
    }


def _common(s: Site) -> Mapping[str, str] | None:
    key = key_of(s.root)
    first = s.work.by_key.setdefault(key, s.root.name)
    if first == s.root.name or not s.root.inputs:
        return None
    return dict(zip(s.root.outputs, s.work.ops[first].outputs))


def _reciprocal(s: Site) -> Mapping[str, np.ndarray]:
    k = s.const("K")
    assert k is not None
    with np.errstate(divide="ignore", over="ignore"):  # a guard looks at what comes out
        return {"R": (1.0 / k.astype("float64")).astype(k.dtype)}


def _invertible(s: Site) -> bool:
    k = s.const("K")
    if k is None or k.dtype.kind != "f":
        return False
    inverse = np.abs(_reciprocal(s)["R"])
    return bool((np.isfinite(inverse) & (inverse >= np.finfo(k.dtype).tiny)).all())


_K = {"K": np.float32(3.0)}

RULES = (
    Rule(
        "fold-constants",
        Family.FOLD,
        "f(K1, K2, ..)",
        "its value",
        program=_fold,
        integers=True,
        kinds=("*",),
        always=True,
        reassociates=False,
        note="Computed in double and rounded once; only up to a size, so that weights do not "
        "blow up.",
    ),
    Rule(
        "common-subexpression",
        Family.CLEANUP,
        "f(A), f(A)",
        "f(A)",
        program=_common,
        kinds=("*",),
        always=True,
        reassociates=False,
        note="Same kind, same operands (in any order where they commute), same attributes.",
    ),
    Rule(
        "divide-by-constant",
        Family.FOLD,
        "A / K",
        "A * R",
        derive=_reciprocal,
        always=True,
        guards=(
            nonzero("K"),
            Guard("1 / K must be a normal number of the type", _invertible),
            variable("A"),
        ),
        example=_K,
        near_miss={"K": np.float32(0)},
        note="R = 1 / K.",
    ),
    Rule(
        "subtract-constant",
        Family.FOLD,
        "A - K",
        "A + N",
        always=True,
        reassociates=False,
        guards=(variable("A"),),
        derive=lambda s: {"N": -s.const("K")},  # type: ignore[operator]
        example=_K,
        near_miss={"A": np.ones((6, 8), "float32"), **_K},
        note="N = -K; exact.",
    ),
    Rule("power-two", Family.FOLD, "A ** 2", "square(A)", always=True, integers=True),
    Rule("power-one", Family.FOLD, "A ** 1", "A", always=True, reassociates=False, integers=True),
    Rule(
        "power-half",
        Family.FOLD,
        "A ** 0.5",
        "sqrt(A)",
        always=True,
        guards=(nonnegative("A"),),
        example={"A": "exp(B)"},
        near_miss={},
        note="At -inf the power is inf.",
    ),
    Rule(
        "power-minus-half",
        Family.FOLD,
        "A ** -0.5",
        "rsqrt(A)",
        always=True,
        guards=(nonnegative("A"),),
        example={"A": "exp(B)"},
        near_miss={},
        note="At -inf the power is 0.",
    ),
    Rule(
        "power-minus-one",
        Family.FOLD,
        "A ** -1",
        "recip(A)",
        always=True,
        example={"A": Spec(low=0.1)},
    ),
)
