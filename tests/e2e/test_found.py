"""Graphs on which random search found a wrong result, a crash or a lost schedule, made small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.e2e.running import data_for, differences, fused_module, run_module
from tvm_dnnfusion.devices.registry import get, host
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.frontend.to_relax import graph_to_relax

RNG = np.random.default_rng(0)


def weight(b: GraphBuilder, *shape: int) -> str:
    return b.constant("w", RNG.uniform(-1, 1, shape).astype("float32"))


def padded_after_pool(b: GraphBuilder) -> str:
    """The padding of the output belongs to no tile of the pooling, which reads blocked channels."""
    x = b.op("nn.conv3d", b.input("x", (1, 3, 4, 8, 7)), weight(b, 6, 3, 3, 5, 5),
             strides=(1, 2, 1), padding=(1, 2, 2, 0, 2, 2))  # fmt: skip
    y = b.op("nn.avg_pool3d", b.op("nn.relu", x), pool_size=(1, 1, 2), strides=(2, 2, 2),
             padding=(0, 0, 1, 0, 0, 1))  # fmt: skip
    return b.op("nn.pad", b.op("nn.silu", y), pad_width=(0, 0, 2, 2, 0, 0, 0, 0, 1, 0),
                pad_value=-1.5)  # fmt: skip


def shifted_after_convolution(b: GraphBuilder) -> str:
    """As large as the convolution, yet its first column is none of the convolution's."""
    y = weight_conv(b, b.input("x", (1, 4, 8, 8)), 16)
    wide = b.op("nn.pad", y, pad_width=(0, 0, 0, 0, 0, 0, 1, 0), pad_value=-1.5)
    return b.op("strided_slice", wide, (3,), (0,), (8,))


def shifted_after_product(b: GraphBuilder) -> str:
    y = b.op("matmul", b.input("x", (8, 16)), weight(b, 16, 32))
    wide = b.op("nn.pad", y, pad_width=(1, 0, 0, 0), pad_value=-1.5)
    return b.op("strided_slice", wide, (0,), (0,), (8,))


def joined_after_pool(b: GraphBuilder) -> str:
    x = b.input("x", (1, 16, 12, 9, 8))
    y = b.op("nn.max_pool3d", x, pool_size=(3, 3, 3), strides=(2, 2, 1), padding=(1, 0, 1, 1, 1, 0))
    return b.op("concat", (y, y), axis=1)


def product_of_one_column(b: GraphBuilder) -> str:
    """No loop is left under the tile for the lanes."""
    return b.op("matmul", b.input("x", (4, 17, 1)), weight(b, 1, 1))


def reversed_lanes(b: GraphBuilder) -> str:
    """A negative stride over channels that lie in blocks."""
    x = b.input("x", (1, 24, 3))
    y = b.op("nn.conv1d", x, weight(b, 32, 24, 1), strides=(2,), padding=(0, 1))
    y = b.op("squeeze", b.op("tril", y, -1))
    return b.op("strided_slice", y, (0,), (31,), (-33,), (-1,))


def reversed_uneven_channels(b: GraphBuilder) -> str:
    x = b.input("x", (1, 5, 8, 5))
    y = b.op("nn.conv2d", x, weight(b, 17, 5, 3, 3), dilation=(2, 2), padding=(1, 1, 1, 1),
             strides=(1, 3))  # fmt: skip
    return b.op("flip", b.op("nn.relu", y), axis=1)


def folds_of_one_element(b: GraphBuilder) -> str:
    """One of the folded axes has a single element, and so no loop in the row."""
    return b.op("variance", b.input("x", (1, 4, 16, 2)), axis=(0, 1, 3), keepdims=True)


def reshaped_across_channels(b: GraphBuilder) -> str:
    x = b.input("x", (2, 15, 9, 6))
    y = b.op("nn.conv2d", x, weight(b, 15, 1, 5, 3), groups=15, padding=(1, 0, 0, 0))
    return b.op("reshape", b.op("nn.relu", y), (-1, 12))


def weight_conv(b: GraphBuilder, x: str, channels: int) -> str:
    inner = b.tensors[x].dims[1]
    return b.op("nn.conv2d", x, weight(b, channels, inner, 3, 3), padding=(1, 1, 1, 1))


FOUND: tuple[Callable[[GraphBuilder], str], ...] = (
    padded_after_pool, shifted_after_convolution, shifted_after_product, joined_after_pool,
    product_of_one_column, reversed_lanes, reversed_uneven_channels, folds_of_one_element,
    reshaped_across_channels,
)  # fmt: skip


@pytest.mark.parametrize("device", ["host", "x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("make", FOUND, ids=lambda f: f.__name__)
def test_what_was_found_stays_mended(make: Callable[[GraphBuilder], str], device: str):
    b = GraphBuilder()
    graph = b.output(make(b)).build()
    data = data_for(graph)
    expected = run_module(graph_to_relax(graph), data)
    spec = host() if device == "host" else get(device)
    fused, failed = fused_module(graph, "dnnfusion", spec)
    assert failed == []
    assert len(fused.plan.blocks) == (2 if make is padded_after_pool else 1), "the block is tested"
    assert differences(graph, expected, run_module(fused.module, data), data) == []
