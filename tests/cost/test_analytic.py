"""The analytic cost ranks as the machine would: what each term says, and the registry."""

from dataclasses import replace

import pytest

from tests.planners.graphs import DEVICE, chain, conv, weight
from tvm_dnnfusion.cost import (
    AnalyticCost,
    Cost,
    CostError,
    cost_names,
    get_cost,
    register_cost,
)
from tvm_dnnfusion.cost.analytic import CACHE_SPEEDUP, DEFAULT_BANDWIDTH_GBS, LAUNCH_US
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph

COST = AnalyticCost(DEVICE)


def us(graph: Graph, *names: str) -> float:
    return COST.latency_us(tuple(graph.by_name[n] for n in names), graph).us


def matmul(n: int) -> Graph:
    b = GraphBuilder()
    return b.output(b.op("matmul", b.input("x", (n, n)), weight(b, n, n))).build()


def test_a_large_matmul_runs_at_the_peak():
    flops = 2 * 1024**3
    assert us(matmul(1024), "matmul") == pytest.approx(flops / (200.0 * 1e3) + LAUNCH_US, rel=1e-6)


def test_a_large_copy_runs_at_the_bandwidth_and_a_small_one_from_the_cache():
    for n, speedup in ((4 << 20, 1.0), (1 << 14, CACHE_SPEEDUP)):
        b = GraphBuilder()
        graph = b.output(b.op("nn.relu", b.input("x", (n,)))).build()
        assert us(graph, "relu") == pytest.approx(8 * n / (20e3 * speedup) + LAUNCH_US)


@pytest.mark.parametrize(
    ("name", "kib"), [("raspberry-pi-4", 1024), ("cortex-a53", 512), ("raspberry-pi-5", 2048)]
)
def test_all_second_caches_together_are_what_the_chip_has(name: str, kib: int):
    """A Raspberry Pi 4 has 1 MiB for its four cores, a Raspberry Pi 5 half of one for each."""
    device = registry.get(name)
    speed = (device.bandwidth_gbs or DEFAULT_BANDWIDTH_GBS) * 1e3
    for n, speedup in ((kib * 128, CACHE_SPEEDUP), (kib * 128 + 1, 1.0)):  # 8 bytes each
        b = GraphBuilder()
        graph = b.output(b.op("nn.relu", b.input("x", (n,)))).build()
        found = AnalyticCost(device).parts((graph.by_name["relu"],), graph)
        assert found is not None and found.moved_us == pytest.approx(8 * n / (speed * speedup))


def test_elementwise_ops_are_cheaper_together():
    graph = chain(2)
    assert us(graph, "relu", "relu_1") < us(graph, "relu") + us(graph, "relu_1")


def test_an_expansion_counts_again_what_it_makes_the_kernel_compute_again():
    b = GraphBuilder()
    small = b.op("exp", b.input("x", (512, 1, 64)))
    graph = b.output(b.op("broadcast_to", small, (512, 512, 64))).build()
    alone, both = us(graph, "broadcast_to"), us(graph, "exp", "broadcast_to")
    assert both > alone + us(graph, "exp")


def test_a_heavy_op_behind_an_expansion_is_staged_and_gains_nothing():
    b = GraphBuilder()
    y = conv(b, b.input("x", (1, 16, 32, 32)), 16)
    graph = b.output(b.op("image.resize2d", y, (64, 64))).build()
    assert us(graph, "conv2d", "resize2d") > us(graph, "conv2d") + us(graph, "resize2d")


def test_one_number_per_row_is_no_expansion():
    b = GraphBuilder()
    e = b.op("exp", b.input("x", (128, 512)))
    graph = b.output(b.op("divide", e, b.op("sum", e, axis=-1, keepdims=True))).build()
    assert us(graph, "exp", "sum", "divide") < us(graph, "exp", "sum") + us(graph, "divide")


def test_moving_the_innermost_axis_costs_more_than_keeping_it():
    def permuted(*axes: int) -> float:
        b = GraphBuilder()
        graph = b.output(b.op("permute_dims", b.input("x", (64, 256, 256)), axes=axes)).build()
        return us(graph, "permute_dims")

    assert permuted(0, 2, 1) > 2 * permuted(1, 0, 2)


def test_a_device_without_figures_still_ranks():
    bare = AnalyticCost(replace(DEVICE, peak_gflops=0.0, bandwidth_gbs=0.0))
    small, large = matmul(64), matmul(256)
    assert bare.latency_us(small.ops, small).us < bare.latency_us(large.ops, large).us


def test_a_barrier_costs_its_launch():
    graph = chain(1)
    ops = (replace(graph.ops[0], barrier="OPAQUE_CALL"),)
    assert COST.latency_us(ops, replace(graph, ops=ops)).us == LAUNCH_US


def test_a_lone_reshape_is_a_view():
    b = GraphBuilder()
    graph = b.output(b.op("exp", b.op("reshape", b.input("x", (4, 8)), (8, 4)))).build()
    assert us(graph, "reshape") == 0.0
    assert us(graph, "reshape", "exp") == us(graph, "exp")


def test_registry():
    assert isinstance(get_cost("analytic", DEVICE), Cost)
    assert "analytic" in cost_names()
    with pytest.raises(CostError, match="no cost named 'zz'; known: analytic"):
        get_cost("zz", DEVICE)
    with pytest.raises(ValueError, match="'analytic' is registered already"):
        register_cost("analytic")(AnalyticCost)
    assert COST.latency_us(chain(1).ops, chain(1)).source == "analytic"
