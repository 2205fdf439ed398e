"""What a compiled function holds: the numbers are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tvm_dnnfusion
from tests.helpers import built, weights
from tvm_dnnfusion.api import Compiled
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.frontend.to_relax import graph_to_relax


def compiled(make) -> Compiled:
    return tvm_dnnfusion.compile(graph_to_relax(built(make)), rewrite=False)


def layers(b: GraphBuilder, shared: bool) -> str:
    """Four 64 x 64 products; each but the last leaves 16 x 64 float32 for the next."""
    x = b.input("x", (16, 64))
    for i in range(4):
        x = b.op("nn.relu", b.op("matmul", x, weights(b, 64, 64, seed=0 if shared else i)))
    return x


@pytest.mark.parametrize(("shared", "count"), [(False, 4), (True, 1)])
def test_weights_are_held_once_and_activations_take_turns(shared: bool, count: int):
    found = compiled(lambda b: layers(b, shared)).memory
    assert found.weights == count * 64 * 64 * 4
    assert found.activations == 2 * 16 * 64 * 4  # three results, never more than two alive
    assert found.results == 16 * 64 * 4
    assert found.total == sum(
        (found.weights, found.activations, found.results, found.workspace)
    )  # fmt: skip


def test_equal_constants_are_one_object_in_the_module():
    made = compiled(lambda b: layers(b, True))
    calls = [b.value.args[1].fields for b in made.module["main"].body.blocks[0].bindings
             if hasattr(b.value, "args") and len(b.value.args) > 1]  # fmt: skip
    constants = [a for fields in calls for a in fields if hasattr(a, "value")]
    assert len(constants) == 4
    assert all(a.value.same_as(constants[0].value) for a in constants)


def test_a_border_is_workspace():
    """An 8 x 8 image with a border of one is copied to 10 x 10, 16 channels of float32."""

    def make(b: GraphBuilder) -> str:
        return b.op("nn.conv2d", b.input("x", (1, 16, 8, 8)), weights(b, 16, 16, 3, 3),
                    padding=(1, 1, 1, 1))  # fmt: skip

    found = compiled(make).memory
    assert found.workspace >= 16 * 10 * 10 * 4
    assert found.workspace < 2 * 16 * 10 * 10 * 4
    assert found.activations == 0
    assert set(found.to_dict()) == {"weights", "activations", "results", "workspace", "total"}


def test_a_joined_tensor_counts_once():
    def make(b: GraphBuilder) -> str:
        x = b.input("x", (1, 16, 8, 8))
        parts = tuple(b.op("nn.conv2d", x, weights(b, 16, 16, 1, 1, seed=i)) for i in range(2))
        return b.op("nn.conv2d", b.op("concat", parts, axis=1), weights(b, 16, 32, 1, 1))

    found = compiled(make).memory
    assert found.activations == 32 * 64 * 4
    assert found.weights == (16 * 16 * 2 + 32 * 16) * np.dtype("float32").itemsize
