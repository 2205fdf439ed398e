"""Outputs that read other outputs: at their own element in the tile, elsewhere after it."""

import numpy as np
import pytest

from tests.helpers import (
    built,
    feed_of,
    kept_in_memory,
    lowered,
    run_kernel,
    scheduled,
    unfused,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout

C16 = Layout(1, 16)
SIZE = (1, 32, 8, 28)


def conv(b, kernel=3, **attrs):
    p, channels = kernel // 2, 32 // attrs.get("groups", 1)
    w = weights(b, 32, channels, kernel, kernel)
    return b.op("nn.conv2d", b.input("x", SIZE), w, padding=(p, p, p, p), **attrs)


def pool(b):
    attrs = {"pool_size": (3, 3), "padding": (1, 1, 1, 1)}
    return b.op("nn.max_pool2d", b.input("x", SIZE), **attrs)


HEAVY = {
    "conv": lambda b: conv(b, 1),
    "winograd": conv,
    "dwconv": lambda b: conv(b, groups=32),
    "pool": pool,
    "matmul": lambda b: b.op("matmul", b.input("x", (64, 64)), weights(b, 64, 64)),
}


def flipped(b, y):
    return b.op("flip", y, axis=3 if len(b.tensors[y].dims) == 4 else 0)


def shuffled(b, y):
    n, c, *rest = b.tensors[y].dims
    cut = b.op("permute_dims", b.op("reshape", y, (n, 2, c // 2, *rest)), axes=(0, 2, 1, 3, 4))
    return b.op("reshape", cut, (n, c, *rest))


def compare(make, kind):
    """The scheduled kernel of a block whose tensors are blocked, checked; outputs start as NaN."""
    graph = built(make)
    plain = kind == "matmul"
    layouts = {t: C16 for t, x in graph.tensors.items() if not plain and x.dims == SIZE}
    kernel, feed = lowered(graph, layouts, winograd=6 * (kind == "winograd")), feed_of(graph)
    assert kernel.kind == kind
    wanted = dict(zip(graph.outputs, unfused(graph, feed), strict=True))
    func = scheduled(kernel)
    for name, value in zip(kernel.outputs, run_kernel(func, kernel, graph, feed, layouts)):
        np.testing.assert_allclose(value, wanted[name], rtol=1e-3, atol=1e-4, err_msg=name)
    return func


@pytest.mark.parametrize("kind", HEAVY)
def test_an_output_that_reads_another_elsewhere_waits_for_all_of_it(kind):
    def make(b):
        y = HEAVY[kind](b)
        r = b.op("nn.relu", y)
        return b.op("add", y, flipped(b, r)), r

    assert kept_in_memory(compare(make, kind), "anchor")


@pytest.mark.parametrize("kind", HEAVY)
def test_an_output_that_reads_another_in_place_is_written_tile_by_tile(kind):
    def make(b):
        y = HEAVY[kind](b)
        r = b.op("nn.relu", y)
        return b.op("add", y, b.op("exp", b.op("negative", r))), r

    assert not kept_in_memory(compare(make, kind), "anchor")


@pytest.mark.parametrize("escapes", [True, False])
@pytest.mark.parametrize("kind", ["conv", "winograd", "dwconv", "pool"])
def test_an_output_that_reads_channels_of_two_tiles(kind, escapes):
    def make(b):
        y = HEAVY[kind](b)
        r = b.op("nn.silu", y)
        return (b.op("multiply", y, shuffled(b, r)), *((r,) if escapes else ()))

    compare(make, kind)


def test_the_mean_of_a_product_comes_before_its_scaling():
    def make(b):
        y = conv(b)
        return b.op("multiply", y, b.op("mean", y, axis=(2, 3), keepdims=True))

    compare(make, "winograd")
