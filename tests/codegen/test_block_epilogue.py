"""Blocks around a heavy op: prologues, epilogues, tails, several outputs, movement in place."""

import pytest

from tests.helpers import block_names, buffers, built, check_block, kept_in_memory, lowered, weights
from tvm_dnnfusion.codegen.layout import Layout

C16 = Layout(1, 16)


def conv(b, x, out, kernel=3, **attrs):
    channels, p = b.tensors[x].dims[1] // attrs.get("groups", 1), kernel // 2
    w = weights(b, out, channels, kernel, kernel)
    return b.op("nn.conv2d", x, w, padding=(p, p, p, p), **attrs)


def in_registers(func):
    """Whether no full buffer holds the product: it goes from registers to the outputs."""
    assert any(n.startswith("anchor") for n in buffers(func))
    return not kept_in_memory(func, "anchor")


def residual(b):
    x, other = b.input("x", (1, 16, 6, 6)), b.input("r", (1, 16, 6, 6))
    return b.op("nn.relu", b.op("add", conv(b, x, 16), other))


@pytest.mark.parametrize("blocked", [(), ("relu",), ("x", "r", "relu"), ("r", "relu")])
def test_residual(blocked):
    func = check_block(built(residual), "conv", dict.fromkeys(blocked, C16))
    assert in_registers(func)


def test_the_residual_may_be_the_input_itself():
    def make(b):
        x = b.input("x", (1, 16, 6, 6))
        return b.op("add", b.op("nn.relu", conv(b, x, 16)), x)

    check_block(built(make), "conv")


def test_squeeze_and_excitation_as_epilogue():
    def make(b):
        x, gate = b.input("x", (2, 8, 5, 5)), b.input("gate", (2, 16, 1, 1))
        return b.op("multiply", conv(b, x, 16), b.op("sigmoid", gate))

    check_block(built(make), "conv")


@pytest.mark.parametrize("layouts", [{}, {"x": C16, "concat": C16}])
def test_concat_after(layouts):
    def make(b):
        x = b.input("x", (1, 16, 6, 6))
        return b.op("concat", (b.op("nn.relu", conv(b, x, 32)), x), axis=1)

    check_block(built(make), "conv", layouts)


def test_concat_before():
    def make(b):
        x, y = b.input("x", (1, 16, 6, 6)), b.input("y", (1, 8, 6, 6))
        return conv(b, b.op("concat", (x, b.op("nn.relu", y)), axis=1), 16)

    func = check_block(built(make), "conv")
    assert block_names(func).count("pad0") == 1  # the prologue is part of the padding stage


@pytest.mark.parametrize("kernel", [1, 3])
def test_prologue(kernel):
    def make(b):
        x = b.input("x", (1, 16, 6, 6))
        scaled = b.op("multiply", x, weights(b, 1, 16, 1, 1))
        return conv(b, b.op("nn.relu", b.op("add", scaled, weights(b, 1, 16, 1, 1))), 16, kernel)

    func = check_block(built(make), "conv")
    assert "pad0" in block_names(func)


POOLS = {
    "max": ("nn.max_pool2d", {"pool_size": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)}),
    "max, ceil": ("nn.max_pool2d", {"pool_size": (3, 3), "strides": (2, 2), "ceil_mode": True}),
    "max, dense": ("nn.max_pool2d", {"pool_size": (2, 3), "strides": (1, 1)}),
    "max, dilated": ("nn.max_pool2d", {"pool_size": (2, 2), "dilation": (2, 2)}),
    "average": ("nn.avg_pool2d", {"pool_size": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)}),
    "average over the border": (
        "nn.avg_pool2d",
        {
            "pool_size": (3, 3),
            "strides": (2, 2),
            "padding": (1, 1, 1, 1),
            "count_include_pad": True,
        },
    ),
    "average, even": ("nn.avg_pool2d", {"pool_size": (2, 2), "strides": (2, 2)}),
}


@pytest.mark.parametrize("out", [16, 7])
@pytest.mark.parametrize("name", POOLS)
def test_convolution_and_the_pooling_after_it(name, out):
    kind, attrs = POOLS[name]

    def make(b):
        x = b.input("x", (1, 8, 10, 11))
        pooled = b.op(kind, b.op("nn.relu", conv(b, x, out)), **attrs)
        return b.op("sigmoid", pooled)

    func = check_block(built(make), "convpool")
    assert {"mid0", "pool0_update"} <= set(block_names(func))


