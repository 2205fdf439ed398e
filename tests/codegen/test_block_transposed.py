"""Transposed convolutions, against the unfused module."""

import numpy as np
import pytest

from tests.helpers import buffers, built, check_block, kept_in_memory, lowered, weights
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.codegen.transposed import phase_weights


def wide(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


TRANSPOSED = {
    "stride 1": {"size": (5, 6), "channels": 8, "out": 16, "kernel": (3, 3)},
    "stride 2": {"size": (5, 5), "channels": 16, "out": 16, "kernel": (2, 2), "strides": 2},
    "padding": {
        "size": (5, 5),
        "channels": 6,
        "out": 7,
        "kernel": (4, 4),
        "strides": 2,
        "padding": 1,
    },
    "output padding": {
        "size": (4, 4),
        "channels": 4,
        "out": 8,
        "kernel": (3, 3),
        "strides": 2,
        "padding": 1,
        "output_padding": 1,
    },
    "stride 3, kernel 2": {
        "size": (4, 5),
        "channels": 8,
        "out": 16,
        "kernel": (2, 2),
        "strides": 3,
        "output_padding": 1,
    },
    "strides that differ": {
        "size": (4, 6),
        "channels": 8,
        "out": 16,
        "kernel": (3, 4),
        "strides": (1, 2),
        "padding": (1, 1),
    },
    "dilated": {"size": (6, 6), "channels": 4, "out": 8, "kernel": (3, 3), "dilation": 2},
    "1-D": {"size": (9,), "channels": 8, "out": 16, "kernel": (4,), "strides": 3},
    "3-D": {"size": (3, 4, 3), "channels": 4, "out": 8, "kernel": (2, 2, 2), "strides": 2},
}


def transposed(
    b,
    size,
    channels,
    out,
    kernel,
    padding=0,
    strides=1,
    dilation=1,
    output_padding=0,
    groups=1,
    constant=True,
):
    rank, shape = len(size), (channels, out // groups, *kernel)
    w = weights(b, *shape) if constant else b.input("weight", shape)
    return b.op(
        f"nn.conv{rank}d_transpose",
        b.input("x", (1, channels, *size)),
        w,
        strides=wide(strides, rank),
        padding=wide(padding, rank) * 2,
        groups=groups,
        dilation=wide(dilation, rank),
        output_padding=wide(output_padding, rank),
    )


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution(name):
    graph = built(lambda b: b.op("nn.relu", transposed(b, **TRANSPOSED[name])))
    check_block(graph, "conv")


@pytest.mark.parametrize("options", [{"groups": 2}, {"constant": False}])
def test_transposed_convolutions_without_a_template_say_so(options):
    case = {**TRANSPOSED["stride 1"], **options}
    with pytest.raises(NotLowerable, match="conv2d_transpose with groups or with weights that are"):
        lowered(built(lambda b: transposed(b, **case)))


def test_a_stride_multiplies_no_zeros_and_copies_nothing():
    """2x2 with stride 2 is a 1x1 convolution whose tiles go to every second place."""
    graph = built(lambda b: b.op("nn.relu", transposed(b, **TRANSPOSED["stride 2"])))
    layouts = {"x": Layout(1, 16), graph.outputs[0]: Layout(1, 16)}
    func = check_block(graph, "conv", layouts)
    assert not any(n.startswith("pad") for n in buffers(func))
    assert kept_in_memory(func) == []


def test_the_taps_of_each_phase():
    """K = 3, s = 2: phase 0 has taps 0 and 2, mirrored, phase 1 has tap 1 and none."""
    data = np.array([10.0, 11.0, 12.0]).reshape(1, 1, 3)
    wanted = np.array([[12.0, 10.0], [0.0, 11.0]]).reshape(2, 1, 2)
    np.testing.assert_array_equal(phase_weights(data, (2,), (2,)), wanted)


def test_near_miss_more_cut_off_than_the_kernel_adds():
    graph = built(lambda b: transposed(b, (6, 6), 4, 8, (2, 2), padding=4, strides=2))
    with pytest.raises(NotLowerable, match="cuts off more"):
        lowered(graph)


@pytest.mark.parametrize(
    ("shape", "layouts", "words"),
    [
        ((3, 3, 16, 8), {"kernel_layout": "HWOI"}, "weights in layout HWOI"),
        ((8, 16, 3, 3), {"out_layout": "NHWC"}, "in layout NCHW to NHWC"),
    ],
)
def test_other_layouts_have_no_template(shape, layouts, words):
    graph = built(
        lambda b: b.op(
            "nn.conv2d_transpose", b.input("x", (1, 8, 5, 5)), weights(b, *shape), **layouts
        )
    )
    with pytest.raises(NotLowerable, match=words):
        lowered(graph)
