"""Register tiles: divisors that fit the registers, and widths rounded up to have one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import DEVICE, NARROW
from tvm_dnnfusion.codegen.tiles import (
    GOOD_TILE,
    SPARE_REGISTERS,
    round_up,
    tile_limit,
    tile_of,
    vectors_of,
)
from tvm_dnnfusion.schedules.cpu.conv import tile_shape

LIMITS = st.integers(1, 28)


@given(st.integers(1, 300), LIMITS)
def test_a_tile_divides_its_extent_and_fits(extent, limit):
    tile = tile_of(extent, limit)
    assert extent % tile == 0 and 1 <= tile <= limit


@pytest.mark.parametrize("extent, limit, tile", [
    (56, 14, 8), (28, 14, 7), (14, 14, 7), (7, 14, 7), (112, 14, 8), (224, 28, 8), (12, 14, 6),
    (13, 14, 13), (37, 14, 1), (4, 14, 4), (1, 14, 1), (64, 4, 4), (10, 28, 10),
])  # fmt: skip
def test_tiles_near_eight_are_preferred(extent, limit, tile):
    assert tile_of(extent, limit) == tile


@given(st.integers(1, 300), LIMITS)
def test_a_rounded_width_has_a_good_tile_at_little_cost(width, limit):
    wide = round_up(width, limit)
    assert width <= wide <= width + width // 8
    good = min(GOOD_TILE, limit)
    if wide != width:
        assert tile_of(wide, limit) >= good > tile_of(width, limit)


WIDTHS = {111: 112, 112: 112, 37: 39, 13: 13, 5: 5, 59: 60}


@pytest.mark.parametrize("width, wide", WIDTHS.items())
def test_rounded_widths(width, wide):
    assert round_up(width, 14) == wide


@pytest.mark.parametrize(
    "blocks, vectors", [(1, 1), (2, 2), (3, 3), (4, 2), (5, 1), (6, 2), (9, 3)]
)
def test_vectors_side_by_side_divide_the_blocks(blocks, vectors):
    assert vectors_of(blocks) == vectors and blocks % vectors == 0


@pytest.mark.parametrize("device", [DEVICE, NARROW])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_a_tile_leaves_registers_for_the_operands(device, vectors):
    assert tile_limit(device, vectors) * vectors + SPARE_REGISTERS <= device.vector_registers


@given(st.lists(st.integers(1, 120), min_size=1, max_size=3), LIMITS)
def test_tiles_of_places_divide_every_axis(place, limit):
    sizes = tile_shape(place, limit)
    volume = 1
    for extent, size in zip(place, sizes, strict=True):
        assert extent % size == 0
        volume *= size
    assert volume <= limit


def test_rows_join_where_columns_are_few():
    assert tile_shape([111, 111], 14) == [3, 3]
    assert tile_shape([28, 28], 14) == [1, 7]
    assert tile_shape([4, 1], 14) == [4, 1]
