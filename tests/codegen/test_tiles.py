"""Register tiles: divisors that fit the registers, and widths rounded up to have one."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import DEVICE, NARROW
from tvm_dnnfusion.codegen.product_tiles import RAGGED_RATE, over_rows, product_tile
from tvm_dnnfusion.codegen.tiles import (
    GOOD_TILE,
    SPARE_REGISTERS,
    Tile,
    conv_tile,
    key_tile,
    tile_limit,
    tile_of,
    tile_or_rest,
    vectors_of,
)

EXTENTS = range(1, 301)


@pytest.mark.parametrize("limit", range(1, 29))
def test_a_tile_divides_its_extent_and_fits(limit):
    for extent in EXTENTS:
        tile = tile_of(extent, limit)
        assert extent % tile == 0 and 1 <= tile <= limit


@pytest.mark.parametrize("limit", range(1, 29))
def test_a_tile_or_the_rest_of_its_extent_is_long(limit):
    """Where no divisor is good, no other length leaves more at the end, up to a good tile."""
    for extent in EXTENTS:
        tile, divisor = tile_or_rest(extent, limit), tile_of(extent, limit)
        assert 1 <= tile <= limit
        if divisor >= min(GOOD_TILE, limit, extent):
            assert tile == divisor, "a good divisor stays"
            continue
        rest, lengths = extent % tile or tile, range(min(GOOD_TILE // 2, limit), limit + 1)
        assert rest >= min(GOOD_TILE, max(extent % t or t for t in lengths)), (extent, tile)


@pytest.mark.parametrize("limit, shortest", [(10, 3), (11, 4), (12, 5), (14, 5), (28, 6)])
def test_the_last_tile_of_an_image_row_is_no_shorter_than_this(limit, shortest):
    ends = [n % tile_or_rest(n, limit) or tile_or_rest(n, limit) for n in EXTENTS if n >= GOOD_TILE]
    assert min(ends) == shortest


@pytest.mark.parametrize("extent, limit, tile", [
    (37, 14, 10), (19, 14, 10), (38, 14, 8), (36, 14, 9), (112, 14, 8), (5, 14, 5), (7, 6, 4),
    (14, 6, 5), (13, 6, 5),
])  # fmt: skip
def test_columns_without_a_good_divisor_end_in_a_long_tile(extent, limit, tile):
    assert tile_or_rest(extent, limit) == tile


@pytest.mark.parametrize("extent, limit, tile", [
    (56, 14, 8), (28, 14, 7), (14, 14, 7), (7, 14, 7), (112, 14, 8), (224, 28, 8), (12, 14, 6),
    (13, 14, 13), (37, 14, 1), (4, 14, 4), (1, 14, 1), (64, 4, 4), (10, 28, 10),
])  # fmt: skip
def test_tiles_near_eight_are_preferred(extent, limit, tile):
    assert tile_of(extent, limit) == tile


@pytest.mark.parametrize(
    "blocks, vectors", [(1, 1), (2, 2), (3, 3), (4, 2), (5, 1), (6, 2), (9, 3)]
)
def test_vectors_side_by_side_divide_the_blocks(blocks, vectors):
    assert vectors_of(blocks) == vectors and blocks % vectors == 0


@pytest.mark.parametrize("device", [DEVICE, NARROW])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_a_tile_leaves_registers_for_the_operands(device, vectors):
    assert tile_limit(device, vectors) * vectors + SPARE_REGISTERS <= device.vector_registers


@pytest.mark.parametrize("device", [DEVICE, NARROW])
@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 40))
def test_a_convolution_tile_fits_and_cuts_evenly(device, height, width, blocks):
    tile, wide = conv_tile(device, blocks, (height, width))
    assert tile.fits(device)
    assert blocks % tile.vectors == 0 and height % tile.rows == 0 and wide % tile.columns == 0
    assert width <= wide <= 1.5 * width


TILES = {  # on a unit of 512 bits with 32 registers, on one of 128 with 16
    (7, 4): ((1, 7, 2, 7), (1, 4, 2, 8)),
    (14, 4): ((1, 7, 2, 14), (2, 2, 2, 14)),
    (56, 4): ((1, 7, 2, 56), (1, 4, 2, 56)),
    (3, 2): ((3, 3, 1, 3), None),
    (111, 4): ((1, 7, 2, 112), None),
}


@pytest.mark.parametrize("size, blocks", TILES)
def test_tiles_of_known_convolutions(size, blocks):
    for device, expected in zip((DEVICE, NARROW), TILES[size, blocks], strict=True):
        if expected is not None:
            tile, wide = conv_tile(device, blocks, (size, size))
            assert (tile.rows, tile.columns, tile.vectors, wide) == expected


def test_the_rate_of_a_tile_grows_with_its_accumulators_and_falls_with_its_loads():
    growing = [Tile(1, 1, 1), Tile(1, 4, 1), Tile(1, 4, 2), Tile(1, 4, 3)]
    assert all(a.rate(DEVICE) < b.rate(DEVICE) for a, b in pairwise(growing))
    assert Tile(1, 12, 1).rate(DEVICE) < Tile(1, 6, 2).rate(DEVICE)


SHORT = {  # size, blocks of 16 channels, folds: what was measured on MobileNetV2's convolutions
    (112, 6, 16): (1, 8, 1),
    (56, 9, 24): (1, 8, 1),
    (28, 12, 32): (1, 14, 1),
    (56, 9, 64): (1, 4, 3),
    (28, 12, 96): (1, 7, 2),
}


@pytest.mark.parametrize("size, blocks, folds", SHORT)
def test_over_few_folds_a_tile_stores_to_one_block_of_channels(size, blocks, folds):
    tile, wide = conv_tile(DEVICE, blocks, (size, size), folds=folds)
    assert (tile.rows, tile.columns, tile.vectors, wide) == (*SHORT[size, blocks, folds], size)
    narrow = conv_tile(NARROW, blocks, (size, size), folds=folds)
    assert narrow == conv_tile(NARROW, blocks, (size, size)), "measured with 512 bits only"


def test_a_tile_of_one_row_only_where_a_strip_wants_it():
    assert conv_tile(DEVICE, 2, (3, 3), whole_rows=True)[0].rows == 1


@pytest.mark.parametrize("rows", [1, 4, 37, 128, 197])
@pytest.mark.parametrize("blocks", [1, 2, 5, 20, 59, 3142])
def test_tiles_of_products_fit_and_are_found_again(rows, blocks):
    for device in (DEVICE, NARROW):
        height, vectors, wide = product_tile(device, rows, blocks)
        assert height <= rows and wide % vectors == 0
        assert blocks <= wide < blocks + vectors
        assert Tile(1, height, vectors).fits(device)
        assert product_tile(device, rows, wide) == (height, vectors, wide)
        assert rows % product_tile(device, rows, blocks, ragged=False)[0] == 0


@pytest.mark.parametrize("keys", [1, 5, 41, 128, 197])
def test_tiles_of_keys_cover_them_and_are_found_again(keys):
    for device in (DEVICE, NARROW):
        tile, padded = key_tile(device, keys, 2)
        assert padded % tile == 0 and keys <= padded < keys + tile
        again, same = key_tile(device, padded, 2)
        assert same == padded and padded % again == 0


def test_the_tile_of_a_transformer_layer():
    """128 x 768 by 768 x 2304: four rows by three vectors, which stay on the stack."""
    assert product_tile(DEVICE, 128, 144) == (4, 3, 144)


def _best(device, rows, blocks):
    """The score of the tile that is taken."""
    height, vectors, wide = product_tile(device, rows, blocks)

    def rate(n):
        return Tile(1, n, vectors).rate(device)

    return over_rows(rows, height, rate) * blocks / wide


@pytest.mark.parametrize("blocks", [1, 2, 3, 9, 13, 24, 97])
@pytest.mark.parametrize("device", [DEVICE, NARROW])
def test_no_number_of_rows_is_much_worse_than_others(device, blocks):
    """Rows without a good divisor had tiles of one row, at half the rate."""
    least = 0.92 * _best(device, 240, blocks)
    assert all(_best(device, rows, blocks) >= least for rows in range(40, 301))


def test_the_rate_over_rows_counts_the_last_tile_by_itself():
    rate = {3: 0.5, 8: 1.0}.__getitem__
    assert over_rows(16, 8, rate) == 1.0
    assert over_rows(19, 8, rate) == pytest.approx(RAGGED_RATE * 19 / (16 / 1.0 + 3 / 0.5))


def test_near_miss_rows_that_a_tile_divides_as_well_are_divided():
    for rows in (28, 56, 128, 196, 224):
        assert rows % product_tile(DEVICE, rows, 48)[0] == 0