@pytest.mark.parametrize("name", ["max", "average"])
def test_depthwise_convolution_and_pooling(name):
    kind, attrs = POOLS[name]

    def make(b):
        x = b.input("x", (1, 16, 8, 8))
        return b.op(kind, conv(b, x, 16, groups=16), **attrs)

    check_block(built(make), "convpool", {"x": C16})


def test_negative_values_next_to_the_border_survive_a_maximum():
    def make(b):
        x = b.input("x", (1, 4, 6, 6))
        y = b.op("subtract", conv(b, x, 16), 100.0)
        return b.op("nn.max_pool2d", y, pool_size=(3, 3), padding=(1, 1, 1, 1))

    check_block(built(make), "convpool", rtol=1e-6)


@pytest.mark.parametrize("layouts", [{}, {"conv2d": C16, "relu": C16}, {"relu": C16}])
def test_a_value_that_leaves_the_block_is_written_and_read_again(layouts):
    def make(b):
        y = conv(b, b.input("x", (1, 8, 6, 6)), 16)
        return y, b.op("nn.relu", y)

    graph = built(make)
    func = check_block(graph, "conv", layouts)
    assert {"out0", "out1"} <= set(block_names(func))
    assert lowered(graph).outputs == ("conv2d", "relu")


def test_split_of_a_product():
    def make(b):
        y = conv(b, b.input("x", (1, 8, 6, 6)), 32)
        low, high = b.op("split", y, indices_or_sections=2, axis=1)
        return b.op("multiply", low, b.op("sigmoid", high)), high

    check_block(built(make), "conv")


def product(b, columns=64):
    return b.op("matmul", b.input("x", (2, 24, 32)), weights(b, 32, columns))


def conv_relu(b):
    return b.op("nn.relu", conv(b, b.input("x", (1, 8, 6, 6)), 32))


def heads(b, axes):
    return b.op("permute_dims", b.op("reshape", product(b), (2, 24, 4, 16)), axes=axes)


def shuffled(b):
    """Channel shuffle in two groups."""
    cut = b.op("reshape", conv_relu(b), (1, 2, 16, 6, 6))
    return b.op("reshape", b.op("permute_dims", cut, axes=(0, 2, 1, 3, 4)), (1, 32, 6, 6))


MOVED = {
    "attention heads": ("matmul", lambda b: heads(b, (0, 2, 1, 3))),
    "attention keys": ("matmul", lambda b: heads(b, (0, 2, 3, 1))),
    "transposed": ("matmul", lambda b: b.op("permute_dims", product(b), axes=(0, 2, 1))),
    "flattened": ("matmul", lambda b: b.op("reshape", product(b), (48, 64))),
    "and added to": (
        "matmul",
        lambda b: b.op(
            "add", b.op("permute_dims", product(b), axes=(2, 0, 1)), b.input("r", (64, 2, 24))
        ),
    ),
    "channels last": ("conv", lambda b: b.op("permute_dims", conv_relu(b), axes=(0, 2, 3, 1))),
    "flattened map": ("conv", lambda b: b.op("reshape", conv_relu(b), (1, 32 * 36))),
    "channel shuffle": ("conv", shuffled),
    "depthwise, channels last": (
        "dwconv",
        lambda b: b.op(
            "permute_dims", conv(b, b.input("x", (1, 16, 6, 6)), 16, groups=16), axes=(0, 2, 3, 1)
        ),
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_movement_after_a_heavy_op_is_written_in_place(name):
    """GEMM, Reshape, Transpose as one pass: no full buffer of the product."""
    kind, make = MOVED[name]
    graph = built(make)
    func = check_block(graph, kind)
    assert in_registers(func)
    assert sum(n.startswith("out") for n in block_names(func)) == 1


def test_near_miss_columns_that_do_not_fill_vectors_go_through_a_buffer():
    graph = built(lambda b: b.op("permute_dims", product(b, 40), axes=(0, 2, 1)))
    assert not in_registers(check_block(graph, "matmul"))
