"""Convolution blocks against the unfused module."""

import numpy as np
import pytest

from tests.helpers import (
    DEVICE,
    NARROW,
    block_names,
    built,
    check_block,
    kept_in_memory,
    lowered,
    weights,
)
from tvm_dnnfusion.codegen.conv_weights import pack
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed

CASES = {
    "3x3": {"size": (9, 9), "channels": 16, "out": 32, "kernel": (3, 3), "padding": 1},
    "1x1": {"size": (7, 7), "channels": 24, "out": 48, "kernel": (1, 1)},
    "wide kernel": {"size": (9, 11), "channels": 3, "out": 16, "kernel": (1, 7), "padding": (0, 3)},
    "stride 2": {
        "size": (9, 9),
        "channels": 16,
        "out": 16,
        "kernel": (3, 3),
        "padding": 1,
        "strides": 2,
    },
    "even size, stride 2": {
        "size": (8, 10),
        "channels": 3,
        "out": 32,
        "kernel": (3, 3),
        "strides": 2,
    },
    "input ends after the last window": {
        "size": (8, 8),
        "channels": 4,
        "out": 16,
        "kernel": (2, 2),
        "strides": 3,
    },
    "dilated": {
        "size": (11, 11),
        "channels": 8,
        "out": 16,
        "kernel": (3, 3),
        "padding": 2,
        "dilation": 2,
    },
    "odd channels": {"size": (5, 5), "channels": 5, "out": 7, "kernel": (3, 3), "padding": 1},
    "17 channels out": {"size": (5, 5), "channels": 16, "out": 17, "kernel": (3, 3), "padding": 1},
    "24 channels out": {"size": (6, 6), "channels": 8, "out": 24, "kernel": (3, 3), "padding": 1},
    "three vectors": {"size": (6, 6), "channels": 16, "out": 48, "kernel": (3, 3), "padding": 1},
    "prime width": {"size": (3, 37), "channels": 4, "out": 16, "kernel": (3, 3), "padding": 1},
    "batch": {"size": (5, 5), "channels": 6, "out": 16, "kernel": (3, 3), "padding": 1, "batch": 3},
    "grouped": {
        "size": (6, 6),
        "channels": 32,
        "out": 64,
        "kernel": (3, 3),
        "padding": 1,
        "groups": 2,
    },
    "small groups": {
        "size": (6, 6),
        "channels": 12,
        "out": 20,
        "kernel": (3, 3),
        "padding": 1,
        "groups": 4,
    },
    "depthwise": {
        "size": (9, 9),
        "channels": 32,
        "out": 32,
        "kernel": (3, 3),
        "padding": 1,
        "groups": 32,
    },
    "depthwise, stride 2": {
        "size": (9, 9),
        "channels": 16,
        "out": 16,
        "kernel": (3, 3),
        "padding": 1,
        "groups": 16,
        "strides": 2,
    },
    "depthwise, odd channels": {
        "size": (7, 7),
        "channels": 7,
        "out": 7,
        "kernel": (3, 3),
        "padding": 1,
        "groups": 7,
    },
    "depthwise with multiplier": {
        "size": (6, 6),
        "channels": 8,
        "out": 16,
        "kernel": (3, 3),
        "groups": 8,
    },
    "1-D": {"size": (33,), "channels": 8, "out": 16, "kernel": (5,), "padding": 2},
    "1-D depthwise": {
        "size": (20,),
        "channels": 16,
        "out": 16,
        "kernel": (3,),
        "padding": 1,
        "groups": 16,
    },
    "3-D": {"size": (4, 5, 6), "channels": 4, "out": 16, "kernel": (3, 3, 3), "padding": 1},
    "3-D, stride": {
        "size": (5, 6, 7),
        "channels": 3,
        "out": 8,
        "kernel": (2, 3, 3),
        "strides": (1, 2, 2),
    },
}


