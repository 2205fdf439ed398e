"""The code of register tiles for A64: no spills, lanes as factors, few instructions besides.

LLVM's assembly is read, so no ARM device is needed.
"""

from __future__ import annotations

import re

import pytest

from tests.arm import BLOCKED, CORE, assembly, innermost, products
from tests.helpers import DEVICE, NARROW, built, weights
from tvm_dnnfusion.codegen.product_tiles import product_tile
from tvm_dnnfusion.codegen.tiles import MAX_VECTORS, Tile, by_lane
from tvm_dnnfusion.ecg.builder import GraphBuilder


def _conv(b: GraphBuilder, kernel: int = 1, size: int = 28, **attrs: object) -> str:
    x = b.input("x", (1, 64, size, size))
    w = weights(b, 64, 64 // int(str(attrs.get("groups", 1))), kernel, kernel)
    return b.op("nn.relu", b.op("nn.conv2d", x, w, **attrs))


def _first(b: GraphBuilder) -> str:
    """Three channels in rows: a vector holds four places of one of them."""
    x = b.input("x", (1, 3, 64, 64))
    return b.op("nn.relu", b.op("nn.conv2d", x, weights(b, 16, 3, 3, 3), padding=1))


def _stem(b: GraphBuilder) -> str:
    """Every second place, in rows of phases."""
    x = b.input("x", (1, 3, 224, 224))
    return b.op("nn.relu", b.op("nn.conv2d", x, weights(b, 64, 3, 7, 7), padding=3, strides=2))


def _grouped(b: GraphBuilder) -> str:
    """Groups of 34 channels cut through blocks of four: they are laid out in rows first."""
    x = b.input("x", (1, 136, 28, 28))
    return b.op("nn.conv2d", x, weights(b, 136, 34, 1, 1), groups=4)


def _matmul(b: GraphBuilder) -> str:
    return b.op("matmul", b.input("x", (64, 128)), weights(b, 128, 96))


def _attention(b: GraphBuilder) -> str:
    shape = (1, 64, 4, 32)
    return b.op("nn.attention", b.input("q", shape), b.input("k", shape), b.input("v", shape))


KERNELS = {
    "1x1": (_conv, {"x": BLOCKED}, 0, 1.30),
    "1x1 on 7x7": (lambda b: _conv(b, size=7), {"x": BLOCKED}, 0, 1.30),
    "3x3": (lambda b: _conv(b, 3, padding=1), {"x": BLOCKED}, 0, 1.30),
    "3x3, stride 2": (lambda b: _conv(b, 3, padding=1, strides=2), {"x": BLOCKED}, 0, 1.30),
    "3x3 in rows": (_first, {}, 0, 1.30),
    "7x7 in rows, stride 2": (_stem, {}, 0, 1.26),
    "1x1 in groups": (_grouped, {"x": BLOCKED}, 0, 1.35),
    "Winograd": (lambda b: _conv(b, 3, padding=1), {"x": BLOCKED}, 2, 1.30),
    "product": (_matmul, {}, 0, 1.27),
    "attention": (_attention, {}, 0, 1.30),
}
"""Graph, layouts, largest m of Winograd's F(m, 3), most instructions per multiply-add."""


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> tuple[str, str, float]:
    make, layouts, winograd, most = KERNELS[request.param]
    return request.param, assembly(built(make), layouts, winograd), most


def test_tiles_stay_in_registers_and_multiply_by_lanes(kernel: tuple[str, str, float]) -> None:
    name, text, most = kernel
    found = products(text)
    assert found, f"{name}: no loop of a register tile"
    tiles = [x for x in found if x.by_lane]
    assert tiles
    for loop in tiles:
        assert loop.stack == 0, loop.code
        assert loop.by_lane == loop.multiply_adds, loop.code
        assert len(loop.code) <= most * loop.multiply_adds, loop.code


def test_operands_are_loaded_in_vectors(kernel: tuple[str, str, float]) -> None:
    for loop in (x for x in products(kernel[1]) if x.by_lane):
        loads = [x for x in loop.code if re.match(r"ld", x)]
        assert loads and all(re.match(r"ld(p|r|ur)\tq", x) for x in loads), loads


def test_a_depthwise_convolution_computes_in_registers() -> None:
    graph = built(lambda b: _conv(b, 3, groups=64, padding=1))
    loops = products(assembly(graph, {"x": BLOCKED, graph.outputs[0]: BLOCKED}))
    assert loops and all(x.stack == 0 for x in loops)
    # per nine multiply-adds four loads, a zero, the maximum, the store, and addresses
    assert min(len(x.code) / x.multiply_adds for x in loops) < 2.1


@pytest.mark.parametrize("name, most", [("exp", 32), ("tanh", 36), ("sigmoid", 36), ("gelu", 36)])
def test_functions_make_no_constants_in_their_loops(name: str, most: int) -> None:
    def make(b: GraphBuilder) -> str:
        return b.op({"gelu": "nn.gelu"}.get(name, name), b.input("x", (64, 64)))

    (loop,) = (x for x in innermost(assembly(built(make))) if x.count(r"fml|fmul") >= 4)
    assert loop.count(r"mov[kz]?\tw|movi|dup") == 0, loop.code
    assert loop.stack == 0 and len(loop.code) <= most * loop.count(r"st[rp]\tq"), loop.code


def test_only_a64_multiplies_by_lanes() -> None:
    assert by_lane(CORE) and not by_lane(DEVICE) and not by_lane(NARROW)


@pytest.mark.parametrize("rows", [1, 7, 8, 12, 49, 64, 128])
@pytest.mark.parametrize("blocks", [1, 3, 16, 24])
def test_tiles_of_products_leave_registers_for_both_operands(rows: int, blocks: int) -> None:
    height, vectors, wide = product_tile(CORE, rows, blocks)
    assert height <= rows and wide % vectors == 0 and vectors <= MAX_VECTORS
    assert Tile(1, height, vectors).fits(CORE)
    assert height * vectors + height + vectors <= CORE.vector_registers
