"""Matrix products on GPUs: the form of their OpenCL C, and their numbers."""

from __future__ import annotations

import re

import pytest

from tests.codegen.test_block_matmul import SHAPES, operands
from tests.helpers import built, lowered, weights
from tests.schedules.gpu.kernels import DEVICES, check, device, kernel_of
from tvm_dnnfusion.codegen.stages import Packed


def product(left, right, constant=True):
    def make(b):
        y = b.op("matmul", *operands(b, left, right, constant))
        return b.op("nn.gelu", b.op("add", y, weights(b, right[-1])))

    return built(make)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "given"])
@pytest.mark.parametrize("name", DEVICES)
def test_tiles_are_vectors_in_registers(name, constant):
    graph = product((1, 128, 256), (256, 512) if constant else (1, 256, 512), constant)
    _, made = kernel_of(graph, name)
    assert re.findall(r"vload4\(0, p0_ptr", made.source)
    assert re.findall(r"vload4\(0, p1_ptr", made.source)
    assert re.findall(r"vstore4\(.*out0_ptr", made.source)
    assert not re.findall(r"p[01]_ptr\[", made.source), "an operand is read element by element"
    indexed = re.findall(r"_local_ptr\[[^\]]*[a-z]", made.source)
    assert indexed == [], "an array that a variable indexes is no register"
    assert "barrier(" not in made.source
    assert "erfc(" in made.source, "GELU in OpenCL's own words"
    spec = device(name).gpu
    assert 32 <= made.group <= spec.work_group


@pytest.mark.parametrize("rows", [31, 37, 197])
@pytest.mark.parametrize("name", DEVICES)
def test_rows_that_no_tile_divides_take_tiles_of_several(name, rows):
    """Tiles of one row read the right operand once for every row."""
    _, made = kernel_of(product((rows, 64), (64, 128)), name)
    accumulators = re.findall(r"float4 anchor0_local_\w+\[(\d+)\];", made.source)
    assert len(accumulators) == 2 and max(map(int, accumulators)) >= 5
    assert made.source.count("} else {") == 1, "a work-item asks once whether its tile is the last"
    assert re.findall(r"  if \(", made.source) == ["  if ("]
    assert re.findall(r"_local_ptr\[[^\]]*[a-z]", made.source) == []


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("rows", [5, 13, 31, 37, 197])
def test_numbers_of_rows_that_no_tile_divides(name, rows):
    check(product((rows, 24), (24, 36 if rows % 4 == 1 else 48), rows % 3 > 0), name)


def test_numbers_of_rows_that_go_elsewhere():
    def make(b):
        y = b.op("matmul", *operands(b, (19, 24), (24, 48), True))
        y = b.op("reshape", b.op("add", y, b.input("r", (19, 48))), (19, 3, 16))
        return b.op("permute_dims", y, axes=(1, 0, 2))

    check(built(make), DEVICES[0])


def test_a_right_operand_that_lies_in_rows_is_read_where_it_is():
    kernel = lowered(product((4, 16, 32), (4, 32, 64), constant=False), device=device(DEVICES[0]))
    assert "pack" not in kernel.func.script()
    ragged = lowered(product((4, 16, 32), (4, 32, 63), constant=False), device=device(DEVICES[0]))
    assert "pack0" in ragged.func.script()


def test_constant_columns_are_rows_of_vectors():
    kernel = lowered(product((8, 16), (16, 37)), device=device(DEVICES[0]))
    (packed,) = (s for s in kernel.inputs if isinstance(s, Packed))
    assert packed.data.shape == (16, 10, 4)
    assert not packed.data[:, -1, 1:].any()


def test_one_row_splits_the_fold():
    graph = product((1, 1024), (1024, 400))
    _, mali = kernel_of(graph, "mali-g76")
    assert mali.kernels == 2
    assert "barrier(" not in mali.source
    _, adreno = kernel_of(graph, "adreno-650")
    assert adreno.source.count("barrier(CLK_LOCAL_MEM_FENCE)") == 1
    assert "__local float" in adreno.source


@pytest.mark.parametrize("name", SHAPES)
def test_numbers(name):
    turn = list(SHAPES).index(name)
    check(product(*SHAPES[name], constant=turn % 4 < 2), DEVICES[turn % 2])


@pytest.mark.parametrize("name", DEVICES)
def test_numbers_of_one_row(name):
    check(product((1, 1024), (1024, 400)), name, atol=1e-4)
