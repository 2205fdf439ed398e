"""Convolutions on GPUs: the form of their OpenCL C, and their numbers where a device is at hand."""

from __future__ import annotations

import re

import pytest

from tests.codegen.test_block_conv import CASES, conv, image
from tests.helpers import built, weights
from tests.schedules.gpu.kernels import DEVICES, check, device, kernel_of
from tvm_dnnfusion.codegen.layout import Layout

FORMS = {
    "3x3": {"size": (28, 28), "channels": 64, "out": 64, "kernel": (3, 3), "padding": 1},
    "1x1": {"size": (28, 28), "channels": 64, "out": 128, "kernel": (1, 1)},
}


def block(case, blocked=True):
    """A convolution with bias and ReLU, and its layouts: channels in blocks of four."""

    def make(b):
        y = conv(b, image(b, case), **case)
        ones = (1,) * len(case["size"])
        return b.op("nn.relu", b.op("add", y, weights(b, 1, case["out"], *ones)))

    graph = built(make)
    ends = (("x", case["channels"]), (graph.outputs[0], case["out"]))
    return graph, {t: Layout(1, 4) for t, n in ends if blocked and n % 4 == 0}


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("form", FORMS)
def test_tiles_are_vectors_in_registers(name, form):
    graph, layouts = block(FORMS[form])
    _, made = kernel_of(graph, name, layouts)
    lines = made.source.splitlines()
    assert any(re.search(r"= vload4\(0, p0_ptr", x) or "vload4(0, p0_ptr" in x for x in lines)
    assert any("vstore4(" in x and "out0_ptr" in x for x in lines)
    scalar = [x for x in lines if re.search(r"p[01]_ptr\[", x)]
    assert scalar == [], "an operand is read element by element"
    indexed = [x for x in lines if re.search(r"_local_ptr\[[^\]]*[a-z]", x)]
    assert indexed == [], "an array that a variable indexes is no register"
    spec = device(name).gpu
    assert sum(made.private()) <= 2 * 4 * spec.registers * 2
    assert "barrier(" not in made.source
    assert "__local" not in made.source


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("form", FORMS)
def test_groups_fill_waves_within_the_limit(name, form):
    _, made = kernel_of(*_first(FORMS[form], name))
    spec = device(name).gpu
    assert 32 <= made.group <= spec.work_group


def _first(case, name):
    graph, layouts = block(case)
    return graph, name, layouts


@pytest.mark.parametrize("name", CASES)
def test_numbers(name):
    """On both families by turns, with and without channels in blocks of four."""
    case, turn = CASES[name], list(CASES).index(name)
    graph, layouts = block(case, blocked=turn % 4 < 2)
    check(graph, DEVICES[turn % 2], layouts)


def test_a_place_that_many_channels_meet_in_splits_the_fold():
    case = {"size": (1, 1), "channels": 512, "out": 64, "kernel": (1, 1)}
    graph, layouts = block(case)
    _, mali = kernel_of(graph, "mali-g76", layouts)
    assert mali.kernels == 2, "the parts meet in global memory, in a second kernel"
    _, adreno = kernel_of(graph, "adreno-650", layouts)
    assert adreno.kernels == 1
    assert adreno.source.count("barrier(CLK_LOCAL_MEM_FENCE)") == 1
    assert "barrier(" not in mali.source


@pytest.mark.parametrize("name", DEVICES)
def test_numbers_of_a_split_fold(name):
    case = {"size": (1, 1), "channels": 512, "out": 64, "kernel": (1, 1)}
    graph, layouts = block(case)
    check(graph, name, layouts)


DEPTHWISE = {
    "size": (28, 28), "channels": 64, "out": 64, "kernel": (3, 3), "padding": 1, "groups": 64,
}  # fmt: skip


@pytest.mark.parametrize("name", DEVICES)
def test_a_depthwise_work_item_loads_each_input_of_a_row_once(name):
    graph, layouts = block(DEPTHWISE)
    kernel, made = kernel_of(graph, name, layouts)
    assert kernel.kind == "dwconv"
    loads = re.findall(r"vload4\(0, p0_ptr", made.source)
    stores = re.findall(r"vstore4\(.*out0_ptr", made.source)
    assert len(stores) == 7  # columns of a tile
    assert len(loads) == 3 * (7 + 2)  # three rows under the window, of nine columns
    assert "barrier(" not in made.source


@pytest.mark.parametrize("size, kernel, stride", [
    ((13,), (2,), (3,)), ((13,), (5,), (3,)), ((13,), (10,), (5,)),
    ((1, 13), (1, 4), (1, 3)), ((6, 6), (7, 7), (3, 3)),
])  # fmt: skip
def test_phases_of_a_transposed_convolution_with_fewer_taps(size, kernel, stride):
    """Channels that are no whole vectors: TVM could not bound where phases are read from."""
    rank = len(size)

    def make(b):
        w = weights(b, 4, 6, *kernel)
        return b.op(f"nn.conv{rank}d_transpose", b.input("x", (1, 4, *size)), w, strides=stride,
                    padding=(0,) * 2 * rank, data_layout="NC" + "DHW"[3 - rank:],
                    kernel_layout="IO" + "DHW"[3 - rank:])  # fmt: skip

    graph = built(make)
    for name in DEVICES:
        _, made = kernel_of(graph, name)
        assert made.kernels > 1
        check(graph, name)
