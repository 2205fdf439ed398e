"""The form that each schedule gives: tiles in registers, parallel and vector loops."""

import numpy as np
import pytest

from tests.helpers import (
    DEVICE,
    NARROW,
    buffers,
    built,
    feed_of,
    kept_in_memory,
    loops,
    lowered,
    run_kernel,
    scheduled,
    unfused,
    weights,
)
from tvm_dnnfusion.codegen.layout import Layout
from tvm_dnnfusion.codegen.plain import lower_plain
from tvm_dnnfusion.codegen.tiles import STACK_BYTES
from tvm_dnnfusion.schedules.cpu.registers import sizes
from tvm_dnnfusion.schedules.dispatch import OPAQUE, SCHEDULES

C16 = Layout(1, 16)


def conv(b, x, out, kernel=3, **attrs):
    channels, p = b.tensors[x].dims[1] // attrs.get("groups", 1), kernel // 2
    w = weights(b, out, channels, kernel, kernel)
    return b.op("nn.conv2d", x, w, padding=(p, p, p, p), **attrs)


def image(b, channels=16):
    return b.input("x", (1, channels, 28, 28))


def conv_relu(b, out=32, **attrs):
    return b.op("nn.relu", conv(b, image(b), out, **attrs))


HEAVY = {
    "conv": lambda b: conv_relu(b),
    "dwconv": lambda b: conv_relu(b, 16, groups=16),
    "convpool": lambda b: b.op("nn.max_pool2d", conv_relu(b), pool_size=(2, 2), strides=(2, 2)),
    "pool": lambda b: b.op("nn.relu", b.op("nn.max_pool2d", image(b), pool_size=(3, 3),
                                           padding=(1, 1, 1, 1))),
    "planes": lambda b: b.op("nn.relu", b.op("nn.conv2d", b.input("x", (1, 24, 32, 32)),
                                             weights(b, 24, 6, 1, 1), groups=4)),
    "matmul": lambda b: b.op("nn.relu", b.op("matmul", b.input("x", (64, 64)),
                                             weights(b, 64, 64))),
    "attention": lambda b: b.op("nn.attention", *(b.input(n, (1, 64, 2, 32)) for n in "qkv")),
    "rows": lambda b: b.op("nn.softmax", b.input("x", (96, 256))),
    "map": lambda b: b.op("nn.gelu", b.input("x", (96, 256))),
}  # fmt: skip
BLOCKED = {"conv": ("x", "relu"), "dwconv": ("x", "relu"), "pool": ("x", "relu"),
           "convpool": ("x", "max_pool2d")}  # fmt: skip
ACCUMULATING = ("conv", "dwconv", "convpool", "pool", "matmul", "planes")


def kernel_of(kind, device=DEVICE):
    graph = built(HEAVY[kind])
    return graph, lowered(graph, dict.fromkeys(BLOCKED.get(kind, ()), C16), device)


@pytest.fixture(scope="module", params=HEAVY)
def made(request):
    """(kind, graph, kernel, scheduled function) of each kind, large enough to run in parallel."""
    graph, kernel = kernel_of(request.param)
    return request.param, graph, kernel, scheduled(kernel)


def test_kernels_are_not_fused_again_by_the_build(made):
    assert int(made[3].attrs["op_pattern"]) == OPAQUE


def test_each_kind_has_its_own_schedule_and_it_applies(made):
    kind, _, kernel, func = made
    assert kernel.kind == kind
    assert str(func.attrs["dnnfusion.schedule"]) == kind  # no fallback
    assert bool(func.attrs["tirx.is_scheduled"])
    assert str(func.attrs["global_symbol"]) == kernel.name
    assert str(func.attrs["dnnfusion.kind"]) == kind


def test_it_runs_in_parallel_and_in_vectors(made):
    kind, _, _, func = made
    assert loops(func, "parallel"), f"{kind} has no parallel loop"
    assert all(n > 1 for n in loops(func, "parallel"))
    assert 16 in loops(func, "vectorized"), f"{kind} has no loop of whole vectors"


def test_numbers(made):
    kind, graph, kernel, func = made
    feed, layouts = feed_of(graph), dict.fromkeys(BLOCKED.get(kind, ()), C16)
    (found,), (wanted,) = run_kernel(func, kernel, graph, feed, layouts), unfused(graph, feed)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("kind", ACCUMULATING)
def test_accumulators_stay_in_registers(kind):
    """On the stack, of a scope that TVM leaves there, and no more than the registers hold."""
    _, kernel = kernel_of(kind)
    func = scheduled(kernel)
    scopes = {n: scope for n, (_, scope) in buffers(func).items() if n.startswith("anchor")}
    assert scopes and set(scopes.values()) == {"global"}
    assert kept_in_memory(func, "anchor") == []


@pytest.mark.parametrize("kind", ["conv", "matmul"])
def test_tiles_follow_the_vector_registers(kind):
    """Half as many registers, and a quarter of the lanes: smaller tiles."""
    graph = built(HEAVY[kind])
    for device in (DEVICE, NARROW):
        found = sizes(scheduled(lowered(graph, {}, device), device))
        tiles = [s for n, s in found.items() if n.startswith("anchor") and s < STACK_BYTES]
        assert tiles and max(tiles) <= device.vector_registers * device.vector_bits // 8


def test_the_pooling_after_a_convolution_holds_a_strip_not_the_image():
    _, kernel = kernel_of("convpool")
    assert sizes(scheduled(kernel))["mid0"] < 4 * 32 * 28 * 28 / 2


def test_rows_hold_a_row_not_the_matrix():
    _, kernel = kernel_of("rows")
    assert all(size <= 4 * 256 for size in sizes(scheduled(kernel)).values())


def test_small_work_is_not_worth_waking_threads():
    graph = built(lambda b: b.op("nn.gelu", b.input("x", (4, 64))))
    assert loops(scheduled(lowered(graph)), "parallel") == []


def test_the_plain_schedule_inlines_runs_in_parallel_and_in_vectors():
    def make(b):
        x = b.op("nn.relu", b.op("exp", b.input("x", (128, 256))))
        return b.op("negative", x)

    graph = built(make)
    func = scheduled(lower_plain("b000_plain", graph.ops, graph))
    assert buffers(func) == {} and loops(func, "parallel") and 16 in loops(func, "vectorized")


def test_every_kind_that_lowering_can_give_has_a_schedule():
    elsewhere = {"plain", "winograd"}  # winograd: tests/codegen/test_winograd.py
    assert set(SCHEDULES["cpu"]) == set(HEAVY) | elsewhere, "a new schedule belongs in HEAVY"
