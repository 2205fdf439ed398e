"""Convolutions whose rows come first: which they are, and what a strip of rows computes."""

from dataclasses import replace

import pytest

from tests.helpers import DEVICE, built, check_block, lowered, scheduled, weights
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.schedules.cpu.conv import MAX_STRIP, STRIPS_PER_CORE, strip_rows

C16 = Layout(1, 16)
SMALL = replace(DEVICE, l2_bytes=64 << 10)  # a second cache that small tests can overflow


def conv(channels, out, size, kernel=(3, 3), stride=None, groups=1, relu=True):
    def make(b):
        x = b.input("x", (1, channels, *size))
        w = weights(b, out, channels // groups, *kernel)
        pads = tuple(k // 2 for k in kernel) * 2
        op = f"nn.conv{len(size)}d"
        y = b.op(op, x, w, padding=pads, groups=groups, strides=stride or (1,) * len(size))
        return b.op("nn.relu", y) if relu else y

    return built(make)


def first(graph, device=SMALL):
    kernel = lowered(graph, {"x": C16}, device)
    return bool(kernel.func.attrs["dnnfusion.rows_first"])


def test_an_image_larger_than_the_cache_is_taken_by_rows():
    assert first(conv(16, 64, (40, 40)))


def test_weights_larger_than_the_cache_are_read_once():
    assert not first(conv(128, 128, (6, 6)))


def test_groups_read_their_own_channels_and_gain_nothing():
    assert not first(conv(32, 64, (40, 40), groups=2))


CASES = [
    conv(16, 64, (40, 40)),
    conv(16, 64, (41, 39)),
    conv(32, 32, (24, 30), (1, 1)),
    conv(16, 32, (40, 38), (3, 3), (2, 2)),
    conv(16, 32, (6, 16, 14), (3, 1, 1)),
    conv(16, 32, (6, 16, 14), (1, 3, 3)),
    conv(16, 32, (7, 16, 14), (3, 1, 1), (2, 1, 1)),
    conv(16, 16, (6, 16, 14), (3, 3, 3)),
    conv(16, 40, (40, 40)),
]


@pytest.mark.parametrize("graph", CASES, ids=range(len(CASES)))
def test_results_by_rows_equal_the_unfused_ones(graph):
    assert first(graph)
    check_block(graph, "conv", {"x": C16}, SMALL)


def test_a_transposed_convolution_by_rows_equals_the_unfused_one():
    def make(b):
        x = b.input("x", (1, 16, 30, 30))
        return b.op("nn.conv2d_transpose", x, weights(b, 16, 32, 2, 2), strides=(2, 2))

    check_block(built(make), "conv", {"x": C16}, SMALL)


def test_the_border_is_laid_out_for_a_strip_and_not_for_the_image():
    func = scheduled(lowered(conv(16, 64, (40, 40)), {"x": C16}, SMALL), SMALL)
    text = func.script()
    assert text.count("T.parallel") == 1
    assert text.index("T.parallel") < text.index('T.sblock("pad0")')


@pytest.mark.parametrize("rows, tasks", [(24, 2), (7, 1), (112, 1), (1, 8), (13, 4), (97, 2)])
def test_strips_divide_the_rows_and_are_short(rows, tasks):
    length = strip_rows(2, rows, tasks, MAX_STRIP)
    assert rows % length == 0 and length <= MAX_STRIP
    assert rows // length * tasks >= min(rows * tasks, STRIPS_PER_CORE * 2)


def test_without_a_limit_one_strip_does_where_there_are_tasks_enough():
    assert strip_rows(2, 14, 8) == 14 and strip_rows(2, 14, 4) == 7
