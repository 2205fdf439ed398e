"""Transpositions go in tiles, all else as before."""

import pytest

from tests.helpers import built, check_block, lowered
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.schedules.cpu.crossed import MIN_TILE, TILE, crossed, tile_length
from tvm_dnnfusion.schedules.cpu.maps import MIN_CROSSED


def transposed(shape, axes):
    return lambda b: b.op("tanh", b.op("permute_dims", b.input("x", shape), axes=axes))


def extents(func):
    """The extents of the loops around the only stage, outermost first."""
    out, loop = [], func.body.block.body
    while hasattr(loop, "loop_var"):
        out.append(int(loop.extent))
        loop = loop.body
    return out


@pytest.mark.parametrize(
    "shape, axes",
    [((128, 96), (1, 0)), ((1, 32, 20, 24), (0, 2, 3, 1)), ((2, 24, 40, 8), (0, 3, 1, 2))],
)
def test_tiles_along_the_axis_that_is_read_and_the_one_that_is_written(shape, axes):
    func = check_block(built(transposed(shape, axes)), "map")
    *_, rows, lanes = extents(func)
    assert MIN_TILE <= rows <= TILE and MIN_TILE <= lanes <= TILE


def test_into_blocks_of_channels_too():
    graph = built(lambda b: b.op("tanh", b.input("x", (1, 64, 24, 24))))
    func = check_block(graph, "map", {graph.outputs[0]: Layout(1, 16)})
    assert extents(func)[-2:] == [12, 16]


@pytest.mark.parametrize(
    "shape, axes", [((64, 3, 128), (1, 0, 2)), ((128, 97), (1, 0)), ((8, 16), (1, 0))]
)
def test_rows_that_stay_rows_odd_extents_and_small_stages_stay_loops(shape, axes):
    graph = built(transposed(shape, axes))
    func = check_block(graph, "map")
    assert len(extents(func)) <= 3


def test_a_stage_that_reads_as_it_writes_crosses_nothing():
    func = lowered(built(lambda b: b.op("tanh", b.input("x", (64, 64))))).func
    loop = func.body.block.body
    while hasattr(loop, "loop_var"):
        loop = loop.body
    assert crossed(loop.block) is None


@pytest.mark.parametrize("extent, length", [(128, 16), (24, 12), (97, None), (3, None), (10, 10)])
def test_tiles_are_divisors(extent, length):
    assert tile_length(extent) == length


def test_the_limit_is_of_the_first_cache():
    assert MIN_CROSSED * 4 <= 64 << 10
