"""Rows cut into phases: convolutions with a stride over an input in rows, where lanes multiply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.arm import assembly, products
from tests.helpers import DEVICE, built, check_block, lowered, weights
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph

LANES = replace(DEVICE, name="test-a64", vector_bits=128, vector_registers=32)
"""Schedules as for A64, run by this machine."""

CASES = {
    "first layer": ((1, 3, 22, 30), 7, 2, 3, {}),
    "no border": ((1, 3, 71, 71), 11, 4, 0, {}),
    "stride 3 of 4 taps": ((2, 3, 17, 19), 4, 3, 1, {}),
    "dilated": ((1, 2, 24, 23), 3, 2, 2, {"dilation": (2, 2)}),
    "stride along columns only": ((1, 3, 12, 26), 3, (1, 2), 1, {}),
    "groups": ((1, 2, 18, 18), 3, 2, 1, {"groups": 2}),
    "as many taps as the stride": ((1, 3, 16, 20), 2, 2, 0, {}),
    "1-D": ((1, 3, 50), 5, 2, 2, {}),
    "1-D, one channel": ((1, 1, 64), 8, 4, 0, {}),
    "3-D": ((1, 2, 5, 9, 14), 3, 2, 1, {}),
}
"""Input, taps and stride per axis, border, other attributes."""

_CHANNELS = 208  # enough of them for every case to be worth it


def _conv(b: GraphBuilder, name: str) -> str:
    shape, taps, stride, border, attrs = CASES[name]
    rank = len(shape) - 2
    w = weights(b, _CHANNELS, shape[1] // attrs.get("groups", 1), *(taps,) * rank)
    strides = stride if isinstance(stride, tuple) else (stride,) * rank
    pads = (border,) * 2 * rank
    x = b.input("x", shape)
    y = b.op(f"nn.conv{rank}d", x, w, padding=pads, strides=strides, **attrs)
    return b.op("nn.relu", b.op("add", y, weights(b, 1, _CHANNELS, *(1,) * rank)))


def _pad(graph: Graph, device=DEVICE) -> tuple[int, ...]:
    """The extents in which the input is laid out."""
    made = lowered(graph, device=device).func.body.block.alloc_buffers
    return tuple(int(n) for n in [b for b in made if b.name.startswith("pad")][-1].ty.shape)


@pytest.mark.parametrize("name", CASES)
def test_the_block_computes_what_the_unfused_module_does(name: str) -> None:
    graph = built(lambda b: _conv(b, name))
    check_block(graph, "conv", device=LANES)
    stride = CASES[name][2]
    assert _pad(graph, LANES)[-2] == (stride[-1] if isinstance(stride, tuple) else stride)


@pytest.mark.parametrize("name", ["first layer", "no border"])
def test_before_a_pooling(name: str) -> None:
    def make(b: GraphBuilder) -> str:
        return b.op("nn.max_pool2d", _conv(b, name), pool_size=(3, 3), strides=(2, 2))

    check_block(built(make), "convpool", device=LANES)


def test_a_prologue_is_computed_where_the_rows_are_laid_out() -> None:
    def make(b: GraphBuilder) -> str:
        scaled = b.op("multiply", b.input("x", (1, 3, 22, 30)), weights(b, 1, 3, 1, 1))
        y = b.op("nn.conv2d", scaled, weights(b, 16, 3, 5, 5), padding=(2,) * 4, strides=(2, 2))
        return b.op("nn.relu", y)

    check_block(built(make), "conv", device=LANES)


def test_others_are_laid_out_as_they_lie() -> None:
    """Broadcasts come from memory at any distance: only lanes want neighbours."""
    assert _pad(built(lambda b: _conv(b, "first layer")))[-2:] == (27, 36)


def test_few_channels_are_not_worth_it() -> None:
    def make(b: GraphBuilder) -> str:
        w = weights(b, 24, 3, 3, 3)
        return b.op("nn.conv2d", b.input("x", (1, 3, 22, 22)), w, padding=(1,) * 4, strides=(2, 2))

    assert len(_pad(built(make), LANES)) == 4, "rows are cut"


@pytest.mark.parametrize("stride, load", [(2, "ld2"), (3, "ld3"), (4, "ld4")])
def test_rows_are_cut_by_the_loads_that_a64_has_for_it(stride: int, load: str) -> None:
    def make(b: GraphBuilder) -> str:
        w = weights(b, _CHANNELS, 3, 4, 4)
        return b.op("nn.conv2d", b.input("x", (1, 3, 32, 64)), w, strides=(stride, stride))

    text = assembly(built(make))
    assert f"{load}\t" in text
    assert "ld1\t" not in text, "nothing is gathered element by element"


def test_what_one_load_does_not_bring_is_cut_element_by_element() -> None:
    def make(b: GraphBuilder) -> str:
        w = weights(b, _CHANNELS, 3, 6, 6)
        return b.op("nn.conv2d", b.input("x", (1, 3, 36, 60)), w, strides=(5, 5))

    graph = built(make)
    check_block(graph, "conv", device=LANES)
    assert _pad(graph, LANES)[-2] == 5


@pytest.mark.parametrize("name", ["first layer", "no border"])
def test_elements_come_in_vectors(name: str) -> None:
    text = assembly(built(lambda b: _conv(b, name)))
    (tile,) = products(text)
    assert tile.by_lane == tile.multiply_adds and tile.stack == 0
    assert tile.count(r"ld") == tile.count(r"ld(p|r|ur)\tq")