def wide(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def conv(
    b,
    x,
    size,
    channels,
    out,
    kernel,
    padding=0,
    strides=1,
    dilation=1,
    groups=1,
    batch=1,
    constant=True,
):
    rank = len(size)
    shape = (out, channels // groups, *kernel)
    w = weights(b, *shape) if constant else b.input("weight", shape)
    pad = wide(padding, rank)
    return b.op(
        f"nn.conv{rank}d",
        x,
        w,
        padding=(*pad, *pad),
        strides=wide(strides, rank),
        dilation=wide(dilation, rank),
        groups=groups,
    )


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


@pytest.mark.parametrize("name", ["3x3", "17 channels out", "small groups", "depthwise", "3-D"])
def test_weights_that_are_not_constant_are_packed_by_the_kernel(name):
    case = CASES[name]
    graph = built(lambda b: conv(b, image(b, case), **case, constant=False))
    func = check_block(graph, "dwconv" if is_depthwise(case) else "conv")
    assert "pack0" in block_names(func)
    assert lowered(graph).inputs == ("x", "weight")


@pytest.mark.parametrize("name", ["3x3", "odd channels", "three vectors", "depthwise"])
def test_constant_weights_are_packed_at_compile_time(name):
    case = CASES[name]
    kernel = lowered(built(lambda b: conv(b, image(b, case), **case)))
    (packed,) = (s for s in kernel.inputs if isinstance(s, Packed))
    assert not any(n.startswith("pack") for n in block_names(kernel.func))
    assert packed.data.flags.c_contiguous
    lanes = DEVICE.lanes()
    if not is_depthwise(case):
        assert packed.data.shape[-1] == lanes
        assert packed.data.shape[0] * packed.data.shape[-2] == -(-case["out"] // lanes)


def test_packing_against_its_formula():
    rng = np.random.default_rng(0)
    groups, per_group, lanes, inner, v = 2, 20, 8, 3, 3
    data = rng.uniform(-1, 1, (groups * per_group, 6, 2, 1)).astype("float32")
    packed = pack(data, groups, lanes, inner, v)
    assert packed.shape == (groups * 3 // v, 2, 2, 1, inner, v, lanes)
    for group, out, c, tap in np.ndindex(groups, per_group, 6, 2):
        block = group * 3 + out // lanes
        place = (block // v, c // inner, tap, 0, c % inner, block % v, out % lanes)
        assert packed[place] == data[group * per_group + out, c, tap, 0]
    assert np.count_nonzero(packed) == data.size  # what pads the last block of a group is zero


@pytest.mark.parametrize("name", ["3x3", "17 channels out", "three vectors", "depthwise", "1-D"])
def test_other_vector_widths(name):
    case = CASES[name]
    graph = built(lambda b: b.op("nn.relu", conv(b, image(b, case), **case)))
    check_block(graph, "dwconv" if is_depthwise(case) else "conv", device=NARROW)


BLOCKED = {
    "in and out": (True, True),
    "in": (True, False),
    "out": (False, True),
}


@pytest.mark.parametrize("where", BLOCKED)
@pytest.mark.parametrize("name", ["3x3", "stride 2", "grouped", "depthwise"])
def test_blocked_layouts(name, where):
    case = CASES[name]
    graph = built(lambda b: b.op("nn.relu", conv(b, image(b, case), **case)))
    reads, writes = BLOCKED[where]
    layouts = {t: Layout(1, 16) for t, on in (("x", reads), (graph.outputs[0], writes)) if on}
    func = check_block(graph, "dwconv" if is_depthwise(case) else "conv", layouts)
    if writes:  # the tile goes from the registers to where it belongs
        assert set(kept_in_memory(func)) <= {"pad0"}


def test_two_convolutions_do_not_fit_one_kernel():
    case = dict(CASES["3x3"], channels=16, out=16)
    graph = built(lambda b: conv(b, conv(b, image(b, case), **case), **case))
    with pytest.raises(NotLowerable, match="a second heavy op"):
        lowered(graph)


def test_channels_last_has_no_template():
    def make(b):
        x, w = b.input("x", (1, 6, 6, 8)), weights(b, 16, 8, 3, 3)
        return b.op("nn.conv2d", x, w, data_layout="NHWC")

    with pytest.raises(NotLowerable, match=r"nn.conv2d in layout NHWC"):
        lowered(built(make))
