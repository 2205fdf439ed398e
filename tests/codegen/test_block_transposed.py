"""Transposed convolutions, against the unfused module."""

import pytest

from tests.helpers import built, check_block, lowered, weights
from tvm_dnnfusion.codegen.stages import NotLowerable


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
