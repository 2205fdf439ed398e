"""Attention on GPUs: the form of its OpenCL C, and its numbers where a device is at hand."""

from __future__ import annotations

import re

import pytest

from tests.codegen.test_block_attention import MASKS, SHAPES, attended
from tests.helpers import built, weights
from tests.schedules.gpu.kernels import DEVICES, check, device, kernel_of


def local_bytes(source: str) -> int:
    """Bytes of the arrays in local memory."""
    found = re.findall(r"__local float(\d?) \w+\[(\d+)\]", source)
    return sum(4 * int(lanes or 1) * int(n) for lanes, n in found)


@pytest.mark.parametrize("name", DEVICES)
def test_scores_stay_in_local_memory(name):
    """12 heads of 128 x 128 scores: a group has 8 rows of them at most, in two copies."""
    _, made = kernel_of(attended((1, 128, 128, 12, 64, 64), "per key"), name)
    items = {t["threadIdx.x"] for t in made.threads}
    assert made.kernels == 2
    assert items == {64}, "work-items of a stage between two barriers"
    assert 0 < local_bytes(made.source) <= device(name).gpu.local_bytes // 2
    assert made.source.count("barrier(CLK_LOCAL_MEM_FENCE)") == 6
    operands = r"vload4\(0, (p0|p2|key0)_ptr"
    assert set(re.findall(operands, made.source)) == {"p0", "p2", "key0"}
    assert re.findall(r"vstore4\(.*out0_ptr", made.source)
    assert not re.findall(r"_local_ptr\[[^\]]*[a-z]", made.source), "an index that varies"


def test_keys_too_many_for_local_memory_take_kernels_of_their_own():
    _, made = kernel_of(attended((1, 16, 4096, 2, 16, 16), "none"), DEVICES[0])
    assert "__local" not in made.source
    assert made.kernels > 4


def test_one_query_is_a_group_of_one_row():
    _, made = kernel_of(attended((1, 1, 512, 4, 64, 64), "none"), DEVICES[1])
    assert made.kernels == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers(shape):
    check(attended(SHAPES[shape], "per row"), DEVICES[list(SHAPES).index(shape) % 2])


@pytest.mark.parametrize("mask", MASKS)
def test_numbers_under_masks(mask):
    check(attended(SHAPES["heads of 26"], mask), DEVICES[MASKS.index(mask) % 2])


@pytest.mark.parametrize("keys", [900, 4100])
def test_numbers_of_long_rows(keys):
    """Four rows fill local memory; beyond that there is none."""
    check(attended((1, 12, keys, 2, 8, 8), "none"), DEVICES[0])


def test_numbers_with_operands_made_in_the_block_and_an_epilogue():
    def make(b):
        x = b.input("x", (1, 24, 48))
        parts = b.op("reshape", x, (1, 24, 3, 16))
        q, k, v = b.op("split", parts, indices_or_sections=3, axis=2)
        y = b.op("nn.attention", b.op("nn.relu", q), b.op("tanh", k), v, scale=0.5)
        return b.op("add", b.op("reshape", y, (1, 24, 16)), weights(b, 16))

    check(built(make), DEVICES[1])
