"""Poolings by themselves, with what is fused around them, against the unfused module."""

import numpy as np
import pytest

from tests.helpers import built, check_block, lowered, run_kernel, scheduled, unfused
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import NotLowerable

POOLS = {
    "nn.max_pool1d": {"pool_size": (3,), "strides": (2,), "padding": (1, 1)},
    "nn.max_pool2d": {"pool_size": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)},
    "nn.max_pool3d": {"pool_size": (2, 2, 2), "strides": (2, 2, 2)},
    "nn.avg_pool1d": {"pool_size": (4,), "strides": (3,)},
    "nn.avg_pool2d": {"pool_size": (3, 3), "padding": (1, 1, 1, 1)},
    "nn.avg_pool3d": {"pool_size": (2, 3, 2), "padding": (1, 1, 1, 1, 1, 1)},
}


@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "blocked"])
@pytest.mark.parametrize("kind", POOLS)
def test_pooling_with_prologue_and_epilogue(kind, blocked):
    rank = int(kind[-2])
    layouts = {"x": Layout(1, 16), "sigmoid": Layout(1, 16)} if blocked else {}

    def make(b):
        x = b.input("x", (2, 16, *(9, 8, 7)[:rank]))
        pooled = b.op(kind, x if blocked else b.op("exp", x), **POOLS[kind])
        return b.op("sigmoid", pooled)

    check_block(built(make), "pool", layouts)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_maximum_of_integers_has_a_border_of_the_least(dtype):
    def make(b):
        x = b.input("x", (1, 3, 6, 5), dtype)
        low = x if dtype == "uint8" else b.op("subtract", x, b.constant("k", np.array(9, dtype)))
        return b.op("nn.max_pool2d", low, pool_size=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1))

    check_block(built(make), "pool")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_average(rank):
    def make(b):
        x = b.input("x", (2, 16, *(7, 6, 5)[:rank]))
        return b.op("nn.relu", b.op(f"nn.adaptive_avg_pool{rank}d", x, output_size=(1,) * rank))

    check_block(built(make), "rows")


def test_average_that_rounds_up_has_no_template():
    graph = built(lambda b: b.op("nn.avg_pool2d", b.input("x", (1, 4, 6, 6)), pool_size=(3, 3),
                                 strides=(2, 2), ceil_mode=True))  # fmt: skip
    with pytest.raises(NotLowerable, match="ceil_mode"):
        lowered(graph)


def test_adaptive_average_to_more_than_one_place_has_no_template():
    graph = built(lambda b: b.op("nn.adaptive_avg_pool2d", b.input("x", (1, 4, 6, 6)),
                                 output_size=(2, 2)))  # fmt: skip
    with pytest.raises(NotLowerable, match="with these attributes"):
        lowered(graph)


def test_the_largest_of_a_border_of_integers_after_a_convolution():
    def make(b):
        w = b.constant("w", np.ones((16, 4, 3, 3), "int32"))
        y = b.op("nn.conv2d", b.input("x", (1, 4, 8, 8), "int32"), w)
        return b.op("nn.max_pool2d", y, **POOLS["nn.max_pool2d"])

    graph = built(make)
    kernel = lowered(graph)
    feed = {"x": np.random.default_rng(0).integers(-90, -1, (1, 4, 8, 8)).astype("int32")}
    (out,) = run_kernel(scheduled(kernel), kernel, graph, feed)
    assert kernel.kind == "convpool" and out.max() < 0
    np.testing.assert_array_equal(out, unfused(graph, feed)[0])
