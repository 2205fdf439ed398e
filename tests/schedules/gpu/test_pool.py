"""Poolings on GPUs: the form of their OpenCL C, and their numbers where a device is at hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.codegen.test_block_pool import POOLS
from tests.helpers import built, weights
from tests.schedules.gpu.kernels import DEVICES, check, kernel_of
from tvm_dnnfusion.codegen.layout import Layout


def pooled(kind, size, before="", after="sigmoid", channels=16, **attrs):
    def make(b):
        x = b.input("x", (2, channels, *size))
        y = b.op(kind, b.op(before, x) if before else x, **(attrs or POOLS[kind]))
        return b.op(after, y) if after else y

    return built(make)


def blocked(graph):
    return dict.fromkeys(("x", graph.outputs[0]), Layout(1, 4))


@pytest.mark.parametrize("name", DEVICES)
def test_a_work_item_loads_each_column_of_a_row_once(name):
    graph = pooled("nn.max_pool2d", (28, 28), pool_size=(3, 3), strides=(1, 1), padding=(1,) * 4)
    kernel, made = kernel_of(graph, name, blocked(graph))
    assert kernel.kind == "pool" and made.kernels == 1
    assert len(re.findall(r"vstore4\(.*out0_ptr", made.source)) == 7  # columns of a tile
    assert len(re.findall(r"vload4\(0, p0_ptr", made.source)) == 3 * (7 + 2)
    assert not re.findall(r"_local_ptr\[[^\]]*[a-z]", made.source), "an index that varies"
    assert "barrier(" not in made.source


def test_columns_without_blocks_of_channels_are_stored_as_vectors():
    graph = pooled("nn.max_pool2d", (32, 32), pool_size=(2, 2), strides=(2, 2))
    _, made = kernel_of(graph, DEVICES[0])
    assert re.findall(r"vstore4\(.*out0_ptr", made.source)
    assert made.kernels == 1


@pytest.mark.parametrize("lanes", [False, True], ids=["plain", "blocked"])
@pytest.mark.parametrize("kind", POOLS)
def test_numbers(kind, lanes):
    """Prologues that a work-item can lay out itself, and those that need a kernel of their own."""
    turn = list(POOLS).index(kind)
    size = (9, 8, 7)[: int(kind[-2])]
    graph = pooled(kind, size, before=("", "exp", "nn.relu")[turn % 3])
    check(graph, DEVICES[turn % 2], blocked(graph) if lanes else {})


def test_numbers_of_windows_that_round_up():
    attrs = {"pool_size": (3, 3), "strides": (2, 2), "ceil_mode": True}
    graph = pooled("nn.max_pool2d", (12, 14), **attrs)
    check(graph, DEVICES[1], blocked(graph))


def test_a_border_of_integers_is_the_least():
    def make(b):
        x = b.op(
            "subtract", b.input("x", (1, 3, 6, 5), "int32"), b.constant("k", np.array(9, "i4"))
        )
        return b.op("nn.max_pool2d", x, **POOLS["nn.max_pool2d"])

    check(built(make), DEVICES[0])


@pytest.mark.parametrize("kind", ["nn.max_pool2d", "nn.avg_pool2d"])
@pytest.mark.parametrize("name", DEVICES)
def test_a_pooling_after_a_convolution_is_one_kernel_more(name, kind):
    def make(b):
        w = weights(b, 16, 8, 3, 3)
        y = b.op("nn.conv2d", b.input("x", (1, 8, 12, 12)), w, padding=(1, 1, 1, 1))
        return b.op("nn.relu", b.op(kind, b.op("nn.relu", y), **POOLS[kind]))

    graph = built(make)
    kernel, made = kernel_of(graph, name, blocked(graph))
    assert kernel.kind == "convpool" and made.kernels == 2
    check(graph, name, blocked(graph))


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("size, out", [((8, 8), (3, 3)), ((9,), (4,)), ((5, 6, 7), (2, 4, 3))])
def test_adaptive_windows_that_differ_in_length(size, out, name):
    def make(b):
        x = b.op("exp", b.input("x", (2, 8, *size)))
        layout = "NC" + "DHW"[3 - len(size) :]
        y = b.op(f"nn.adaptive_avg_pool{len(size)}d", x, output_size=out, layout=layout)
        return b.op("nn.relu", y)

    graph = built(make)
    check(graph, name)
    check(graph, name, {"x": Layout(1, 4)})
