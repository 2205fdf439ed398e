"""Convolution blocks against the unfused module."""

import numpy as np
import pytest

from tests.helpers import DEVICE, NARROW, block_names, buffers, built, check_block, lowered, weights
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed

CASES = {
    "3x3": dict(size=(9, 9), channels=16, out=32, kernel=(3, 3), padding=1),
    "1x1": dict(size=(7, 7), channels=24, out=48, kernel=(1, 1)),
    "wide kernel": dict(size=(9, 11), channels=3, out=16, kernel=(1, 7), padding=(0, 3)),
    "stride 2": dict(size=(9, 9), channels=16, out=16, kernel=(3, 3), padding=1, strides=2),
    "even size, stride 2": dict(size=(8, 10), channels=3, out=32, kernel=(3, 3), strides=2),
    "input ends after the last window": dict(size=(8, 8), channels=4, out=16, kernel=(2, 2),
                                             strides=3),
    "dilated": dict(size=(11, 11), channels=8, out=16, kernel=(3, 3), padding=2, dilation=2),
    "odd channels": dict(size=(5, 5), channels=5, out=7, kernel=(3, 3), padding=1),
    "17 channels out": dict(size=(5, 5), channels=16, out=17, kernel=(3, 3), padding=1),
    "24 channels out": dict(size=(6, 6), channels=8, out=24, kernel=(3, 3), padding=1),
    "three vectors": dict(size=(6, 6), channels=16, out=48, kernel=(3, 3), padding=1),
    "prime width": dict(size=(3, 37), channels=4, out=16, kernel=(3, 3), padding=1),
    "batch": dict(size=(5, 5), channels=6, out=16, kernel=(3, 3), padding=1, batch=3),
    "grouped": dict(size=(6, 6), channels=32, out=64, kernel=(3, 3), padding=1, groups=2),
    "small groups": dict(size=(6, 6), channels=12, out=20, kernel=(3, 3), padding=1, groups=4),
    "depthwise": dict(size=(9, 9), channels=32, out=32, kernel=(3, 3), padding=1, groups=32),
    "depthwise, stride 2": dict(size=(9, 9), channels=16, out=16, kernel=(3, 3), padding=1,
                                groups=16, strides=2),
    "depthwise, odd channels": dict(size=(7, 7), channels=7, out=7, kernel=(3, 3), padding=1,
                                    groups=7),
    "depthwise with multiplier": dict(size=(6, 6), channels=8, out=16, kernel=(3, 3), groups=8),
    "1-D": dict(size=(33,), channels=8, out=16, kernel=(5,), padding=2),
    "1-D depthwise": dict(size=(20,), channels=16, out=16, kernel=(3,), padding=1, groups=16),
    "3-D": dict(size=(4, 5, 6), channels=4, out=16, kernel=(3, 3, 3), padding=1),
    "3-D, stride": dict(size=(5, 6, 7), channels=3, out=8, kernel=(2, 3, 3), strides=(1, 2, 2)),
}  # fmt: skip


def wide(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def conv(b, x, size, channels, out, kernel, padding=0, strides=1, dilation=1, groups=1, batch=1,
         constant=True):  # fmt: skip
    rank = len(size)
    shape = (out, channels // groups, *kernel)
    w = weights(b, *shape) if constant else b.input("weight", shape)
    pad = wide(padding, rank)
    return b.op(f"nn.conv{rank}d", x, w, padding=(*pad, *pad), strides=wide(strides, rank),
                dilation=wide(dilation, rank), groups=groups)  # fmt: skip


def image(b, case):
    return b.input("x", (case.get("batch", 1), case["channels"], *case["size"]))


def is_depthwise(case):
    return case.get("groups", 1) == case["channels"] == case["out"]


@pytest.mark.parametrize("name", CASES)
def test_convolution_with_bias_and_relu(name):
    case = CASES[name]
    rank = len(case["size"])

    def make(b):
        y = conv(b, image(b, case), **case)
        return b.op("nn.relu", b.op("add", y, weights(b, 1, case["out"], *(1,) * rank)))

    func = check_block(built(make), "dwconv" if is_depthwise(case) else "conv")
    assert "anchor0_update" in block_names(func)
