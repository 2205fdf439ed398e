"""Reductions, softmax and normalisations on GPUs: their form, and numbers where a device is."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("make", [softmax, layer_norm])
def test_a_row_is_folded_by_eight_items_in_one_kernel(make, name):
    _, made = kernel_of(make((24, 128)), name)
    assert made.source.count("// Function:") == 1
    assert made.group == 64  # eight of the 24 rows, eight items each
    assert "vload4(0, p0_ptr" in made.source
    assert 0 < made.source.count("barrier(") <= 5


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
