"""Patterns that exporters leave behind, recognised as the operators that they are.

    x (1 + erf(x / sqrt 2)) / 2                        ->  gelu(x)
    x / (1 + exp(-x))                                  ->  silu(x)
    exp(x - max x) / sum exp(x - max x)                ->  softmax(x)
    (x - mean x) / sqrt(mean (x - mean x)^2 + e) g + b ->  layer_norm(x, g, b)
    x / sqrt(mean x^2 + e) g                           ->  rms_norm(x, g)

They always apply, before the algebra could take them apart. A norm is found with scale 1 and shift
0 first; the multiplication and the addition that follow are then taken in one by one, so that any
of them may be missing. HardSwish stays as it is written (a clip and two products); attention has a
table of its own, `attention.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvm_dnnfusion.rewrite.rule import Family, Guard, Miss, Rule
from tvm_dnnfusion.rewrite.site import Site

_F = Family.EXPORTER
_NORM = {"x": (1,), "y": (1,), "z": (1,), "K": np.float32(1e-5)}


def _axes(s: Site, name: str) -> tuple[int, ...]:
    value, rank = s.literal(name), len(s.shape("A"))
    if value is None:
        return tuple(range(rank))
    items = value if isinstance(value, tuple) else (value,)
    return tuple(sorted(int(a) % rank for a in items))


def _one_axis(s: Site) -> bool:
    names = [n for n in ("x", "y") if n in s.env.values]
    found = {_axes(s, n) for n in names}
    return len(found) == 1 and len(next(iter(found))) == 1


def _softmax_axis(s: Site) -> Mapping[str, Any]:
    return {"a": _axes(s, "x")[0]}


def _norm_axes(s: Site) -> bool:
    names = [n for n in ("x", "y", "z") if n in s.env.values]
    found = {_axes(s, n) for n in names}
    rank = len(s.shape("A"))
    axes = next(iter(found))
    return len(found) == 1 and axes == tuple(range(rank - len(axes), rank)) and len(axes) > 0


def _small_epsilon(s: Site) -> bool:
    value = s.number("K")
    return value is not None and 0 <= value < 1


def _norm(s: Site) -> Mapping[str, Any]:
    shape = tuple(s.shape("A")[a] for a in _axes(s, "x"))
    dtype = s.dtype("A")
    return {
        "G": np.ones(shape, dtype),
        "B": np.zeros(shape, dtype),
        "e": s.number("K"),
        "a": tuple(a - len(s.shape("A")) for a in _axes(s, "x")),
    }


_GUARDS = (
    Guard("all reductions must be over the same trailing axes", _norm_axes),
    Guard("epsilon must be one number from 0 to 1", _small_epsilon),
)
_SAME_AXIS = (Guard("both reductions must be over the same single axis", _one_axis),)
_KEEP = "keepdims=True"
_CENTRED = f"(A - mean(A, axis=x, {_KEEP}))"
_VARIANCE = f"mean(square({_CENTRED}), axis=y, {_KEEP})"
_RMS = f"mean(square(A), axis=x, {_KEEP})"
_LAYER_NORM = "layer_norm(A, G, B, axes=a, epsilon=e)"
_RMS_NORM = "rms_norm(A, G, axes=a, epsilon=e)"
_SHIFTED = f"A - max(A, axis=x, {_KEEP})"
_BAD_NORM = {**_NORM, "x": (0,), "y": (0,)}


def _norm_rule(name: str, before: str, after: str) -> Rule:
    return Rule(
        name,
        _F,
        before,
        after,
        guards=_GUARDS,
        derive=_norm,
        always=True,
        example=_NORM,
        near_miss=_BAD_NORM,
        note="With scale 1 and shift 0.",
    )


def _operand_of_norm(s: Site, kinds: tuple[str, ...]) -> tuple[Any, str] | Miss | None:
    """(the norm, the other operand in the shape of its scale) of a product or sum."""
    for norm_at, other in (s.root.inputs[:2], s.root.inputs[1::-1]):
        op = s.work.producer.get(norm_at)
        if op is None or op.kind not in kinds or op.barrier is not None:
            continue
        if not s.work.single(norm_at):
            return Miss("another op reads the norm")
        wanted = s.work.tensors[op.inputs[1]].dims
        record = s.work.tensors[other]
        if s.work.tensors[norm_at].dims != s.work.tensors[s.root.output].dims:
            return Miss("the operand broadcasts the norm")
        data = s.work.constants.get(other)
        if data is not None and data.size > 0:
            try:
                full = np.broadcast_to(data.reshape(_stripped(data.shape, wanted)), wanted)
            except ValueError:
                return Miss(f"the operand must have the shape {wanted} of the norm's scale")
            return op, s.draft.constant("v", np.ascontiguousarray(full))
        if record.dims != wanted:
            return Miss(f"the operand must have the shape {wanted} of the norm's scale")
        return op, other
    return None


def _stripped(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Without leading extents of 1 beyond the wanted rank."""
    while len(shape) > len(wanted) and shape[0] == 1:
        shape = shape[1:]
    return shape


def _takes_scale(s: Site) -> Mapping[str, str] | Miss | None:
    found = _operand_of_norm(s, ("nn.layer_norm", "nn.rms_norm"))
    if found is None or isinstance(found, Miss):
        return found
    op, scale = found
    params = [_times(s, t, scale) for t in op.inputs[1:]]
    if any(p is None for p in params):
        return Miss("the norm has a scale or shift that is no constant")
    return {s.root.output: s.draft.put(op, op.inputs[0], *[p for p in params if p])}


