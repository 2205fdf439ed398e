"""Convolutions over planes: grouped 1x1 and depthwise ones on row-major tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers import (
    DEVICE,
    NARROW,
    block_names,
    built,
    check_block,
    feed_of,
    kept_in_memory,
    lowered,
    run_kernel,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.layouts import assign_layouts
from tvm_dnnfusion.codegen.params import Choices, params_of
from tvm_dnnfusion.codegen.planar import by_planes, pack
from tvm_dnnfusion.codegen.product_tiles import plane_tile, plane_tiles
from tvm_dnnfusion.codegen.tiles import Operand, Tile
from tvm_dnnfusion.devices.registry import get
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph

LANES = replace(DEVICE, name="test-a64", vector_bits=128, vector_registers=32)
"""Schedules as for A64, run by this machine."""

DEVICES = {"avx512": DEVICE, "sse": NARROW, "a64": LANES}


def grouped(b: GraphBuilder, x: str, out: int, groups: int, **attrs: Any) -> str:
    """A 1x1 convolution in groups, of 1, 2 or 3 spatial axes."""
    channels, *size = b.tensors[x].dims[1:]
    w = weights(b, out, channels // groups, *(1,) * len(size))
    return b.op(f"nn.conv{len(size)}d", x, w, groups=groups, **attrs)


def shuffled(b: GraphBuilder, x: str, groups: int) -> str:
    """ShuffleNet's shuffle of channels."""
    n, c, *size = b.tensors[x].dims
    y = b.op("reshape", x, (n, groups, c // groups, *size))
    axes = (0, 2, 1, *range(3, 3 + len(size)))
    return b.op("reshape", b.op("permute_dims", y, axes=axes), (n, c, *size))


SIZES = {
    "whole vectors": ((1, 24, 8, 8), 12, 4),
    "the last vectors meet": ((1, 8, 6, 11), 12, 4),
    "rows that no tile divides": ((1, 12, 4, 12), 58, 2),
    "one fold": ((1, 3, 8, 8), 9, 3),
    "batch": ((3, 10, 5, 7), 10, 2),
    "1-D": ((2, 6, 37), 9, 3),
    "3-D": ((1, 6, 3, 4, 5), 4, 2),
}
"""Input, channels out, groups."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SIZES)
def test_a_grouped_convolution_computes_what_the_unfused_module_does(name: str, device: str):
    shape, out, groups = SIZES[name]

    def make(b: GraphBuilder) -> str:
        y = grouped(b, b.input("x", shape), out, groups)
        bias = weights(b, 1, out, *(1,) * (len(shape) - 2))
        return b.op("nn.relu", b.op("add", y, bias))

    func = check_block(built(make), "planes", device=DEVICES[device])
    assert not kept_in_memory(func, "anchor"), "accumulators are registers"


@pytest.mark.parametrize("device", DEVICES)
def test_a_shuffle_moves_planes_as_they_are_stored(device: str):
    def make(b: GraphBuilder) -> str:
        y = grouped(b, b.input("x", (1, 24, 7, 8)), 36, 4)
        return shuffled(b, b.op("nn.relu", y), 4)

    func = check_block(built(make), "planes", device=DEVICES[device])
    assert set(block_names(func)) <= {
        "anchor0_init", "anchor0_update", "out0", "p1_local"}, "no pass of its own"  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_a_residual_is_added_where_two_vectors_meet(device: str):
    """Places of both are computed twice, and added once."""

    def make(b: GraphBuilder) -> tuple[str, ...]:
        x = b.input("x", (1, 12, 5, 9))
        y = b.op("add", grouped(b, x, 12, 2), b.input("r", (1, 12, 5, 9)))
        return y, b.op("nn.relu", y)

    check_block(built(make), "planes", device=DEVICES[device])


def test_an_operand_that_is_made_in_the_block_or_lies_in_blocks_is_laid_out_first():
    def make(b: GraphBuilder) -> str:
        x = b.op("add", b.input("x", (1, 16, 6, 6)), b.input("r", (1, 16, 6, 6)))
        return grouped(b, b.op("nn.relu", x), 20, 4)

    assert "pad0" in block_names(check_block(built(make), "planes"))
    graph = built(lambda b: grouped(b, b.input("x", (1, 16, 6, 6)), 20, 4))
    assert "pad0" in block_names(check_block(graph, "planes", {"x": Layout(1, 4)}))
    assert "pad0" not in block_names(check_block(graph, "planes"))


@pytest.mark.parametrize("device", DEVICES)
def test_a_blocked_output_is_written_as_it_shall_lie(device: str):
    graph = built(lambda b: grouped(b, b.input("x", (1, 24, 6, 7)), 24, 4))
    check_block(graph, "planes", {graph.outputs[0]: Layout(1, 8)}, DEVICES[device])


def test_no_group_reads_another():
    """An infinite value stays in its group: no weight of zero meets it."""
    graph = built(lambda b: grouped(b, b.input("x", (1, 6, 6, 6)), 6, 2))
    kernel, feed = lowered(graph), feed_of(graph)
    feed["x"][:, :3] = np.inf
    (found,) = run_kernel(scheduled(kernel), kernel, graph, feed)
    assert not np.isfinite(found[:, :3]).any() and np.isfinite(found[:, 3:]).all()


WHICH = {  # lanes: 16, 4, ..., whether in planes
    "34 channels of a group": ((1, 136, 28, 28), 136, 4, {}, (True, True)),
    "68 channels of a group": ((1, 272, 14, 14), 272, 4, {}, (True, False)),
    "136 channels, 7x7: planes waste more": ((1, 544, 7, 7), 544, 4, {}, (False, False)),
    "whole vectors of channels": ((1, 64, 8, 8), 64, 4, {}, (False, False)),
    "one group": ((1, 17, 8, 8), 17, 1, {}, (False, False)),
    "stride": ((1, 12, 8, 8), 12, 4, {"strides": (2, 2)}, (False, False)),
    "border": ((1, 12, 8, 8), 12, 4, {"padding": (1, 1, 1, 1)}, (False, False)),
    "fewer places than lanes": ((1, 12, 1, 3), 12, 4, {}, (False, False)),
}


@pytest.mark.parametrize("name", WHICH)
def test_planes_are_taken_where_they_fill_the_lanes_better(name: str):
    shape, out, groups, attrs, wanted = WHICH[name]
    graph = built(lambda b: grouped(b, b.input("x", shape), out, groups, **attrs))
    (op,) = graph.ops
    assert tuple(by_planes(op, graph, d) for d in (DEVICE, LANES)) == wanted
    for device, planes in zip((DEVICE, LANES), wanted, strict=True):
        assert lowered(graph, device=device).kind == ("planes" if planes else "conv")
    assert not by_planes(op, graph, get("mali-g76"))


def test_weights_that_are_not_constant_are_no_planes():
    def make(b: GraphBuilder) -> str:
        w = b.input("w", (12, 3, 1, 1))
        return b.op("nn.conv2d", b.input("x", (1, 12, 8, 8)), w, groups=4)

    graph = built(make)
    assert not by_planes(graph.ops[0], graph, DEVICE)
    check_block(graph, "conv")


def test_weights_are_packed_by_tiles_of_rows():
    data = np.arange(2 * 3 * 4, dtype="float32").reshape(6, 4, 1, 1)
    found = pack(data, 2, 2)
    assert found.shape == (2, 2, 4, 2)
    assert found[1, 0, 3].tolist() == [data[3, 3, 0, 0], data[4, 3, 0, 0]]
    assert found[1, 1, 3].tolist() == [data[5, 3, 0, 0], 0.0]


@pytest.mark.parametrize("device", DEVICES)
def test_the_best_tile_stays_in_registers(device: str):
    for rows in range(1, 80):
        for blocks in range(1, 60):
            height, vectors = plane_tile(DEVICES[device], rows, blocks)
            assert Tile(1, height, vectors).fits(DEVICES[device], Operand.PLACES)
            assert vectors <= blocks


def test_a_search_may_choose_every_tile_that_is_offered():
    graph = built(lambda b: grouped(b, b.input("x", (1, 12, 6, 8)), 34, 2))
    feed = feed_of(graph)
    found = []
    for height, vectors in plane_tiles(NARROW, 17, 12)[:8]:
        choices = Choices(params_of({"tile": [height, vectors]}))
        kernel = lower_block("b000_test", graph.ops, graph, {}, NARROW, choices=choices)
        found += run_kernel(scheduled(kernel, NARROW), kernel, graph, feed)
    assert len(found) == 8
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0], "folds keep their order")


WINDOWS = {
    "3x3": ((1, 6, 9, 14), (3, 3), {"padding": (1, 1, 1, 1)}),
    "no border": ((1, 5, 8, 12), (3, 3), {}),
    "long rows": ((1, 2, 5, 37), (3, 3), {"padding": (1, 1, 1, 1)}),
    "short rows": ((2, 5, 6, 4), (3, 3), {"padding": (1, 1, 1, 1)}),
    "5x5, dilated": ((1, 3, 12, 15), (5, 5), {"padding": (4, 4, 4, 4), "dilation": (2, 2)}),
    "stride along rows": ((1, 3, 11, 9), (3, 3), {"padding": (1, 1, 1, 1), "strides": (2, 1)}),
    "border on one side": ((1, 3, 8, 9), (2, 4), {"padding": (1, 3, 0, 0)}),
}


def depthwise(b: GraphBuilder, x: str, kernel: tuple[int, int], **attrs: Any) -> str:
    channels = b.tensors[x].dims[1]
    w = weights(b, channels, 1, *kernel)
    return b.op("nn.conv2d", x, w, groups=channels, **attrs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", WINDOWS)
def test_a_depthwise_convolution_over_rows_computes_what_the_unfused_module_does(name, device):
    shape, kernel, attrs = WINDOWS[name]

    def make(b: GraphBuilder) -> str:
        y = depthwise(b, b.input("x", shape), kernel, **attrs)
        return b.op("nn.relu", b.op("add", y, weights(b, 1, shape[1], 1, 1)))

    func = check_block(built(make), "dwconv", device=DEVICES[device])
    assert not kept_in_memory(func, "anchor")


def test_a_depthwise_convolution_of_blocks_stays_in_blocks():
    graph = built(lambda b: depthwise(b, b.input("x", (1, 32, 8, 8)), (3, 3)))
    lies = {"x": Layout(1, 16), graph.outputs[0]: Layout(1, 16)}
    assert lowered(graph, lies).func.attrs["dnnfusion.tile"] is not None
    check_block(graph, "dwconv", lies)


def unit(b: GraphBuilder) -> str:
    """ShuffleNet's unit: grouped, shuffled, depthwise, grouped, added."""
    x = b.input("x", (1, 24, 8, 8))
    y = shuffled(b, b.op("nn.relu", grouped(b, x, 24, 4)), 4)
    y = depthwise(b, y, (3, 3), padding=(1, 1, 1, 1))
    return b.op("nn.relu", b.op("add", grouped(b, y, 24, 4), x))


def _blocks(graph: Graph) -> tuple[tuple[Any, ...], ...]:
    """The unit as the planner groups it."""
    return graph.ops[:5], graph.ops[5:6], graph.ops[6:]


def test_tensors_between_convolutions_over_planes_are_row_major():
    graph = built(unit)
    assert assign_layouts(_blocks(graph), graph, DEVICE) == {}


def test_whole_vectors_of_channels_stay_in_blocks():
    graph = built(lambda b: depthwise(b, grouped(b, b.input("x", (1, 64, 8, 8)), 64, 4), (3, 3)))
    between = graph.ops[0].output
    assert assign_layouts(tuple((op,) for op in graph.ops), graph, DEVICE) == {
        between: Layout(1, 16)
    }
