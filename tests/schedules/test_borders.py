"""Depthwise windows over borders: numbers at odd sizes, and no condition in the inner loop."""

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from tests.helpers import (
    DEVICE,
    NARROW,
    buffers,
    built,
    check_block,
    kept_in_memory,
    lowered,
    run_kernel,
    sblocks,
    scheduled,
    unfused,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.schedules.cpu.borders import GUARD, PEEL, finish
from tvm_dnnfusion.schedules.cpu.registers import sizes

C16 = Layout(1, 16)

# (size, kernel, stride, padding, dilation): borders narrower and wider than a tile, and none.
WINDOWS = {
    "3x3": ((9, 14), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3, stride 2, even": ((10, 56), (3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3, stride 2, after the image": ((9, 29), (3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
    "5x5, one tile": ((7, 7), (5, 5), (1, 1), (2, 2), (1, 1)),
    "5x5, stride 2": ((11, 28), (5, 5), (2, 2), (2, 2), (1, 1)),
    "7x7": ((6, 24), (7, 7), (1, 1), (3, 3), (1, 1)),
    "dilated": ((13, 40), (3, 3), (1, 1), (4, 4), (4, 4)),
    "dilated beyond a tile": ((5, 48), (3, 3), (1, 1), (20, 20), (20, 20)),
    "rows only": ((9, 16), (3, 1), (1, 1), (1, 0), (1, 1)),
    "columns only": ((3, 30), (1, 5), (1, 1), (0, 2), (1, 1)),
    "prime width": ((3, 37), (3, 3), (1, 1), (1, 1), (1, 1)),
    "wider than the image": ((2, 3), (5, 5), (1, 1), (2, 2), (1, 1)),
    "no padding": ((9, 17), (3, 3), (1, 1), (0, 0), (1, 1)),
    "1-D": ((29,), (5,), (1,), (2,), (1,)),
    "3-D": ((4, 5, 14), (3, 3, 3), (1, 2, 1), (1, 1, 1), (1, 1, 1)),
}


def depthwise(name, channels=32, batch=2):
    size, kernel, stride, pad, dilation = WINDOWS[name]
    both = pad if len(pad) == 2 * len(size) else (*pad, *pad)

    def make(b):
        x, w = b.input("x", (batch, channels, *size)), weights(b, channels, 1, *kernel)
        y = b.op(f"nn.conv{len(size)}d", x, w, groups=channels, strides=stride, padding=both,
                 dilation=dilation)  # fmt: skip
        shift = weights(b, 1, channels, *(1,) * len(size), seed=3)
        return b.op("nn.silu", b.op("add", y, shift))

    return built(make)


@pytest.mark.parametrize("name", WINDOWS)
def test_depthwise_reads_its_operand_where_it_lies(name):
    graph = depthwise(name)
    layouts = {"x": C16, graph.outputs[0]: C16}
    func = check_block(graph, "dwconv", layouts)
    assert not any(n.startswith("pad") for n in buffers(func))
    assert kept_in_memory(func) == []


def conditions(func):
    found = []

    def note(call):
        if call.op.same_as(tvm.ir.Op.get("prim.if_then_else")):
            found.append(call)

    tvm_ffi.structural_walk(func.body, [(tvm.ir.Call, note)])
    return found


def lowered_conditions(func):
    """if_then_else that are left once TVM has simplified the loops."""
    names = ("PlanAndUpdateBufferAllocationLocation", "ConvertBlocksToOpaque",
             "CompactBufferAllocation", "LowerOpaqueBlock")  # fmt: skip
    mod = tvm.IRModule({"main": func.with_attr("global_symbol", "main")})
    for name in names:
        mod = getattr(tvm.s_tir.transform, name)()(mod)
    mod = tirx.transform.UnrollLoop()(tirx.transform.FlattenBuffer()(mod))
    return conditions(tirx.transform.StmtSimplify()(mod)["main"])


@pytest.mark.parametrize("name", ["3x3", "3x3, stride 2, even", "5x5, one tile", "7x7", "dilated"])
def test_no_condition_is_left_in_the_inner_loop(name):
    graph = depthwise(name)
    kernel = lowered(graph, {"x": C16, graph.outputs[0]: C16})
    assert conditions(kernel.func)
    assert lowered_conditions(scheduled(kernel)) == []


@pytest.mark.parametrize("device, least", [(DEVICE, 6), (NARROW, 4)])
@pytest.mark.parametrize("width", [7, 14, 17, 19, 37, 38, 46])
def test_widths_without_a_good_divisor_take_long_tiles(width, device, least):
    """Prime widths had tiles of one column, 1.8 times slower."""

    def make(b):
        x = b.input("x", (1, 32, 5, width))
        y = b.op("nn.conv2d", x, weights(b, 32, 1, 3, 3), groups=32, padding=(1, 1, 1, 1))
        return b.op("nn.relu", y)

    graph = built(make)
    layout = Layout(1, device.lanes())
    func = check_block(graph, "dwconv", {"x": layout, graph.outputs[0]: layout}, device)
    assert kept_in_memory(func) == []
    assert lowered_conditions(func) == []
    assert (
        max(n for name, n in sizes(func).items() if "anchor" in name)
        >= least * device.vector_bits // 8
    )


def test_near_miss_a_border_of_many_tiles_keeps_its_conditions():
    graph = depthwise("dilated beyond a tile")
    func = scheduled(lowered(graph, {"x": C16, graph.outputs[0]: C16}))
    assert lowered_conditions(func)


def test_marks_are_gone_and_unmarked_functions_stay_the_same():
    func = scheduled(lowered(depthwise("3x3")))
    marks = []
    tvm_ffi.structural_walk(func.body, [(tirx.For, lambda x: marks.extend(x.annotations))])
    assert not {GUARD, PEEL} & {str(m) for m in marks}
    assert finish(func).same_as(func)


def test_infinity_beside_the_border_does_not_reach_over_it():
    """The rows outside are skipped, not multiplied by zero."""
    graph = depthwise("3x3", channels=16, batch=1)
    x = np.ones((1, 16, 9, 14), np.float32)
    x[:, :, 0] = np.inf
    kernel = lowered(graph, {"x": C16, graph.outputs[0]: C16})

    (found,) = run_kernel(scheduled(kernel), kernel, graph, {"x": x}, {"x": C16})
    (wanted,) = unfused(graph, {"x": x})
    # the window of the third row does not reach the first; SiLU of -inf is -0 here, NaN in TVM
    assert np.isfinite(found[:, :, 2:]).all() and np.isfinite(wanted[:, :, 2:]).all()
    assert not (np.isnan(found) & ~np.isnan(wanted)).any()
    assert not np.isfinite(wanted[:, :, :2]).all()


ROWS = {
    "first layer": ((12, 60), 7, 3),
    "width of no whole vectors": ((9, 33), 3, 1),
    "short rows": ((6, 7), 3, 1),
    "a border wider than a vector": ((5, 40), 3, (1, 19)),
}
"""Image, taps, border."""


@pytest.mark.parametrize("device", [DEVICE, NARROW])
@pytest.mark.parametrize("name", ROWS)
def test_rows_are_laid_out_with_their_border_in_vectors(name, device):
    """Columns that are surely inside have no condition but their row's."""
    size, taps, border = ROWS[name]
    pads = (border, border) if isinstance(border, int) else border

    def make(b):
        w = weights(b, 16, 3, taps, taps)
        return b.op("nn.conv2d", b.input("x", (2, 3, *size)), w, padding=(*pads, *pads))

    func = check_block(built(make), "conv", device=device)
    laid_out = [b for b in sblocks(func) if b.name_hint == "pad0"]
    assert len(laid_out) >= 2, "vectors at the ends by themselves"
    columns = [b.iter_vars[-1] for b in laid_out]
    assert all(int(c.dom.extent) % 4 == 0 for c in columns)


def test_rows_without_a_border_are_not_laid_out():
    def make(b):
        w = weights(b, 16, 3, 3, 3)
        return b.op("nn.conv2d", b.input("x", (1, 3, 12, 34)), w)

    assert not [b for b in sblocks(scheduled(lowered(built(make)))) if b.name_hint == "pad0"]


def test_blocks_of_channels_are_laid_out_in_whole_vectors():
    """Their border is none of a vector's."""

    def make(b):
        w = weights(b, 32, 32, 3, 3)
        return b.op("nn.conv2d", b.input("x", (1, 32, 9, 9)), w, padding=(1, 1, 1, 1))

    func = check_block(built(make), "conv", {"x": C16})
    assert [b.name_hint for b in sblocks(func)].count("pad0") == 1
