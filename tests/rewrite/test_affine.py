"""BatchNorm, scales and shifts go into the weights: every layout, groups, and what stops them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.helpers import kinds, rewritten
from tvm_dnnfusion.ecg.builder import GraphBuilder

RNG = np.random.default_rng(3)

# kind, data shape, weight shape, attributes, channels of the result
CONVS = [
    ("nn.conv1d", (1, 4, 9), (6, 4, 3), {"padding": 1}, 6),
    ("nn.conv2d", (1, 4, 8, 8), (6, 4, 3, 3), {"padding": 1}, 6),
    ("nn.conv2d", (1, 4, 8, 8), (6, 2, 3, 3), {"groups": 2}, 6),
    ("nn.conv2d", (1, 4, 8, 8), (4, 1, 3, 3), {"groups": 4, "padding": 1}, 4),
    ("nn.conv2d", (1, 8, 8, 4), (3, 3, 4, 6), {"data_layout": "NHWC", "kernel_layout": "HWIO"}, 6),
    ("nn.conv3d", (1, 2, 4, 4, 4), (3, 2, 3, 3, 3), {"padding": 1}, 3),
    ("nn.conv1d_transpose", (1, 4, 5), (4, 6, 3), {"strides": 2}, 6),
    ("nn.conv2d_transpose", (1, 4, 5, 5), (4, 6, 3, 3), {"strides": 2, "padding": 1}, 6),
    ("nn.conv2d_transpose", (1, 4, 5, 5), (4, 3, 3, 3), {"groups": 2}, 6),
]


def _ident(case):
    return f"{case[0]}-{case[3]}"


def _weight(b, shape):
    return b.constant("w", RNG.standard_normal(shape).astype("float32"))


def _channels(case):
    """A constant with one value per output channel, in the data layout's shape."""
    layout = case[3].get("data_layout", "NC")
    return (
        RNG.uniform(0.5, 2, case[4])
        .astype("float32")
        .reshape((-1,) if layout == "NHWC" else (-1,) + (1,) * (len(case[1]) - 2))
    )


def _batch_norm(b, x, channels, axis=1, **more):
    stats = [b.constant("s", RNG.uniform(0.5, 2, channels).astype("float32")) for _ in range(4)]
    return b.op("nn.batch_norm", x, *stats, axis=axis, training=False, **more)


@pytest.mark.parametrize("case", CONVS, ids=_ident)
def test_batch_norm_after_a_convolution_leaves_an_addition(case):
    kind, data, weight, attrs, channels = case
    b = GraphBuilder()
    y = b.op(kind, b.input("x", data), _weight(b, weight), origins=("conv",), **attrs)
    axis = attrs.get("data_layout", "NC").index("C")
    y, _, _ = _batch_norm(b, y, channels, axis=axis)
    result = rewritten(b, y, atol=1e-5)
    assert kinds(result.graph) == [kind, "add"]
    assert result.graph.ops[0].origins == ("conv",)
    assert "scale-into-weight" in result.graph.ops[0].rules


@pytest.mark.parametrize("case", CONVS, ids=_ident)
def test_a_scale_after_a_bias_scales_weight_and_bias(case):
    kind, data, weight, attrs, _ = case
    b = GraphBuilder()
    y = b.op(kind, b.input("x", data), _weight(b, weight), **attrs)
    y = b.op("multiply", b.op("add", y, _channels(case)), _channels(case))
    assert kinds(rewritten(b, y, atol=1e-5).graph) == [kind, "add"]


@pytest.mark.parametrize("case", CONVS, ids=_ident)
def test_a_scale_before_a_convolution_goes_into_its_input_channels(case):
    kind, data, weight, attrs, _ = case
    b = GraphBuilder()
    layout = attrs.get("data_layout", "NC" + "DHW"[5 - len(data) :])
    shape = [data[i] if c == "C" else 1 for i, c in enumerate(layout)]
    scale = RNG.uniform(0.5, 2, shape).astype("float32")
    y = b.op(kind, b.op("multiply", b.input("x", data), scale), _weight(b, weight), **attrs)
    assert kinds(rewritten(b, y, atol=1e-5).graph) == [kind]


def test_a_scale_and_a_shift_around_a_matmul():
    b = GraphBuilder()
    x = b.op("multiply", b.input("x", (3, 4)), RNG.uniform(0.5, 2, 4).astype("float32"))
    y = b.op("matmul", x, _weight(b, (4, 5)))
    y = b.op("add", y, RNG.uniform(0.5, 2, 5).astype("float32"))
    y = b.op("multiply", y, RNG.uniform(0.5, 2, (1, 5)).astype("float32"))
    assert kinds(rewritten(b, y).graph) == ["matmul", "add"]


