"""Blocks around a matrix product, against the unfused module."""

import numpy as np
import pytest

from tests.helpers import (
    NARROW,
    block_names,
    buffers,
    built,
    check_block,
    kept_in_memory,
    lowered,
    weights,
)
from tvm_dnnfusion.codegen.matmul import pack
from tvm_dnnfusion.codegen.stages import NotLowerable, Packed

SHAPES = {
    "square": ((32, 32), (32, 32)),
    "batched": ((3, 20, 24), (3, 24, 32)),
    "batch against one": ((3, 20, 24), (24, 32)),
    "batch broadcast on the left": ((1, 4, 6, 8), (5, 1, 8, 16)),
    "batch only on the right": ((6, 8), (4, 8, 16)),
    "gemv": ((1, 128), (128, 96)),
    "one column": ((24, 32), (32, 1)),
    "a dot": ((1, 40), (40, 1)),
    "depth of one": ((7, 1), (1, 16)),
    "rows that are prime": ((37, 16), (16, 32)),
    "columns that are prime": ((8, 16), (16, 37)),
    "all odd": ((5, 7), (7, 11)),
    "three vectors": ((16, 8), (8, 48)),
    "one row, tail": ((1, 33), (33, 50)),
}


def operands(b, left, right, constant):
    w = weights(b, *right) if constant else b.input("b", right)
    return b.input("a", left), w


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "given"])
@pytest.mark.parametrize("name", SHAPES)
def test_product_with_bias_and_activation(name, constant):
    left, right = SHAPES[name]

    def make(b):
        y = b.op("matmul", *operands(b, left, right, constant))
        return b.op("nn.gelu", b.op("add", y, weights(b, right[-1])))

    graph = built(make)
    func = check_block(graph, "matmul")
    packed = [s for s in lowered(graph).inputs if isinstance(s, Packed)]
    assert bool(packed) == constant
    assert ("pack0" in block_names(func)) != constant


@pytest.mark.parametrize("name", ["square", "columns that are prime", "batched", "gemv"])
def test_other_vector_widths(name):
    left, right = SHAPES[name]
    graph = built(lambda b: b.op("nn.relu", b.op("matmul", *operands(b, left, right, True))))
    check_block(graph, "matmul", device=NARROW)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "given"])
def test_prologue_of_the_left_operand_is_computed_once(constant):
    def make(b):
        a, w = operands(b, (12, 24), (24, 32), constant)
        return b.op("matmul", b.op("tanh", b.op("multiply", a, 3.0)), w)

    assert "pad0" in block_names(check_block(built(make), "matmul"))


def test_prologue_of_the_right_operand_is_part_of_the_packing():
    def make(b):
        a, w = operands(b, (12, 24), (32, 24), False)
        return b.op("matmul", a, b.op("permute_dims", b.op("nn.relu", w), axes=(1, 0)))

    func = check_block(built(make), "matmul")
    assert set(block_names(func)) <= {"pack0", "anchor0_init", "anchor0_update", "out0"}


def test_an_operand_that_is_both_sides():
    """relu -> matmul(r, r): both reads see the same values."""

    def make(b):
        r = b.op("nn.relu", b.input("x", (24, 24)))
        return b.op("matmul", r, r)

    check_block(built(make), "matmul")


def test_residual_and_scale_at_once():
    def make(b):
        a, w = operands(b, (2, 16, 24), (24, 32), True)
        y = b.op("add", b.op("matmul", a, w), b.input("r", (2, 16, 32)))
        return b.op("multiply", y, b.input("s", (2, 1, 1)))

    func = check_block(built(make), "matmul")
    assert buffers(func) and not kept_in_memory(func)


def test_the_product_and_its_activation_both_leave():
    def make(b):
        y = b.op("matmul", *operands(b, (8, 16), (16, 32), True))
        return y, b.op("nn.silu", y)

    check_block(built(make), "matmul")


def test_double_precision():
    def make(b):
        a, c = b.input("a", (6, 10), "float64"), b.input("b", (10, 14), "float64")
        return b.op("add", b.op("matmul", a, c), b.input("d", (14,), "float64"))

    check_block(built(make), "matmul", rtol=1e-13, atol=1e-13)


def test_packing_against_its_formula():
    data = np.arange(1, 1 + 2 * 3 * 37, dtype="float32").reshape(2, 3, 37)
    packed = pack(data, 8, 5)
    assert packed.shape == (2, 1, 3, 5, 8)
    for batch, k, n in np.ndindex(2, 3, 37):
        assert packed[batch, n // 40, k, n // 8 % 5, n % 8] == data[batch, k, n]
    assert np.count_nonzero(packed) == data.size


@pytest.mark.parametrize("left, right", [((4,), (4, 8)), ((8, 4), (4,)), ((4,), (4,))])
def test_vectors_have_no_template(left, right):
    graph = built(lambda b: b.op("matmul", *operands(b, left, right, False)))
    with pytest.raises(NotLowerable, match="a vector operand"):
        lowered(graph)


def test_integers_have_no_template():
    graph = built(lambda b: b.op("matmul", b.input("a", (4, 4), "int32"),
                                 b.input("b", (4, 4), "int32")))  # fmt: skip
    with pytest.raises(NotLowerable, match="matmul of int32 by int32"):
        lowered(graph)
