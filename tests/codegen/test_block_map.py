"""Blocks without a heavy op: pointwise, broadcasts, movement, gathers; one pass per output."""

import numpy as np
import pytest

from tests.helpers import (
    DEVICE,
    NARROW,
    block_names,
    buffers,
    built,
    check_block,
    feed_of,
    lowered,
    run_kernel,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.pointwise import BINARY, SPECIAL, UNARY
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.ecg.evaluate import evaluate

POSITIVE = {"log", "sqrt", "rsqrt"}
ABOVE_ONE = {"acosh"}
ON_BOOLEANS = {"logical_not"}
ON_INTEGERS = {"bitwise_not"}
FLOATS = sorted(set(UNARY) - ABOVE_ONE - POSITIVE - ON_BOOLEANS - ON_INTEGERS)


def check_against(graph, dtype="float32", rtol=2e-6, atol=2e-6):
    """The block against the interpreter, computed in the tensors' own types or in double."""
    kernel, feed = lowered(graph), feed_of(graph)
    wanted = evaluate(graph, feed, dtype)
    for name, value in zip(
        kernel.outputs, run_kernel(scheduled(kernel), kernel, graph, feed), strict=True
    ):
        np.testing.assert_allclose(value, wanted[name], rtol=rtol, atol=atol, err_msg=name)


def test_every_unary_op_of_floats():
    def make(b):
        x = b.op("multiply", b.input("x", (7, 16)), 0.99)
        wide = b.op("divide", b.input("y", (7, 16)), 0.125)
        narrow = {"asin", "acos", "atanh", "tan"}
        return tuple(b.op(kind, x if kind in narrow else wide) for kind in FLOATS)

    check_against(built(make), "float64", rtol=3e-6, atol=1e-6)


def test_unary_ops_of_other_domains():
    def make(b):
        some = b.op("add", b.input("x", (5, 16)), 1.01)
        more = b.op("add", some, 1.0)
        low = b.op("logical_not", b.input("c", (5, 16), "bool"))
        bits = b.op("bitwise_not", b.input("i", (5, 16), "int32"))
        return (*(b.op(k, some) for k in sorted(POSITIVE)), b.op("acosh", more), low, bits)

    check_against(built(make), "float64", rtol=3e-6, atol=1e-6)


ARITHMETIC = {"add", "subtract", "multiply", "maximum", "minimum", "log_add_exp", "atan2"}
DIVIDING = {"divide", "floor_divide", "mod", "floor_mod", "power"}
COMPARING = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
LOGIC = {"logical_and", "logical_or", "logical_xor"}
BITS = {"bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"}


def test_the_binary_ops_are_all_in_a_group():
    assert set(BINARY) == ARITHMETIC | DIVIDING | COMPARING | LOGIC | BITS


def test_binary_ops_of_floats():
    def make(b):
        x, y = b.input("x", (3, 33)), b.input("y", (3, 33))
        positive = b.op("add", b.op("abs", y), 0.25)
        base = b.op("add", b.op("abs", x), 0.5)
        divided = tuple(b.op(k, base if k == "power" else x, positive) for k in sorted(DIVIDING))
        return tuple(b.op(k, x, y) for k in sorted(ARITHMETIC | COMPARING)) + divided

    check_against(built(make), rtol=3e-6)


def test_binary_ops_of_integers_and_booleans():
    def make(b):
        i, j = b.input("i", (4, 20), "int32"), b.input("j", (4, 20), "int32")
        above = b.op("add", j, 1)
        c, d = b.input("c", (4, 20), "bool"), b.input("d", (4, 20), "bool")
        signed = b.op("subtract", i, j)
        whole = ("floor_divide", "floor_mod")
        kinds = sorted((ARITHMETIC - {"log_add_exp", "atan2"}) | COMPARING)
        return (
            *(b.op(k, i, j) for k in (*kinds, *sorted(BITS))),
            *(b.op(k, signed, above) for k in whole),
            *(b.op(k, c, d) for k in sorted(LOGIC)),
        )

    check_against(built(make), rtol=0, atol=0)


def test_special_ops():
    def make(b):
        x, c = b.op("divide", b.input("x", (3, 4, 16)), 0.2), b.input("c", (3, 1, 16), "bool")
        clipped = b.op("clip", x, -2.0, 1.5), b.op("clip", x, float("-inf"), 0.5)
        cast = b.op("astype", x, dtype="int32"), b.op("astype", c, dtype="float32")
        return (
            *clipped,
            *cast,
            b.op("where", c, x, b.input("y", (4, 16))),
            b.op("nn.leakyrelu", x, alpha=0.3),
            b.op("nn.prelu", x, weights(b, 4)),
            b.op("nn.softplus", x, beta=2.0),
            b.op("astype", x, dtype="bool"),
            b.op("nn.prelu", x, weights(b, 1)),
        )

    graph = built(make)
    assert {op.kind for op in graph.ops} >= set(SPECIAL) - {"nn.dropout"}
    check_against(graph, rtol=3e-6, atol=1e-6)


BROADCASTS = {
    "rows": ((4, 1), (1, 16)),
    "rank": ((16,), (2, 3, 16)),
    "scalar": ((), (3, 5)),
    "ones inside": ((2, 1, 4, 1), (3, 1, 8)),
    "prime": ((5, 7), (7,)),
}


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasts(name):
    def make(b):
        x, y = b.input("x", BROADCASTS[name][0]), b.input("y", BROADCASTS[name][1])
        return b.op("multiply", b.op("exp", b.op("add", x, y)), x)

    func = check_block(built(make), "map")
    assert buffers(func) == {} and block_names(func) == ["out0"]


def test_a_constant_of_equal_elements_is_no_argument():
    def make(b):
        scale = b.constant("scale", np.full((1, 8), 0.5, "float32"))
        return b.op("multiply", b.input("x", (4, 8)), scale)

    graph = built(make)
    assert lowered(graph).inputs == ("x",)
    check_block(graph, "map")


def test_a_constant_that_is_read_is_an_argument_by_name():
    graph = built(lambda b: b.op("add", b.input("x", (4, 8)), weights(b, 8)))
    assert lowered(graph).inputs == ("x", "w")


def test_several_outputs_in_one_kernel():
    def make(b):
        x = b.input("x", (4, 32))
        y = b.op("tanh", x)
        low, high = b.op("split", b.op("add", x, y), indices_or_sections=2, axis=1)
        return y, b.op("multiply", low, high), high

    graph = built(make)
    func = check_block(graph, "map")
    assert block_names(func) == ["out0", "out1", "out2"] and buffers(func) == {}


GATHERS = {
    "rows of a table": lambda b: b.op(
        "take", b.input("t", (9, 16)), b.input("i", (2, 3), "int64"), axis=0
    ),
    "columns": lambda b: b.op("take", b.input("t", (4, 9)), b.input("i", (5,), "int32"), axis=1),
    "clipped": lambda b: b.op(
        "take", b.input("t", (3, 8)), b.input("i", (6,), "int64"), axis=0, mode="clip"
    ),
    "wrapped": lambda b: b.op(
        "take", b.input("t", (3, 8)), b.input("i", (6,), "int64"), axis=0, mode="wrap"
    ),
    "elements": lambda b: b.op(
        "gather_elements", b.input("t", (5, 6)), b.input("i", (3, 6), "int64"), axis=0
    ),
    "elements of the last axis": lambda b: b.op(
        "gather_elements", b.input("t", (5, 6)), b.input("i", (5, 2), "int64"), axis=1
    ),
}


@pytest.mark.parametrize("name", GATHERS)
def test_gathers_with_prologue_and_epilogue(name):
    graph = built(lambda b: b.op("nn.relu", b.op("multiply", GATHERS[name](b), 2.0)))
    func = check_block(graph, "map")
    assert block_names(func) == ["out0"]


def test_gather_by_computed_indices():
    def make(b):
        i = b.op("add", b.op("multiply", b.input("i", (4,), "int64"), 2), 1)
        return b.op("exp", b.op("take", b.input("t", (10, 8)), i, axis=0))

    func = check_block(built(make), "map")
    assert block_names(func) == ["out0"]


@pytest.mark.parametrize(
    "layouts",
    [
        {"x": Layout(1, 16)},
        {"sigmoid": Layout(1, 16)},
        {"x": Layout(1, 16), "sigmoid": Layout(1, 8)},
    ],
)
def test_blocked_layouts_are_index_maps(layouts):
    def make(b):
        x = b.input("x", (2, 32, 5, 6))
        return b.op("sigmoid", b.op("add", x, weights(b, 1, 32, 1, 1)))

    func = check_block(built(make), "map", layouts)
    assert block_names(func) == ["out0"] and buffers(func) == {}


@pytest.mark.parametrize("device", [DEVICE, NARROW], ids=["512", "128"])
@pytest.mark.parametrize("shape", [(1,), (17,), (3, 1), (1, 64), (2, 3, 5, 7)])
def test_shapes_that_do_not_fill_vectors(shape, device):
    graph = built(lambda b: b.op("nn.silu", b.op("negative", b.input("x", shape))))
    check_block(graph, "map", device=device)


@pytest.mark.parametrize(
    "make, why",
    [
        (lambda b: b.op("cumsum", b.input("x", (3, 4)), axis=1), "no template for cumsum"),
        (
            lambda b: b.op("take", b.input("t", (5,)), b.input("i", (2,), "int64")),
            "take: take with",
        ),
        (
            lambda b: b.op(
                "nn.pad", b.input("x", (3, 4)), pad_width=(1, 1, 1, 1), pad_mode="reflect"
            ),
            "nn.pad with these attributes",
        ),
    ],
)
def test_what_has_no_template_says_so(make, why):
    with pytest.raises(NotLowerable, match=why):
        lowered(built(make))


def test_a_function_of_a_shared_value_in_a_joined_part():
    """Boxes of a detector: centre -/+ half the exponential of the same prediction, side by side."""

    def make(b):
        x, size = b.input("x", (1, 96, 4)), weights(b, 96, 2)
        where, extent = b.op("split", x, indices_or_sections=2, axis=2)
        centre = b.op("multiply", where, size)
        half = b.op("multiply", b.op("exp", extent), size)
        low, high = b.op("subtract", centre, half), b.op("add", centre, half)
        return b.op("concat", (low, high), axis=2)

    check_block(built(make), "map")


SHARED = {  # one function, read twice
    "difference": lambda b, y: b.op("add", y, b.op("negative", y)),
    "relu": lambda b, y: b.op("add", y, b.op("nn.relu", y)),
    "another": lambda b, y: b.op("multiply", y, b.op("tanh", y)),
    "flipped": lambda b, y: b.op("add", y, b.op("flip", y, axis=1)),
    "thrice": lambda b, y: b.op("add", b.op("multiply", y, y), b.op("sigmoid", y)),
}


@pytest.mark.parametrize("form", SHARED)
@pytest.mark.parametrize("function", ["exp", "nn.silu"])
@pytest.mark.parametrize("shape", [(64, 64), (7, 33)])
def test_a_function_that_is_read_twice(form, function, shape):
    def make(b):
        return SHARED[form](b, b.op(function, b.input("x", shape)))

    check_block(built(make), "map")
