"""Rows for convolutions, products, normalisations and activations.

conv(any layout)         permute_dims to NCHW and OIHW, conv, permute_dims back
nn.dense(x, w [N, K])    = matmul(x, permute_dims(w))
nn.bias_add(x, b, axis)  = add(x, reshape(b, [1, C, 1, 1]))
nn.lrn                   = x / (bias + alpha / size * sum of size squares along C)^beta
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvm_dnnfusion.relay.entry import (
    Call,
    Entry,
    Unsupported,
    Value,
    along,
    ints,
    same,
    unpacked,
)
from tvm_dnnfusion.relay.layouts import to_layout

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}
UNTUNED = {"auto_scheduler_rewritten_layout": ("",), "meta_schedule_original_shape": ((),)}
"""Set by tuning, which packs the weight in a layout that is not written down."""

_CONV = ("strides", "padding", "dilation", "groups", "data_layout", "kernel_layout", "out_layout",
         "out_dtype")  # fmt: skip
_SAID = {"channels": "the weight says it", "kernel_size": "the weight says it"}


def widened(call: Call, *operands: relax.Expr) -> tuple[relax.Expr, ...]:
    """Operands cast to `out_dtype`, in which Relay sums, where that is another type."""
    wanted = call.get("out_dtype") or call.dtype(operands[0])
    return tuple(x if call.dtype(x) == wanted else call.do("astype", x, wanted) for x in operands)


def conv(call: Call, x: relax.Expr, w: relax.Expr, rank: int, transposed: bool = False) -> Value:
    """A convolution of NC... and OI... (transposed: IO...) in whatever layout it is given."""
    plain = "NC" + SPATIAL[rank]
    kernel = ("IO" if transposed else "OI") + SPATIAL[rank]
    layout = call.get("data_layout", plain)
    x = to_layout(call, x, layout, plain)
    w = to_layout(call, w, call.get("kernel_layout", kernel), kernel)
    named: dict[str, Any] = {
        "strides": ints(call.get("strides", (1,) * rank)),
        "padding": ints(call.get("padding", (0,) * rank)),
        "dilation": ints(call.get("dilation", (1,) * rank)),
        "groups": int(call.get("groups", 1)),
    }
    if transposed:
        named["output_padding"] = ints(call.get("output_padding", (0,) * rank))
    op = f"nn.conv{rank}d" + ("_transpose" if transposed else "")
    made = call.do(op, *widened(call, x, w), **named)
    return to_layout(call, made, plain, call.get("out_layout") or layout)


def _conv(rank: int, transposed: bool = False) -> Any:
    return lambda call: conv(call, call.args[0], call.args[1], rank, transposed)


def _swapped(call: Call, x: relax.Expr) -> relax.Expr:
    """The last two axes exchanged."""
    rank = call.rank(x)
    return call.do("permute_dims", x, [*range(rank - 2), rank - 1, rank - 2])


def _dense(call: Call) -> Value:
    x, w = widened(call, *call.args)
    return call.do("matmul", x, _swapped(call, w))


def _dense_pack(call: Call) -> Value:
    w = to_layout(call, call.args[1], call.get("weight_layout", "NC"), "NC")
    x, w = widened(call, call.x, w)
    return call.do("matmul", x, _swapped(call, w))


def _matmul(default_b: bool) -> Any:
    def make(call: Call) -> Value:
        a, b = widened(call, *call.args)
        a = _swapped(call, a) if call.get("transpose_a", False) else a
        b = _swapped(call, b) if call.get("transpose_b", default_b) else b
        return call.do("matmul", a, b)

    return make


def _bias_add(call: Call) -> Value:
    x, bias = call.args
    return call.do("add", x, along(call, bias, x, call.axis(x, default=1)))


def _scale_and_shift(call: Call, gamma: Any, beta: Any) -> tuple[relax.Expr, relax.Expr]:
    """Relay leaves the operand out of account where `scale` or `center` is off."""
    size, dtype = call.dims(gamma), call.dtype(gamma)
    if not call.get("scale", True):
        gamma = call.const(np.ones(size), dtype)
    return gamma, beta if call.get("center", True) else call.const(np.zeros(size), dtype)


def _batch_norm(call: Call) -> Value:
    x, gamma, beta, mean, var = call.args
    gamma, beta = _scale_and_shift(call, gamma, beta)
    axis, eps = call.axis(x, default=1), float(call.get("epsilon", 1e-5))
    made = call.do("nn.batch_norm", x, gamma, beta, mean, var, axis, eps, training=False)
    return (unpacked(call, made)[0], mean, var)


def _layer_norm(call: Call) -> Value:
    gamma, beta = _scale_and_shift(call, *call.args[1:])
    axis, eps = call.axis(call.x, default=-1), float(call.get("epsilon", 1e-5))
    return call.do("nn.layer_norm", call.x, gamma, beta, [axis], eps)


def _instance_norm(call: Call) -> Value:
    gamma, beta = _scale_and_shift(call, *call.args[1:])
    axis, eps = call.axis(call.x, default=1), float(call.get("epsilon", 1e-5))
    axes = [a for a in range(1, call.rank(call.x)) if a != axis]
    return call.do("nn.instance_norm", call.x, gamma, beta, axis, axes, eps)


def _group_norm(call: Call) -> Value:
    gamma, beta = _scale_and_shift(call, *call.args[1:])
    axis, eps = call.axis(call.x, default=1), float(call.get("epsilon", 1e-5))
    axes = [a for a in range(1, call.rank(call.x)) if a != axis]
    groups = int(call.attrs["num_groups"])
    return call.do("nn.group_norm", call.x, gamma, beta, groups, axis, axes, eps)


def _l2_normalize(call: Call) -> Value:
    axes = [a % call.rank(call.x) for a in ints(call.attrs["axis"])]
    total = call.do("sum", call.do("multiply", call.x, call.x), axes, True)
    floor = call.do("maximum", total, call.scalar(float(call.attrs["eps"]), call.x))
    return call.do("divide", call.x, call.do("sqrt", floor))


def _lrn(call: Call) -> Value:
    x, size, axis = call.x, int(call.attrs["size"]), call.axis(call.x, default=1)
    if not 0 < size <= 64 or size % 2 == 0:
        raise Unsupported(f"size is {size}")
    alpha, beta, bias = (float(call.attrs[name]) for name in ("alpha", "beta", "bias"))
    half, extent = size // 2, call.dims(x)[axis]
    widths = [0] * (2 * call.rank(x))
    widths[2 * axis] = widths[2 * axis + 1] = half
    squares = call.do("nn.pad", call.do("multiply", x, x), widths)
    parts = [call.do("strided_slice", squares, [axis], [i], [i + extent]) for i in range(size)]
    total = parts[0]
    for part in parts[1:]:
        total = call.do("add", total, part)
    scaled = call.do("multiply", total, call.scalar(alpha / size, x))
    base = call.do("add", scaled, call.scalar(bias, x))
    return call.do("divide", x, call.do("power", base, call.scalar(beta, x)))


def _dropout(call: Call) -> Value:
    """Inference: the operand, and a mask of ones."""
    return (call.x, call.do("ones_like", call.x))


def _cross_entropy(with_logits: bool) -> Any:
    """-sum(log(p) * t) / batch; with logits p is a logarithm already."""

    def make(call: Call) -> Value:
        logs = call.x if with_logits else call.do("log", call.x)
        total = call.do("sum", call.do("multiply", logs, call.args[1]))
        return call.do("multiply", total, call.scalar(-1.0 / call.dims(call.x)[0], call.x))

    return make


def _softmax_row(relay: str, relax_name: str) -> Entry:
    return same(relay, relax_name, "SoftmaxAttrs", passed={"axis": "axis"})


_NORM = ("axis", "epsilon", "center", "scale")

ENTRIES: tuple[Entry, ...] = (
    *(
        Entry(f"nn.conv{r}d", f"nn.conv{r}d", _conv(r), f"Conv{r}DAttrs", used=_CONV,
              ignored=_SAID, must=UNTUNED if r > 1 else {})
        for r in (1, 2, 3)
    ),
    *(
        Entry(f"nn.conv{r}d_transpose", f"nn.conv{r}d_transpose", _conv(r, True),
              f"Conv{r}DTransposeAttrs", used=(*_CONV, "output_padding"), ignored=_SAID)
        for r in (1, 2, 3)
    ),
    *(
        Entry(name, "permute_dims, reshape, nn.conv2d", _conv(2), "Conv2DAttrs", used=_CONV,
              ignored=_SAID, must=UNTUNED, note="packed layouts such as NCHW16c")
        for name in ("nn.contrib_conv2d_NCHWc", "nn.contrib_depthwise_conv2d_NCHWc")
    ),
    Entry("nn.dense", "permute_dims, matmul", _dense, "DenseAttrs", used=("out_dtype",),
          ignored={"units": "the weight says it"}, must=UNTUNED),
    Entry("nn.contrib_dense_pack", "permute_dims, reshape, matmul", _dense_pack, "DensePackAttrs",
          used=("out_dtype", "weight_layout"), ignored={"units": "the weight says it"}),
    Entry("nn.matmul", "matmul, permute_dims", _matmul(False), "MatmulAttrs",
          used=("out_dtype", "transpose_a", "transpose_b"),
          ignored={"units": "the weight says it"}, must=UNTUNED),
    Entry("nn.batch_matmul", "matmul, permute_dims", _matmul(True), "BatchMatmulAttrs",
          used=("out_dtype", "transpose_a", "transpose_b"), must=UNTUNED,
          note="the second operand is transposed unless told otherwise"),
    Entry("nn.bias_add", "reshape, add", _bias_add, "BiasAddAttrs", used=("axis",)),
    Entry("nn.batch_norm", "nn.batch_norm", _batch_norm, "BatchNormAttrs", used=_NORM,
          note="as in inference; three results"),
    Entry("nn.layer_norm", "nn.layer_norm", _layer_norm, "LayerNormAttrs", used=_NORM),
    Entry("nn.instance_norm", "nn.instance_norm", _instance_norm, "InstanceNormAttrs", used=_NORM),
    Entry("nn.group_norm", "nn.group_norm", _group_norm, "GroupNormAttrs",
          used=(*_NORM, "num_groups")),
    Entry("nn.l2_normalize", "multiply, sum, maximum, sqrt, divide", _l2_normalize,
          "L2NormalizeAttrs", used=("eps", "axis")),
    Entry("nn.lrn", "nn.pad, strided_slice, add, power, divide", _lrn, "LRNAttrs",
          used=("size", "axis", "bias", "alpha", "beta")),
    _softmax_row("nn.softmax", "nn.softmax"),
    _softmax_row("nn.fast_softmax", "nn.softmax"),
    _softmax_row("nn.log_softmax", "nn.log_softmax"),
    same("nn.leaky_relu", "nn.leakyrelu", "LeakyReluAttrs", passed={"alpha": "alpha"}),
    same("nn.prelu", "nn.prelu", "PReluAttrs", passed={"axis": "axis"}),
    Entry("nn.dropout", "its operand", _dropout, "DropoutAttrs",
          ignored={"rate": "inference"}, note="two results"),
    Entry("nn.cross_entropy", "log, multiply, sum", _cross_entropy(False)),
    Entry("nn.cross_entropy_with_logits", "multiply, sum", _cross_entropy(True)),
)  # fmt: skip
"""The rows of this file."""