def test_batch_norm_before_an_unpadded_convolution_vanishes_when_a_bias_follows():
    b = GraphBuilder()
    y, _, _ = _batch_norm(b, b.input("x", (1, 4, 6, 6)), 4)
    y = b.op("nn.conv2d", y, _weight(b, (6, 4, 1, 1)))
    y = b.op("add", y, RNG.uniform(size=(6, 1, 1)).astype("float32"))
    assert kinds(rewritten(b, y, atol=1e-5).graph) == ["nn.conv2d", "add"]


def test_batch_norm_before_a_padded_convolution_keeps_its_shift():
    b = GraphBuilder()
    y, _, _ = _batch_norm(b, b.input("x", (1, 4, 6, 6)), 4)
    y = b.op("nn.conv2d", y, _weight(b, (6, 4, 3, 3)), padding=1)
    y = b.op("add", y, RNG.uniform(size=(6, 1, 1)).astype("float32"))
    result = rewritten(b, y, atol=1e-5)
    assert kinds(result.graph).count("nn.conv2d") == 1
    assert "the border of a padded input" in result.report.near_misses["shift-before-linear"]


def test_batch_norm_after_a_concat_becomes_a_product_and_a_sum():
    b = GraphBuilder()
    x, z = b.input("x", (1, 4, 6, 6)), b.input("z", (1, 2, 6, 6))
    y, _, _ = _batch_norm(b, b.op("concat", (x, z), axis=1), 6, epsilon=1e-3, center=False)
    assert kinds(rewritten(b, y).graph) == ["concat", "multiply", "add"]


def test_batch_norm_with_statistics_that_are_inputs_stays():
    b = GraphBuilder()
    stats = [b.input(n, (4,)) for n in ("g", "b", "m", "v")]
    y, _, _ = b.op("nn.batch_norm", b.input("x", (1, 4, 6, 6)), *stats, training=False)
    b.output(y)
    from tvm_dnnfusion.rewrite import rewrite

    result = rewrite(b.build())
    assert kinds(result.graph) == ["nn.batch_norm"]
    assert "must be constants" in result.report.near_misses["batch-norm-to-affine"]


def test_batch_norm_in_training_mode_stays():
    b = GraphBuilder()
    stats = [b.constant("s", np.ones(4, "float32")) for _ in range(4)]
    y, _, _ = b.op("nn.batch_norm", b.input("x", (1, 4, 6, 6)), *stats, training=True)
    from tvm_dnnfusion.rewrite import rewrite

    result = rewrite(b.output(y).build())
    assert kinds(result.graph) == ["nn.batch_norm"]
    assert "training mode" in result.report.near_misses["batch-norm-to-affine"]


def test_a_scaled_result_that_others_read_unscaled_is_left_alone():
    b = GraphBuilder()
    y = b.op("nn.conv2d", b.input("x", (1, 4, 6, 6)), _weight(b, (6, 4, 1, 1)))
    z = b.op("multiply", y, RNG.uniform(size=(6, 1, 1)).astype("float32"))
    result = rewritten(b, z, b.op("tanh", y))
    assert sorted(kinds(result.graph)) == ["multiply", "nn.conv2d", "tanh"]
    assert "reads the unscaled result" in result.report.near_misses["scale-into-weight"]


def test_a_scale_along_the_width_is_no_channel_scale():
    b = GraphBuilder()
    y = b.op("nn.conv2d", b.input("x", (1, 4, 6, 5)), _weight(b, (6, 4, 1, 1)))
    result = rewritten(b, b.op("multiply", y, RNG.uniform(size=5).astype("float32")))
    assert kinds(result.graph) == ["nn.conv2d", "multiply"]
    assert "per output channel" in result.report.near_misses["scale-into-weight"]


def test_the_scale_of_attention_queries_goes_through_reshape_and_transpose():
    b = GraphBuilder()
    q = b.op("matmul", b.input("x", (1, 6, 8)), _weight(b, (8, 8)))
    q = b.op("add", q, RNG.uniform(size=8).astype("float32"))
    q = b.op("permute_dims", b.op("reshape", q, (1, 6, 2, 4)), axes=(0, 2, 1, 3))
    result = rewritten(b, b.op("multiply", q, 0.5))
    assert kinds(result.graph) == ["matmul", "add", "reshape", "permute_dims"]