def _times(s: Site, param: str, scale: str) -> str | None:
    """param * scale, at no run-time cost: one is a constant 1, or 0, or both are constants."""
    splat = s.work.splat(param)
    if splat == 1:
        return scale
    if splat == 0:
        return param
    if param in s.work.constants and scale in s.draft.constants:
        return s.draft.op("multiply", param, scale)
    return None


def _takes_shift(s: Site) -> Mapping[str, str] | Miss | None:
    found = _operand_of_norm(s, ("nn.layer_norm",))
    if found is None or isinstance(found, Miss):
        return found
    op, shift = found
    beta = op.inputs[2]
    if s.work.splat(beta) == 0:
        total = shift
    elif beta in s.work.constants and shift in s.draft.constants:
        total = s.draft.op("add", beta, shift)
    else:
        return Miss("the norm has a shift that is no constant")
    return {s.root.output: s.draft.put(op, op.inputs[0], op.inputs[1], total)}


def _slope(s: Site) -> bool:
    value = s.number("K")
    return value is not None and 0 < value < 1


_ERF = "erf(A * 0.7071067811865476)"
_CUBE = "0.044715"
_ROOT = "0.7978845608028654"

RULES = (
    Rule("sigmoid-written-out", _F, "recip(exp(-A) + 1)", "sigmoid(A)", always=True),
    Rule("silu-written-out", _F, "A * sigmoid(A)", "silu(A)", always=True),
    Rule("silu-as-quotient", _F, "A / (exp(-A) + 1)", "silu(A)", always=True),
    Rule("softplus-written-out", _F, "log(exp(A) + 1)", "softplus(A)", always=True),
    Rule(
        "leaky-relu-written-out",
        _F,
        "maximum(A, A * K)",
        "leakyrelu(A, alpha=e)",
        always=True,
        guards=(Guard("K must be one number between 0 and 1", _slope),),
        derive=lambda s: {"e": s.number("K")},
        example={"K": np.float32(0.125)},
        near_miss={"K": np.float32(1.5)},
    ),
    Rule("gelu-erf", _F, f"A * ({_ERF} + 1) * 0.5", "gelu(A)", always=True),
    Rule("gelu-erf-halved", _F, f"A * ({_ERF} * 0.5 + 0.5)", "gelu(A)", always=True),
    Rule(
        "gelu-tanh-power",
        _F,
        f"A * (tanh((A + A ** 3 * {_CUBE}) * {_ROOT}) + 1) * 0.5",
        "gelu_tanh(A)",
        always=True,
    ),
    Rule(
        "gelu-tanh-product",
        _F,
        f"A * (tanh((A + square(A) * A * {_CUBE}) * {_ROOT}) + 1) * 0.5",
        "gelu_tanh(A)",
        always=True,
    ),
    Rule(
        "gelu-tanh-factored",
        _F,
        f"A * (tanh(A * (square(A) * {_CUBE} + 1) * {_ROOT}) + 1) * 0.5",
        "gelu_tanh(A)",
        always=True,
    ),
    Rule(
        "softmax-written-out",
        _F,
        f"exp({_SHIFTED}) / sum(exp({_SHIFTED}), axis=y, {_KEEP})",
        "softmax(A, axis=a)",
        guards=_SAME_AXIS,
        derive=_softmax_axis,
        always=True,
        example={"x": (1,), "y": (1,)},
        near_miss={"x": (1,), "y": (0,)},
    ),
    Rule(
        "softmax-without-maximum",
        _F,
        f"exp(A) / sum(exp(A), axis=x, {_KEEP})",
        "softmax(A, axis=a)",
        guards=_SAME_AXIS,
        derive=_softmax_axis,
        always=True,
        example={"x": (1,)},
        near_miss={"x": (0, 1)},
    ),
    Rule(
        "log-of-softmax",
        _F,
        "log(softmax(A, axis=x))",
        "log_softmax(A, axis=x)",
        always=True,
        example={"x": -1},
    ),
    Rule(
        "log-softmax-written-out",
        _F,
        f"({_SHIFTED}) - log(sum(exp({_SHIFTED}), axis=y, {_KEEP}))",
        "log_softmax(A, axis=a)",
        guards=_SAME_AXIS,
        derive=_softmax_axis,
        always=True,
        example={"x": (1,), "y": (1,)},
        near_miss={"x": (1,), "y": (0,)},
    ),
    _norm_rule("layer-norm", f"{_CENTRED} / sqrt({_VARIANCE} + K)", _LAYER_NORM),
    _norm_rule("layer-norm-rsqrt", f"{_CENTRED} * rsqrt({_VARIANCE} + K)", _LAYER_NORM),
    _norm_rule(
        "layer-norm-variance", f"{_CENTRED} / sqrt(variance(A, axis=y, {_KEEP}) + K)", _LAYER_NORM
    ),
    _norm_rule(
        "layer-norm-variance-rsqrt",
        f"{_CENTRED} * rsqrt(variance(A, axis=y, {_KEEP}) + K)",
        _LAYER_NORM,
    ),
    _norm_rule("rms-norm", f"A / sqrt({_RMS} + K)", _RMS_NORM),
    _norm_rule("rms-norm-rsqrt", f"A * rsqrt({_RMS} + K)", _RMS_NORM),
    _norm_rule("rms-norm-recip", f"A * recip(sqrt({_RMS} + K))", _RMS_NORM),
    Rule(
        "norm-takes-scale",
        _F,
        "norm(A, g, b) * S",
        "norm(A, g * S, b * S)",
        program=_takes_scale,
        kinds=("multiply",),
        always=True,
        note="Where one side is 1 or both are constants.",
    ),
    Rule(
        "norm-takes-shift",
        _F,
        "layer_norm(A, g, b) + T",
        "layer_norm(A, g, b + T)",
        program=_takes_shift,
        kinds=("add",),
        always=True,
    ),
)
