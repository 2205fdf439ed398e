"""Columns under windows that no good tile divides: the last tile hangs over."""

from __future__ import annotations

import re

import pytest

from tests.helpers import built, weights
from tests.schedules.gpu.kernels import DEVICES, check, device, kernel_of
from tests.schedules.gpu.test_pool import blocked, pooled
from tvm_dnnfusion.codegen.gpu_tiles import window_columns

WIDTHS = {17: 6, 19: 7, 23: 6, 37: 7}
"""Widths, and the columns of a work-item under windows of three by steps of one."""


def depthwise(width, stride=1, padding=1, height=5):
    """A depthwise convolution 3x3 with a bias and ReLU, whose result is so wide."""
    size = [(n - 1) * stride + 3 - 2 * padding for n in (height, width)]

    def make(b):
        x = b.input("x", (2, 8, *size))
        y = b.op("nn.conv2d", x, weights(b, 8, 1, 3, 3), groups=8, padding=(padding,) * 4,
                 strides=(stride,) * 2)  # fmt: skip
        return b.op("nn.relu", b.op("add", y, weights(b, 1, 8, 1, 1)))

    return built(make)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_work_item_takes_several_columns_of_a_prime_width(width, name):
    graph, columns = depthwise(width), WIDTHS[width]
    kernel, made = kernel_of(graph, name, blocked(graph))
    assert kernel.kind == "dwconv" and made.kernels == 1
    stores = re.findall(r"^( *)vstore4\(.*out0_ptr", made.source, re.MULTILINE)
    assert len(stores) == columns
    beyond = -width % columns
    assert sum(len(indent) == 4 for indent in stores) == beyond, "under a condition"
    loads = re.findall(r"vload4\(0, p0_ptr", made.source)
    assert len(loads) == 3 * (columns + 2), "each column under the windows once a row"
    assert not re.findall(r"_local_ptr\[[^\]]*[a-z]", made.source), "an index that varies"
    multiplied = re.findall(r"^( *)anchor0_local_ptr.* \* ", made.source, re.MULTILINE)
    assert multiplied == ["  "] * 9 * columns, "without a condition"


@pytest.mark.parametrize("width, stride, padding", [
    (17, 1, 1), (19, 1, 0), (23, 2, 1), (37, 1, 1), (11, 2, 0), (7, 2, 1), (71, 1, 0),
])  # fmt: skip
def test_numbers_of_depthwise_convolutions(width, stride, padding):
    graph = depthwise(width, stride, padding)
    check(graph, DEVICES[width % 2], blocked(graph))


@pytest.mark.parametrize("kind", ["nn.max_pool2d", "nn.avg_pool2d"])
@pytest.mark.parametrize("width, window, padding", [(17, 3, 1), (37, 2, 0), (41, 3, 0)])
@pytest.mark.parametrize("lanes", [False, True], ids=["plain", "blocked"])
def test_numbers_of_poolings(kind, width, window, padding, lanes):
    size = (7, (width - 1) * 2 + window - 2 * padding)
    attrs = {"pool_size": (window,) * 2, "strides": (2, 2), "padding": (padding,) * 4}
    graph = pooled(kind, size, before="nn.relu", channels=8, **attrs)
    check(graph, DEVICES[width % 2], blocked(graph) if lanes else {})


def test_registers_of_columns_that_are_not_there_hold_zeros():
    """PoCL's compiler made code that ended the process where nothing was put in them."""
    graph = pooled("nn.max_pool1d", (32,), after="", channels=3, pool_size=(2,), strides=(1,))
    check(graph, DEVICES[0])


def test_a_pooling_after_a_convolution_hangs_over_too():
    def make(b):
        w = weights(b, 8, 4, 3, 3)
        y = b.op("nn.relu", b.op("nn.conv2d", b.input("x", (1, 4, 34, 34)), w, padding=(1,) * 4))
        return b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2))

    graph = built(make)
    check(graph, DEVICES[0], blocked(graph))


@pytest.mark.parametrize("lanes", [1, 4])
def test_widths_with_a_good_divisor_keep_it(lanes):
    spec = device(DEVICES[0])
    for width in range(1, 200):
        columns = window_columns(spec, width, 3, 1, lanes)
        assert 1 <= columns <= min(width, 16)
        tiles = -(-width // columns)
        assert tiles * columns <= 1.5 * width, "no more than that in vain"
        whole = max(c for c in range(1, 8) if width % c == 0)
        if lanes == 1 and whole >= 4:
            assert columns >= whole
        if lanes == 4 and width % 4 == 0:
            assert columns % 4 == 0, "columns are stored as vectors"
    assert [window_columns(spec, n, 3, 1) for n in (7, 14, 28, 56, 112)] == [7] * 5
