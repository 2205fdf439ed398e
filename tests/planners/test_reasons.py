"""Every reason of the closed set is given by some graph, and no other."""

from dataclasses import replace

import pytest

from tests.planners.graphs import DEVICE, chain, conv, edge, make, residual_net, weight
from tests.planners.test_dnnfusion import decomposed_softmax
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners.plan import EdgeDecision, Reason

Given = tuple[Graph, tuple[str, str], DeviceSpec, str]


def green() -> Given:
    return chain(2), ("relu", "relu_1"), DEVICE, "dnnfusion"


def profit() -> Given:
    b = GraphBuilder()
    y = b.op("matmul", b.input("x", (4, 8)), weight(b, 8, 8))
    graph = b.output(b.op("permute_dims", y, axes=(1, 0))).build()
    return graph, ("matmul", "permute_dims"), DEVICE, "dnnfusion"


def extended() -> Given:
    return decomposed_softmax(), ("max", "subtract"), DEVICE, "dnnfusion"


def red() -> Given:
    b = GraphBuilder()
    y = conv(b, conv(b, b.input("x", (1, 8, 8, 8)), 8), 8)
    return b.output(y).build(), ("conv2d", "conv2d_1"), DEVICE, "dnnfusion"


def not_convex() -> Given:
    return residual_net(2), ("relu_1", "add_1"), DEVICE, "dnnfusion"


def barrier() -> Given:
    graph = chain(2)
    first, second = graph.ops
    graph = replace(graph, ops=(replace(first, barrier="CONTROL_FLOW"), second))
    return graph, ("relu", "relu_1"), DEVICE, "dnnfusion"


def own_kernel() -> Given:
    b = GraphBuilder()
    y = b.op("cumsum", b.op("nn.relu", b.input("x", (4, 8))), axis=1)
    return b.output(y).build(), ("relu", "cumsum"), DEVICE, "dnnfusion"


def escapes() -> Given:
    b = GraphBuilder()
    y = b.op("nn.relu", b.input("x", (1, 8, 8, 8)))
    return b.output(conv(b, y, 8), y).build(), ("relu", "conv2d"), DEVICE, "dnnfusion"


def kernel_args() -> Given:
    b = GraphBuilder()
    y = b.op("nn.relu", b.op("add", b.input("x", (4, 8)), b.input("y", (4, 8))))
    y = b.op("add", y, b.input("z", (4, 8)))
    return b.output(y).build(), ("relu", "add_1"), replace(DEVICE, kernel_args=3), "dnnfusion"


def dtype() -> Given:
    b = GraphBuilder()
    y = b.op("astype", b.input("x", (1, 8, 8, 8), "float16"), dtype="float32")
    y = b.op("nn.relu", b.op("astype", conv(b, y, 8), dtype="float16"))
    return b.output(y).build(), ("conv2d", "astype_1"), DEVICE, "dnnfusion"


def too_heavy() -> Given:
    return chain(65), ("relu_63", "relu_64"), DEVICE, "dnnfusion"


def no_profit() -> Given:
    b = GraphBuilder()
    y = conv(b, b.input("x", (1, 16, 32, 32)), 16)
    graph = b.output(b.op("image.resize2d", y, (64, 64))).build()
    return graph, ("conv2d", "resize2d"), DEVICE, "dnnfusion"


def epilogue() -> Given:
    return residual_net(1), ("relu", "conv2d_1"), DEVICE, "dnnfusion"


def prologue() -> Given:
    b = GraphBuilder()
    y = b.op("add", b.op("matmul", b.input("x", (8, 8)), weight(b, 8, 16)), weight(b, 16))
    left, right = b.op("split", y, indices_or_sections=2, axis=1)
    graph = b.output(b.op("matmul", left, right)).build()
    return graph, ("add", "split.0"), DEVICE, "dnnfusion"


def taken() -> Given:
    b = GraphBuilder()
    y = b.op("exp", b.input("x", (4, 8)))
    low = b.op("strided_slice", y, (1,), (0,), (2,))
    graph = b.output(low, b.op("permute_dims", y, axes=(1, 0))).build()
    return graph, ("exp", "permute_dims"), DEVICE, "dnnfusion"


