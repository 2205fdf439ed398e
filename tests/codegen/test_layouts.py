"""Which tensors between blocks are blocked, and which stay row-major."""

from dataclasses import replace

import pytest

from tests.helpers import DEVICE, NARROW, built, weights
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.layouts import assign_layouts

C16 = Layout(1, 16)


def conv(b, x, out, **attrs):
    w = weights(b, out, b.tensors[x].dims[1] // attrs.get("groups", 1), 3, 3)
    return b.op("nn.conv2d", x, w, padding=(1, 1, 1, 1), **attrs)


def singles(graph):
    """Every op as a block of its own."""
    return tuple((op,) for op in graph.ops)


def assigned(make, device=DEVICE, blocks=singles, plain=()):
    graph = built(make)
    return assign_layouts(blocks(graph), graph, device, frozenset(plain))


def image(b, channels=32):
    return b.input("x", (1, channels, 8, 8))


def chain(b):
    y = conv(b, image(b), 32)
    y = conv(b, b.op("nn.relu", y), 64)
    return b.op("nn.max_pool2d", y, pool_size=(2, 2), strides=(2, 2))


def test_a_chain_of_convolutions_is_blocked_but_not_at_its_ends():
    found = assigned(chain)
    assert found == {"conv2d": C16, "relu": C16, "conv2d_1": C16}  # neither x nor max_pool2d


def test_only_what_leaves_a_block_has_a_layout():
    found = assigned(chain, blocks=lambda g: (g.ops[:2], g.ops[2:]))
    assert found == {"relu": C16}


@pytest.mark.parametrize("device, lanes", [(DEVICE, 16), (NARROW, 4)])
def test_the_blocks_are_as_wide_as_the_vectors(device, lanes):
    assert set(assigned(chain, device).values()) == {Layout(1, lanes)}


@pytest.mark.parametrize("channels, factor", [(48, 16), (24, 8), (20, 4), (12, 4), (6, 1), (7, 1)])
def test_the_channels_bound_the_width(channels, factor):
    found = assigned(lambda b: b.op("nn.relu", conv(b, image(b), channels)))
    assert found.get("conv2d", Layout()).factor == factor


def test_what_must_stay_row_major_does():
    assert assigned(chain, plain=("relu",)) == {"conv2d": C16, "conv2d_1": C16}


def test_an_elementwise_block_takes_the_layout_of_most_of_its_bytes():
    def make(b):
        y = conv(b, image(b), 32)
        small = b.op("add", y, b.input("s", (1, 32, 1, 1)))
        big = b.op("add", small, b.op("exp", b.input("p", (8, 32, 8, 8))))
        return b.op("nn.relu", b.op("negative", small)), b.op("nn.relu", big)

    found = assigned(make)
    assert {"conv2d", "add", "negative"} <= set(found)
    assert not {"add_1", "exp"} & set(found)


def test_a_block_without_blocked_inputs_stays_row_major():
    assert assigned(lambda b: b.op("exp", b.op("nn.relu", image(b)))) == {}


@pytest.mark.parametrize(
    "widths, factor", [((16, 32), 16), ((16, 8), 8), ((16, 20), 4), ((16, 6), 1)]
)
def test_the_parts_of_a_concatenation_bound_its_blocks(widths, factor):
    """A part that ends inside of a block of the whole would have to be moved element by element."""

    def make(b):
        parts = tuple(conv(b, b.input(f"x{i}", (1, 16, 8, 8)), n) for i, n in enumerate(widths))
        return conv(b, b.op("concat", parts, axis=1), 16)

    assert assigned(make).get("concat", Layout()).factor == factor


def test_a_product_reads_rows():
    def make(b):
        y = conv(b, image(b), 32)
        return b.op("matmul", b.op("nn.relu", y), weights(b, 8, 16))

    assert assigned(make) == {"conv2d": C16}


@pytest.mark.parametrize("axis, blocked", [((2, 3), True), ((1,), False), ((1, 2, 3), False)])
def test_a_reduction_reads_rows_unless_it_keeps_the_channels(axis, blocked):
    found = assigned(lambda b: b.op("sum", conv(b, image(b), 32), axis=axis, keepdims=True))
    assert ("conv2d" in found) == blocked


def test_other_types_and_low_ranks_stay_row_major():
    def make(b):
        y = conv(b, image(b), 32)
        cast = b.op("astype", y, dtype="int32")
        flat = b.op("reshape", y, (32, 64))
        return b.op("negative", cast), b.op("negative", flat)

    assert assigned(make) == {"conv2d": C16}


def test_scalable_to_other_ranks():
    def make(b):
        y = b.op("nn.conv1d", b.input("x", (1, 16, 9)), weights(b, 16, 16, 3))
        return b.op("nn.relu", y)

    assert assigned(make) == {"conv1d": C16}
    assert assigned(make, replace(DEVICE, vector_bits=256)) == {"conv1d": Layout(1, 8)}
