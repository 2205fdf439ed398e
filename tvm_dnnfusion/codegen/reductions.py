"""Many-to-Many ops that fold rows: reductions, softmax, normalisations.

Each becomes a few stages over the same rows (`Stages.reduce`), with everything pointwise between
them folded in; a schedule puts them all under one loop over rows. All but maxima and minima are
computed in float32 where their operands are float16, and narrowed last (`wide.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import te, tirx

from tvm_dnnfusion.codegen import vecmath
from tvm_dnnfusion.codegen.adaptive import adaptive_windows
from tvm_dnnfusion.codegen.layout import PLAIN
from tvm_dnnfusion.codegen.movement import reshape as view
from tvm_dnnfusion.codegen.pointwise import broadcast
from tvm_dnnfusion.codegen.stages import MAX, MIN, NotLowerable, Stages, highest, lowest, one, zero
from tvm_dnnfusion.codegen.value import Body, Index, Value
from tvm_dnnfusion.codegen.wide import narrow, wide
from tvm_dnnfusion.ecg.graph import Graph, Op

Dims = tuple[int, ...]


def _product(a: Any, b: Any) -> Any:
    return a * b


_PROD = te.comm_reducer(_product, lambda t: tirx.const(1, t), name="prod")
_FOLD: Mapping[str, tuple[Any, Callable[[str], Any]]] = {
    "sum": (te.sum, zero), "mean": (te.sum, zero), "max": (MAX, lowest),
    "min": (MIN, highest), "prod": (_PROD, one),
}  # fmt: skip


def _axes(op: Op, rank: int) -> Dims:
    axes = op.ints("axis")
    return (
        tuple(sorted({a % rank for a in axes}))
        if op.attr("axis") is not None
        else tuple(range(rank))
    )


def _map(values: list[Value], fn: Callable[..., Any], shape: Dims, dtype: str) -> Value:
    for v in values:
        v.readers += 1
    layout = next((v.layout for v in values if v.shape == shape), values[0].layout)
    return Value(
        shape,
        dtype,
        lambda body, index: fn(*(body.read(v, broadcast(index, v.shape)) for v in values)),
        layout=layout,
    )


def _divided(value: Value, count: int) -> Value:
    """The value by a number of elements; integers are truncated, as TVM and ONNX Runtime do."""

    def by(x: Any) -> Any:
        if "float" in value.dtype:
            return x * tirx.const(1.0 / count, value.dtype)
        return tirx.truncdiv(x, tirx.const(count, value.dtype))

    return _map([value], by, value.shape, value.dtype)


def _count(shape: Dims, axes: Dims) -> int:
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def mean(stages: Stages, x: Value, axes: Dims) -> Value:
    """Mean over axes, kept as ones."""
    total = stages.reduce(x, axes, te.sum, zero)
    return _divided(total, _count(x.shape, axes))


def variance(stages: Stages, x: Value, centre: Value, axes: Dims) -> Value:
    """Mean squared distance from `centre`: the two-pass form, which does not cancel."""
    square = _map([x, centre], lambda a, m: (a - m) * (a - m), x.shape, x.dtype)
    return mean(stages, square, axes)


def reduction(op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages) -> Value:
    """sum, mean, max, min, prod, variance, std over axes."""
    x, dtype = inputs[0], inputs[0].dtype
    axes = _axes(op, len(x.shape))
    if not axes:
        return _map([x], lambda v: v, x.shape, x.dtype)
    if op.kind in ("variance", "std"):
        x = _rows(x, stages)
        out = variance(stages, x, mean(stages, x, axes), axes)
        if op.kind == "std":
            if "float" not in x.dtype:
                raise NotLowerable(f"std of {x.dtype}")
            out = _map([out], tirx.sqrt, out.shape, out.dtype)
    else:
        combine, identity = _FOLD[op.kind]
        x = x if op.kind in ("max", "min") else wide(x)  # those two are exact
        out = stages.reduce(x, axes, combine, identity)
        if op.kind == "mean":
            out = _divided(out, _count(x.shape, axes))
    return narrow(out if out.shape == shape else view(op, [out], shape, graph), dtype)


def _rows(x: Value, stages: Stages) -> Value:
    """The operand of several stages in float32, read by loads."""
    if x.wide is not None and not x.resident:
        return stages.resident(wide(x))
    return wide(stages.resident(x))


def softmax(op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages) -> Value:
    """softmax and log_softmax along one axis, by the shifted form."""
    axes = (int(op.attr("axis", -1)) % len(shape),)  # type: ignore[arg-type]
    x, dtype = _rows(inputs[0], stages), inputs[0].dtype
    top = stages.reduce(x, axes, MAX, lowest)
    if op.kind == "nn.log_softmax":
        power = _map([x, top], lambda a, m: vecmath.exp(a - m), shape, x.dtype)
        total = stages.reduce(power, axes, te.sum, zero)
        out = _map([x, top, total], lambda a, m, s: a - m - vecmath.log(s), shape, x.dtype)
        return narrow(out, dtype)
    power = stages.hold(
        _map([x, top], lambda a, m: vecmath.exp(a - m), shape, x.dtype), layout=x.layout
    )
    total = stages.reduce(power, axes, te.sum, zero)
    inverse = _map([total], lambda s: tirx.const(1.0, x.dtype) / s, total.shape, x.dtype)
    held = stages.hold(inverse, "red", total.layout)
    return narrow(_map([power, held], lambda e, r: e * r, shape, x.dtype), dtype)


def _normalised(stages: Stages, x: Value, axes: Dims, epsilon: float, centred: bool) -> Value:
    """(x - mean) / sqrt(variance + epsilon), or x / sqrt(mean of squares + epsilon): wide."""
    x = _rows(x, stages)
    centre = stages.hold(mean(stages, x, axes), "red", _row_layout(x, axes)) if centred else None
    if centre is not None:
        spread = variance(stages, x, centre, axes)
    else:
        spread = mean(stages, _map([x], lambda a: a * a, x.shape, x.dtype), axes)
    scale = _map(
        [spread],
        lambda v: tirx.const(1.0, x.dtype) / tirx.sqrt(v + tirx.const(epsilon, x.dtype)),
        spread.shape,
        x.dtype,
    )
    held = stages.hold(scale, "red", _row_layout(x, axes))
    if centre is None:
        return _map([x, held], lambda a, r: a * r, x.shape, x.dtype)
    return _map([x, centre, held], lambda a, m, r: (a - m) * r, x.shape, x.dtype)


def _row_layout(x: Value, axes: Dims) -> Any:
    """The layout of a row statistic: that of x where the blocked axis is kept."""
    return x.layout if x.layout.blocked and x.layout.axis not in axes else PLAIN


def _affine(x: Value, scale: Value | None, shift: Value | None, dims: Dims, dtype: str) -> Value:
    """x * scale + shift as `dtype`, both indexed by the dims `dims` of x."""
    scale = scale and wide(scale)
    shift = shift and wide(shift)

    def pick(index: Index) -> Index:
        return tuple(index[d] for d in dims)

    def at(body: Body, index: Index) -> Any:
        out = body.read(x, index)
        if scale is not None:
            out = out * body.read(scale, pick(index))
        return out + body.read(shift, pick(index)) if shift is not None else out

    return narrow(Value(x.shape, x.dtype, at, layout=x.layout), dtype)


def layer_norm(op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages) -> Value:
    """layer_norm(x, gamma, beta; axes, epsilon, center, scale)."""
    axes = tuple(a % len(shape) for a in op.ints("axes"))
    epsilon = float(op.attr("epsilon", 1e-5))  # type: ignore[arg-type]
    x = _normalised(stages, inputs[0], axes, epsilon, True)
    gamma = inputs[1] if op.attr("scale", True) else None
    beta = inputs[2] if op.attr("center", True) else None
    return _affine(x, gamma, beta, axes, inputs[0].dtype)


def rms_norm(op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages) -> Value:
    """rms_norm(x, weight; axes, epsilon)."""
    axes = tuple(a % len(shape) for a in op.ints("axes"))
    epsilon = float(op.attr("epsilon", 1e-5))  # type: ignore[arg-type]
    x = _normalised(stages, inputs[0], axes, epsilon, False)
    return _affine(x, inputs[1], None, axes, inputs[0].dtype)


def instance_norm(op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages) -> Value:
    """instance_norm(x, gamma, beta; channel_axis, axes, epsilon)."""
    axes = tuple(a % len(shape) for a in op.ints("axes"))
    channel = int(op.attr("channel_axis", 1)) % len(shape)  # type: ignore[arg-type]
    epsilon = float(op.attr("epsilon", 1e-5))  # type: ignore[arg-type]
    x = _normalised(stages, inputs[0], axes, epsilon, True)
    gamma = inputs[1] if op.attr("scale", True) else None
    beta = inputs[2] if op.attr("center", True) else None
    return _affine(x, gamma, beta, (channel,), inputs[0].dtype)


def group_norm(
    op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages
) -> Value | None:
    """group_norm(x, gamma, beta; num_groups, channel_axis, axes, epsilon), channels at axis 1."""
    channel = int(op.attr("channel_axis", 1)) % len(shape)  # type: ignore[arg-type]
    axes = tuple(a % len(shape) for a in op.ints("axes"))
    if channel != 1 or axes != tuple(range(2, len(shape))):
        return None
    groups = int(op.attr("num_groups", 1))  # type: ignore[arg-type]
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    epsilon = float(op.attr("epsilon", 1e-5))  # type: ignore[arg-type]
    x = _normalised(
        stages, view(op, inputs[:1], split, graph), tuple(range(2, len(split))), epsilon, True
    )
    gamma = inputs[1] if op.attr("scale", True) else None
    beta = inputs[2] if op.attr("center", True) else None
    return _affine(view(op, [x], shape, graph), gamma, beta, (1,), inputs[0].dtype)


def adaptive_mean(
    op: Op, inputs: list[Value], shape: Dims, graph: Graph, stages: Stages
) -> Value | None:
    """nn.adaptive_avg_pool: the mean of each map where it leaves one element, else of windows.

    TVM's own form of windows has loops within its blocks, which only a CPU's kernel can keep.
    """
    if not str(op.attr("layout")).startswith("NC"):
        return None
    if all(n == 1 for n in shape[2:]):
        made = mean(stages, wide(inputs[0]), tuple(range(2, len(shape))))
    elif stages.device.kind == "gpu" and "float" in inputs[0].dtype:
        made = adaptive_windows(stages, wide(inputs[0]), shape)
    else:
        return None
    return narrow(made, inputs[0].dtype)


KINDS: Mapping[str, Callable[..., Value | None]] = {
    **dict.fromkeys(("sum", "mean", "max", "min", "prod", "variance", "std"), reduction),
    "nn.softmax": softmax, "nn.log_softmax": softmax, "nn.layer_norm": layer_norm,
    "nn.rms_norm": rms_norm, "nn.instance_norm": instance_norm, "nn.group_norm": group_norm,
    **dict.fromkeys((f"nn.adaptive_avg_pool{d}d" for d in (1, 2, 3)), adaptive_mean),
}  # fmt: skip