def baseline() -> Given:
    return chain(2), ("relu", "relu_1"), DEVICE, "none"


def in_place() -> Given:
    return joined(), ("conv2d_1", "concat"), DEVICE, "dnnfusion"


def copied() -> Given:
    return joined(), ("relu", "concat"), DEVICE, "dnnfusion"


def joined() -> Graph:
    """Two convolutions and a tensor that is returned as well, joined."""
    b = GraphBuilder()
    x = b.op("nn.relu", b.input("x", (1, 16, 8, 8)))
    y = b.op("concat", (conv(b, x, 16), conv(b, x, 16), x), axis=1)
    return b.output(conv(b, y, 8), x).build()


def memory_fused() -> Given:
    b = GraphBuilder()
    y = conv(b, conv(b, b.input("x", (1, 8, 8, 8)), 8), 8)
    return b.output(y).build(), ("conv2d", "conv2d_1"), DEVICE, "memory"


def memory_apart() -> Given:
    b = GraphBuilder()
    y = conv(b, conv(b, b.input("x", (1, 600, 200, 200)), 600), 600)
    return b.output(y).build(), ("conv2d", "conv2d_1"), DEVICE, "memory"


PRODUCERS = {
    Reason.FUSED_GREEN: green,
    Reason.FUSED_PROFIT: profit,
    Reason.FUSED_EXTENSION: extended,
    Reason.RED: red,
    Reason.NOT_CONVEX: not_convex,
    Reason.BARRIER: barrier,
    Reason.OWN_KERNEL: own_kernel,
    Reason.ESCAPES: escapes,
    Reason.KERNEL_ARGS: kernel_args,
    Reason.DTYPE: dtype,
    Reason.TOO_HEAVY: too_heavy,
    Reason.NO_PROFIT: no_profit,
    Reason.BETTER_AS_EPILOGUE: epilogue,
    Reason.BETTER_AS_PROLOGUE: prologue,
    Reason.TAKEN: taken,
    Reason.BASELINE: baseline,
    Reason.IN_PLACE: in_place,
    Reason.COPIED: copied,
    Reason.FUSED_MEMORY: memory_fused,
    Reason.MEMORY: memory_apart,
}


def decide(reason: Reason) -> EdgeDecision:
    graph, (producer, consumer), device, planner = PRODUCERS[reason]()
    return edge(make(graph, device, planner), producer, consumer)


@pytest.mark.parametrize("reason", Reason, ids=lambda r: r.name)
def test_reason_is_given(reason: Reason):
    decision = decide(reason)
    assert decision.reason is reason
    assert decision.fused is reason.name.startswith("FUSED")


@pytest.mark.parametrize(
    ("reason", "names"),
    [
        (Reason.FUSED_PROFIT, {"fused_us", "separate_us"}),
        (Reason.NO_PROFIT, {"fused_us", "separate_us"}),
        (Reason.KERNEL_ARGS, {"buffers", "limit"}),
        (Reason.DTYPE, {"anchor_bits", "other_bits"}),
        (Reason.TOO_HEAVY, {"ops", "limit"}),
        (Reason.ESCAPES, {"value_bytes"}),
        (Reason.MEMORY, {"needed_bytes", "buffer_bytes"}),
    ],
)
def test_reasons_that_compare_carry_both_figures(reason: Reason, names: set[str]):
    assert {key for key, _ in decide(reason).numbers} == names


def test_every_reason_has_a_sentence_of_its_own():
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_too_many_live_values_are_too_heavy():
    b = GraphBuilder()
    x = b.input("x", (4, 8))
    parts = [b.op("exp", b.op("multiply", x, float(i + 2))) for i in range(6)]
    total = parts[0]
    for part in parts[1:]:
        total = b.op("add", total, part)
    graph = b.output(total).build()
    found = make(graph, replace(DEVICE, vector_registers=4))
    assert len(found.blocks) > 1
    refused = [dict(d.numbers) for d in found.decisions if d.reason is Reason.TOO_HEAVY]
    assert refused
    assert all(n == {"live_values": 5.0, "registers": 4.0} for n in refused)
