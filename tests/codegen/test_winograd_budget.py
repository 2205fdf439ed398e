"""The budget of Winograd's weights: it holds, it takes the cheapest steps, and it says so."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from math import inf

import pytest

import tvm_dnnfusion
from tests.helpers import DEVICE as WIDE
from tests.helpers import built, weights
from tvm_dnnfusion.codegen.conv_shape import shape_of
from tvm_dnnfusion.codegen.lower import lower
from tvm_dnnfusion.codegen.winograd_budget import allowed
from tvm_dnnfusion.codegen.winograd_choice import best, choose, direct_cycles
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.to_relax import stand_alone
from tvm_dnnfusion.passes.dnnfusion import DNNFusionPass
from tvm_dnnfusion.planners import plan

# A device whose kernels never transform weights themselves: all that is saved comes from smaller m.
DEVICE = registry.get("cortex-a76")
ATTRS = {"padding": (1,) * 4, "strides": (1, 1), "dilation": (1, 1), "groups": 1}


@cache
def fastest_way(sizes, limit):
    return best(sizes, DEVICE, limit)


def conv(b, x, w):
    return b.op("nn.conv2d", x, w, **ATTRS)


def chain(*channels, size=112):
    """3x3 convolutions one after the other."""

    def make(b):
        x = b.input("x", (1, channels[0], size, size))
        for before, after in pairwise(channels):
            x = conv(b, x, weights(b, after, before, 3, 3))
        return x

    return built(make)


def shared_weights(b):
    """One weight over images of three sizes, as the heads of detectors have it."""
    w = weights(b, 64, 64, 3, 3)
    return [conv(b, b.input(f"x{n}", (1, 64, n, n)), w) for n in (7, 28, 96)]


def time_and_size(graph, limits):
    """Cycles and bytes of the convolutions of a graph without other weights, counted anew."""
    cycles, forms = 0.0, {}
    for op in graph.ops:
        sizes, m = shape_of(op, graph), limits[op.name]
        found = fastest_way(sizes, m)
        assert (found.tiling.m if found else 0) == m
        cycles += found.cycles if found else direct_cycles(sizes, DEVICE)
        grown = (m + 2) ** 2 / 9 if m else 1
        forms[op.inputs[1], m] = grown * graph.constants[op.inputs[1]].nbytes
    return cycles, sum(forms.values())


MIXED = (16, 64, 128, 128, 32)


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("make", [lambda: chain(*MIXED), lambda: built(shared_weights)])
def test_the_sum_fits_and_is_what_is_said(make, growth):
    graph = make()
    found = allowed(graph, DEVICE, 6, growth)
    size = time_and_size(graph, found.limits)[1]
    assert found.weights == pytest.approx(size)
    assert found.original == sum(data.nbytes for data in graph.constants.values())
    assert size <= growth * found.original
    assert found == allowed(make(), DEVICE, 6, growth)


def test_without_a_limit_the_fastest_is_taken():
    graph = chain(*MIXED)
    found = allowed(graph, DEVICE, 6, inf)
    assert found.reasons == {}
    for op in graph.ops:
        tiling = choose(shape_of(op, graph), DEVICE)
        assert found.limits[op.name] == (tiling.m if tiling else 0)
    assert set(found.limits.values()) == {4}
    assert set(allowed(graph, DEVICE, 2, inf).limits.values()) == {2}


def test_a_budget_that_none_fits_leaves_all_direct():
    found = allowed(chain(*MIXED), DEVICE, 6, 1.0)
    assert set(found.limits.values()) == {0}
    assert found.weights == found.original
    assert set(found.reasons.values()) <= {f"direct instead of F({m}, 3): weights" for m in (4, 6)}


@pytest.mark.parametrize("growth", [1.5, 2.0, 3.0])
def test_the_choices_are_close_to_the_best_of_all(growth):
    """Against every combination: no more than a tenth slower than the fastest that fits."""
    graph = chain(*MIXED)
    names, budget = (
        [op.name for op in graph.ops],
        growth * sum(data.nbytes for data in graph.constants.values()),
    )
    ways = [
        {c.tiling.m if (c := fastest_way(shape_of(op, graph), m)) else 0 for m in (0, 2, 4, 6)}
        for op in graph.ops
    ]
    times = [time_and_size(graph, dict(zip(names, ms))) for ms in product(*ways)]
    fastest = min(cycles for cycles, size in times if size <= budget)
    found = time_and_size(graph, allowed(graph, DEVICE, 6, growth).limits)[0]
    assert fastest <= found <= 1.1 * fastest


def test_fresh_weights_take_no_more_than_the_originals():
    """Where kernels transform the weights themselves, large tiles fit into any budget."""
    graph = chain(256, 512, 512, size=28)
    found = allowed(graph, WIDE, 6, 1.0)
    assert found.weights == found.original and found.reasons == {}
    assert set(found.limits.values()) == {4}


def test_direct_weights_count_as_they_are_packed():
    """Output channels in whole vectors: 33 take the room of 36, or of 48."""
    graph = chain(33, 33)
    for device, packed in ((DEVICE, 36), (WIDE, 48)):
        found = allowed(graph, device, 0, 1.0)
        assert found.weights == 4 * 9 * 33 * packed > found.original


def test_other_weights_leave_room():
    """The budget is that of all weights: a large matrix beside a convolution pays for it."""

    def make(b):
        y = conv(b, b.input("x", (1, 32, 40, 40)), weights(b, 32, 32, 3, 3))
        return y, b.op("matmul", b.input("v", (1, 512)), weights(b, 512, 512))

    graph = built(make)
    tight = allowed(chain(32, 32), DEVICE, 6)
    found = allowed(graph, DEVICE, 6)
    assert max(tight.limits.values()) == 2 and found.reasons == {}
    assert max(found.limits.values()) > 2


def test_kernels_follow_and_the_reasons_name_their_blocks():
    graph = chain(32, 32)
    made = plan(extend(graph), device=DEVICE)
    few = lower(stand_alone(graph), graph, made, DEVICE)
    many = lower(stand_alone(graph), graph, made, DEVICE, winograd_memory=inf)
    tiles = [
        int(f.attrs["dnnfusion.winograd"][0])
        for result in (few, many)
        for f in result.module.functions.values()
        if "dnnfusion.winograd" in (f.attrs or {})
    ]
    assert tiles[0] == 2 < tiles[1]
    assert few.reasons == {made.blocks[0].name: f"F(2, 3) instead of F({tiles[1]}, 3): weights"}
    assert many.reasons == {}


@pytest.mark.parametrize(
    ("value", "error"),
    [(0.5, ValueError), (float("nan"), ValueError), ("2", TypeError), (True, TypeError)],
)
def test_values_that_mean_nothing_are_refused(value, error):
    for use in (DNNFusionPass, lambda **k: tvm_dnnfusion.compile("no such model", **k)):
        with pytest.raises(error, match="winograd_memory is"):
            use(winograd_memory=value)
