"""Convolutions on GPUs: the form of their OpenCL C, and their numbers where a device is at hand."""

from __future__ import annotations

import re

import pytest

from tests.codegen.test_block_conv import CASES, conv, image, is_depthwise
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


@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_numbers(name, blocked):
    if is_depthwise(CASES[name]):
        pytest.skip("of test_depthwise")
    graph, layouts = block(CASES[name], blocked)
    check(graph, DEVICES[blocked], layouts)
