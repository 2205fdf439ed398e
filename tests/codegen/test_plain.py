"""The plain way: blocks that no template covers, through TVM's legalisation and FuseTIR."""

import numpy as np
import pytest
from tvm.tirx import PrimFunc

from tests.helpers import (
    block_names,
    built,
    feed_of,
    run_kernel,
    sblocks,
    scheduled,
    unfused,
    weights,
)
from tvm_dnnfusion.codegen.plain import block_graph, lower_plain
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.ecg.graph import Lit


def check(graph, rtol=1e-5, atol=1e-5):
    """Both forms of the kernel against the unfused module."""
    kernel, feed = lower_plain("b000_plain", graph.ops, graph), feed_of(graph)
    assert kernel.kind == "plain"
    wanted = dict(zip(graph.outputs, unfused(graph, feed), strict=True))
    func = scheduled(kernel)
    for candidate in (kernel.func, func):
        for name, value in zip(kernel.outputs, run_kernel(candidate, kernel, graph, feed)):
            np.testing.assert_allclose(value, wanted[name], rtol=rtol, atol=atol)
    return func


def twice(b):
    r = b.op("nn.relu", b.input("x", (8, 8)))
    return b.op("matmul", r, r)


def test_an_operand_that_is_read_twice():
    """relu -> matmul(r, r): FuseTIR keeps one of two read regions; half of r was missing."""
    check(built(twice))


def test_the_region_that_a_block_reads_covers_both_operands():
    graph = built(twice)
    blocks = sblocks(lower_plain("k", graph.ops, graph).func)
    (product,) = (x for x in blocks if x.name_hint == "matmul")
    (read,) = product.reads
    assert all(str(iv.var) in str(read) for iv in product.iter_vars)


ONE, ZERO = Lit("float32", 1.0), Lit("float32", 0.0)
CASES = {
    "a chain": lambda b: b.op("exp", b.op("nn.relu", b.input("x", (5, 16)))),
    "argmax": lambda b: b.op("argmax", b.op("negative", b.input("x", (4, 9))), axis=1),
    "one hot": lambda b: b.op(
        "add",
        b.op("one_hot", b.input("i", (6,), "int64"), ONE, ZERO, depth=5),
        b.input("x", (6, 5)),
    ),
    "reflected border": lambda b: b.op(
        "nn.relu",
        b.op(
            "nn.pad",
            b.input("x", (1, 2, 5, 5)),
            pad_width=(0, 0, 0, 0, 1, 1, 2, 2),
            pad_mode="reflect",
        ),
    ),
    "linear resize": lambda b: b.op(
        "nn.relu", b.op("image.resize2d", b.input("x", (1, 2, 4, 4)), (8, 8), rounding_method="")
    ),
    "transposed, weights given": lambda b: b.op(
        "nn.conv2d_transpose",
        b.input("x", (1, 4, 5, 5)),
        b.input("w", (4, 3, 3, 3)),
        strides=(2, 2),
    ),
    "a vector and a matrix": lambda b: b.op("matmul", b.input("x", (8,)), weights(b, 8, 16)),
    "integers": lambda b: b.op(
        "matmul", b.input("x", (3, 4), "int32"), b.input("y", (4, 5), "int32")
    ),
    "two outputs": lambda b: b.op(
        "split", b.op("exp", b.input("x", (4, 6))), indices_or_sections=2, axis=1
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers(name):
    check(built(CASES[name]))


def test_a_value_that_leaves_the_block_is_an_output():
    def make(b):
        e = b.op("exp", b.input("x", (4, 16)))
        return e, b.op("negative", e)

    graph = built(make)
    assert lower_plain("k", graph.ops, graph).outputs == ("exp", "negative")
    check(graph)


def test_what_can_be_inlined_is():
    graph = built(lambda b: b.op("exp", b.op("nn.relu", b.op("negative", b.input("x", (5, 16))))))
    assert len(block_names(lower_plain("k", graph.ops, graph).func)) == 3
    assert len(block_names(check(graph))) == 1


def test_constants_are_arguments_in_the_order_in_which_they_are_read():
    graph = built(
        lambda b: b.op(
            "add", b.op("multiply", b.input("x", (4, 8)), weights(b, 8)), weights(b, 4, 1)
        )
    )
    kernel = lower_plain("named", graph.ops, graph)
    assert kernel.inputs == ("x", "w", "w_1")
    assert isinstance(kernel.func, PrimFunc)
    assert str(kernel.func.attrs["global_symbol"]) == "named"


def test_the_graph_of_a_block():
    def make(b):
        x = b.op("nn.relu", b.input("x", (4, 8)))
        y = b.op("exp", x)
        return x, b.op("add", b.op("negative", y), y)

    graph = built(make)
    sub = block_graph(graph.ops[1:3], graph)
    assert sub.inputs == ("relu",) and sub.outputs == ("exp", "negative")


def test_ops_without_tir_are_refused_by_name():
    graph = built(lambda b: b.op("sort", b.input("x", (4, 8)), axis=1))
    with pytest.raises((NotLowerable, ValueError), match=r"TVM has no TIR for|kept it"):
        lower_plain("k", graph.ops, graph)
