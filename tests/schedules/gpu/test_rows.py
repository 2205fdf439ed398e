"""Reductions, softmax and normalisations on GPUs: their form, and numbers where a device is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.helpers import built, weights
from tests.schedules.gpu.kernels import DEVICES, check, kernel_of

SHAPES = {
    "a row per eight items": (24, 128),
    "rows that do not divide": (7, 50),
    "short rows": (33, 10),
    "one row": (1, 256),
    "three axes": (2, 5, 96),
    "a long row": (4, 2000),
}


def softmax(shape, axis=-1):
    return built(lambda b: b.op("nn.softmax", b.input("x", shape), axis=axis))


def layer_norm(shape):
    def make(b):
        n = shape[-1]
        return b.op("nn.layer_norm", b.input("x", shape), weights(b, n), weights(b, n), axes=(-1,))

    return built(make)


def items_of(made: Any) -> tuple[int, int]:
    """Work-items of a row, and groups, of a kernel that folds rows."""
    tags = made.threads[0]
    return tags["threadIdx.x"], tags["blockIdx.x"]


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_many_short_rows_are_folded_by_few_items_each_in_one_kernel(make, name):
    _, made = kernel_of(make((1536, 64)), name)
    assert made.kernels == 1
    assert items_of(made) == (8, 192)  # eight rows of a group, eight items each
    assert "vload4(0, p0_ptr" in made.source
    assert 0 < made.source.count("barrier(") <= 5


FEW = [(1, 32000), (1, 1, 768), (32000,), (1, 1000), (2, 3001), (197, 768)]
"""Rows that leave most of a GPU idle where eight items fold each of them."""


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("shape", FEW)
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_few_long_rows_are_folded_by_whole_groups_in_one_kernel(make, shape, name):
    _, made = kernel_of(make(shape), name)
    items, groups = items_of(made)
    assert made.kernels == 1
    if len(shape) > 1 and shape[0] == 197 and name == DEVICES[0]:
        assert items == 8  # a Mali's waves are as narrow, and 197 rows are enough
    else:
        assert items >= (32 if shape[-1] < 30000 else 256)
    assert groups == math.prod(shape[:-1])
    if shape[-1] % 4 == 0:
        assert "vload4(0, p0_ptr" in made.source


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("shape", [*FEW, (5, 4099), (3, 9, 28)])
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_numbers_of_few_long_rows(make, shape, name):
    if DEVICES[len(shape) % 2] == name:
        pytest.skip("each shape on one device")
    check(make(shape), name, rtol=1e-4)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [(1, 2, 3), (0, 1, 2, 3), (2, 3)])
def test_a_mean_of_whole_maps_is_one_kernel(axes, keepdims):
    graph = built(
        lambda b: b.op("mean", b.input("x", (1, 3, 56, 50)), axis=axes, keepdims=keepdims)
    )
    made = check(graph, DEVICES[1])
    assert made.kernels == 1
    assert items_of(made)[0] >= 64


def test_an_instance_norm_gives_each_channel_a_group():
    def make(b):
        return b.op("nn.instance_norm", b.input("x", (1, 6, 40, 40)), weights(b, 6), weights(b, 6),
                    channel_axis=1, axes=(2, 3))  # fmt: skip

    made = check(built(make), DEVICES[0], rtol=1e-4)
    assert made.kernels == 1
    assert items_of(made)[1] == 6


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_numbers(make, shape, name):
    check(make(SHAPES[shape]), name, rtol=1e-4)


def test_what_is_held_stays_in_local_memory_only_where_that_is_on_the_chip():
    sources = [kernel_of(softmax((24, 128)), name)[1].source for name in DEVICES]
    again, held = (source.count("exp(") for source in sources)
    assert again == 2 * held > 0


@pytest.mark.parametrize("axes", [(2, 3), (1,), (0, 1, 2, 3), (3,), (0,)])
@pytest.mark.parametrize("kind", ["mean", "max"])
def test_numbers_of_reductions(kind, axes):
    check(built(lambda b: b.op(kind, b.input("x", (2, 8, 14, 32)), axis=axes)), DEVICES[0])


def test_numbers_of_a_softmax_over_channels():
    check(softmax((2, 12, 6, 8), axis=1), DEVICES[1], rtol=1e-4)
