"""Products whose rows no tile divides: the last tile is shorter, whatever follows the product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

from tests.arm import assembly, products
from tests.helpers import (
    DEVICE,
    NARROW,
    block_names,
    built,
    check_block,
    feed_of,
    kept_in_memory,
    lowered,
    scheduled,
    weights,
)
from tvm_dnnfusion.codegen.block import lower_block
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.params import Choices, TemplateParams
from tvm_dnnfusion.codegen.product_tiles import product_tile
from tvm_dnnfusion.codegen.stages import Packed
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.schedules.cpu.ragged import RAGGED, parted

LANES = replace(DEVICE, name="test-a64", vector_bits=128, vector_registers=32)
"""Schedules as for A64, run by this machine."""

DEVICES = (DEVICE, NARROW, LANES)
ROWS = (*range(1, 41), 97, 197, 211)
SOME = (1, 2, 5, 9, 11, 13, 16, 17, 19, 22, 23, 29, 31, 37, 197)
DEPTH, COLUMNS = 12, 48

After = Callable[[GraphBuilder, str, int], Any]


def _gelu(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("nn.gelu", b.op("add", y, weights(b, COLUMNS)))


def _relu(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("nn.relu", y)


def _residual(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("add", b.op("add", y, weights(b, COLUMNS)), b.input("r", (rows, COLUMNS)))


def _heads(b: GraphBuilder, y: str, rows: int) -> str:
    cut = b.op("reshape", b.op("add", y, weights(b, COLUMNS)), (rows, 3, 16))
    return b.op("permute_dims", cut, axes=(1, 0, 2))


def _two(b: GraphBuilder, y: str, rows: int) -> Any:
    return y, b.op("nn.silu", y)


def _split(b: GraphBuilder, y: str, rows: int) -> Any:
    low, high = b.op("split", y, indices_or_sections=2, axis=1)
    return b.op("multiply", low, b.op("sigmoid", high)), high


def _padded(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("nn.pad", y, pad_width=(1, 2, 0, 3), pad_value=0.5)


def _class_token(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("concat", (weights(b, 1, COLUMNS, seed=3), y), axis=0)


def _flipped(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("flip", b.op("nn.relu", y), axis=0)


def _transposed(b: GraphBuilder, y: str, rows: int) -> str:
    return b.op("add", b.op("permute_dims", y, axes=(1, 0)), b.input("r", (COLUMNS, rows)))


AFTER: dict[str, After] = {
    "bias and GELU": _gelu,
    "residual": _residual,
    "heads": _heads,
    "two outputs": _two,
    "split": _split,
    "padded": _padded,
    "joined to a class token": _class_token,
    "flipped": _flipped,
    "transposed": _transposed,
}
"""What the last rows have to get through."""


def _product(rows: int, after: After, columns: int = COLUMNS) -> Graph:
    def make(b: GraphBuilder) -> Any:
        y = b.op("matmul", b.input("a", (rows, DEPTH)), weights(b, DEPTH, columns))
        return after(b, y, rows)

    return built(make)


def _check(graphs: Sequence[Graph], devices: Sequence[Any]) -> None:
    """All graphs as kernels of one module, against the interpreter in float64."""
    kernels = [lowered(g, device=d) for g, d in zip(graphs, devices, strict=True)]
    functions = {
        f"k{i}": scheduled(k, d).with_attr("global_symbol", f"k{i}")
        for i, (k, d) in enumerate(zip(kernels, devices, strict=True))
    }
    module = tvm.compile(tvm.IRModule(functions), tvm.target.Target(target_dict(host())))
    for i, (graph, kernel) in enumerate(zip(graphs, kernels, strict=True)):
        feed = feed_of(graph)
        known, wanted = {**graph.constants, **feed}, evaluate(graph, feed, "float64")
        args = [s.data if isinstance(s, Packed) else known[s] for s in kernel.inputs]
        outs = [np.full(graph.tensors[n].dims, np.nan, "float32") for n in kernel.outputs]
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (*args, *outs)]
        module[f"k{i}"](*tensors)
        for name, found in zip(kernel.outputs, tensors[len(args) :], strict=True):
            note = f"{name}, {graph.tensors[graph.inputs[0]].dims[0]} rows"
            np.testing.assert_allclose(found.numpy(), wanted[name], 1e-5, 1e-5, err_msg=note)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_every_number_of_rows(device: Any) -> None:
    _check([_product(rows, _relu) for rows in ROWS], [device] * len(ROWS))


@pytest.mark.parametrize("after", AFTER)
def test_every_epilogue(after: str) -> None:
    """The devices take turns."""
    turn = list(AFTER).index(after)
    devices = [DEVICES[(i + turn) % 3] for i, _ in enumerate(SOME)]
    _check([_product(rows, AFTER[after]) for rows in SOME], devices)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_columns_that_fill_no_vectors_end_with_rows_that_fill_no_tile(device: Any) -> None:
    """Both ends are conditions: neither is taken for the other."""
    sizes = [(5, 7), (13, 13), (19, 37), (37, 37), (197, 50)]
    _check([_product(r, _relu, n) for r, n in sizes], [device] * len(sizes))


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_batches_and_operands_that_are_no_constants(device: Any) -> None:
    def make(b: GraphBuilder) -> Any:
        a, w = b.input("a", (3, 19, 24)), b.input("b", (3, 24, 40))
        return b.op("nn.relu", b.op("matmul", b.op("tanh", a), w))

    check_block(built(make), "matmul", device=device)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_an_output_in_blocks(device: Any) -> None:
    def make(b: GraphBuilder) -> Any:
        y = b.op("matmul", b.input("a", (2, 44, 24)), weights(b, 24, 32))
        return b.op("nn.relu", y)

    graph = built(make)
    check_block(graph, "matmul", {graph.outputs[0]: Layout(1, 4)}, device)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
@pytest.mark.parametrize("rows", [19, 97, 197, 211])
def test_tiles_are_as_good_as_where_they_divide(device: Any, rows: int) -> None:
    """Prime rows had tiles of one row: half the multiply-adds in the same time."""
    graph = _product(rows, _gelu)
    height, vectors, _ = product_tile(device, rows, COLUMNS // device.lanes())
    assert height * vectors >= 8 and rows % height
    func = scheduled(lowered(graph, device=device), device)
    assert kept_in_memory(func) == []
    names = block_names(func)
    assert names.count("out0") == 2, "whole tiles and the last one"


def _conditions(func: Any) -> list[Any]:
    """Conditions on blocks that are left, on more than what is written out."""
    unrolled: list[Any] = []
    found: list[Any] = []

    def loop(node: Any) -> None:
        if int(node.kind) == int(tirx.ForKind.UNROLLED):
            unrolled.append(node.loop_var)

    def realize(node: Any) -> None:
        used: list[Any] = []
        tvm_ffi.structural_walk(node.predicate, [(tvm.ir.Var, used.append)])
        if any(not any(v.same_as(u) for u in unrolled) for v in used):
            found.append(node.predicate)

    tvm_ffi.structural_walk(func.body, [(tirx.For, loop)])
    tvm_ffi.structural_walk(func.body, [(SBlockRealize, realize)])
    return found


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
@pytest.mark.parametrize("after", ["bias and GELU", "heads", "two outputs"])
def test_a_tile_asks_once_whether_it_is_the_last(device: Any, after: str) -> None:
    func = scheduled(lowered(_product(197, AFTER[after]), device=device), device)
    assert _conditions(func) == []
    cases: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(tirx.IfThenElse, cases.append)])
    assert len(cases) == 1


def test_marks_are_gone_and_unmarked_functions_stay_the_same() -> None:
    func = scheduled(lowered(_product(197, _gelu)))
    marks: list[str] = []
    tvm_ffi.structural_walk(func.body, [(tirx.For, lambda x: marks.extend(x.annotations))])
    assert RAGGED not in {str(m) for m in marks}
    assert parted(func).same_as(func)


def test_near_miss_rows_that_tiles_divide_have_one_form() -> None:
    func = scheduled(lowered(_product(28, _gelu)))
    assert block_names(func).count("out0") == 1


def test_a_search_may_choose_any_height() -> None:
    graph = _product(28, _gelu)
    choices = Choices(TemplateParams(tile=(5, 3)))
    kernel = lower_block("b000_test", graph.ops, graph, {}, DEVICE, choices=choices)
    assert block_names(scheduled(kernel)).count("out0") == 2


def test_the_code_of_a_core_holds_both_tiles_in_registers() -> None:
    def make(b: GraphBuilder) -> Any:
        y = b.op("matmul", b.input("a", (197, 64)), weights(b, 64, 96))
        return b.op("add", y, weights(b, 96))

    tiles = products(assembly(built(make)))
    assert len(tiles) == 2
    for tile in tiles:
        assert tile.by_lane == tile.multiply_adds and tile.stack == 0
