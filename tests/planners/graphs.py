"""Small graphs, a device and helpers that the tests of this room share."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.planners.plan import EdgeDecision, Plan

DEVICE = DeviceSpec(
    name="test-cpu", kind="cpu", vector_bits=512, vector_registers=32, cores=2, l1_bytes=32 << 10,
    l2_bytes=1 << 20, l3_bytes=16 << 20, kernel_args=64, peak_gflops=200.0, bandwidth_gbs=20.0,
)  # fmt: skip


def weight(b: GraphBuilder, *shape: int) -> str:
    """A constant of that shape."""
    return b.constant("w", np.full(shape, 0.5, "float32"))


def conv(b: GraphBuilder, x: str, out: int, kernel: int = 3, **attrs) -> str:
    """A convolution that keeps the spatial size, without bias."""
    pad = kernel // 2
    channels = b.tensors[x].dims[1] // attrs.get("groups", 1)
    return b.op("nn.conv2d", x, weight(b, out, channels, kernel, kernel),
                padding=(pad, pad, pad, pad), **attrs)  # fmt: skip


def make(graph: Graph, device: DeviceSpec = DEVICE, planner: str = "dnnfusion", **options) -> Plan:
    """The plan of a graph."""
    return plan(extend(graph), planner, device=device, **options)


def groups(found: Plan) -> set[frozenset[str]]:
    """The blocks as sets of op names."""
    return {frozenset(b.ops) for b in found.blocks}


def edge(found: Plan, producer: str, consumer: str) -> EdgeDecision:
    """The decision on one edge."""
    return next(d for d in found.decisions if (d.producer, d.consumer) == (producer, consumer))


def permuted(graph: Graph, seed: int) -> Graph:
    """The same graph, its ops listed in another topological order."""
    rng = random.Random(seed)
    made = {*graph.inputs, *graph.constants}
    left, out = list(graph.ops), []
    while left:
        ready = [op for op in left if all(t in made for t in op.inputs)]
        op = rng.choice(ready)
        left.remove(op)
        out.append(op)
        made.update(op.outputs)
    return replace(graph, ops=tuple(out)).check()


def chain(length: int) -> Graph:
    """Elementwise ops one after another."""
    b = GraphBuilder()
    x = b.input("x", (4, 16))
    for _ in range(length):
        x = b.op("nn.relu", x)
    return b.output(x).build()


def residual_net(blocks: int) -> Graph:
    """Convolutions with residual additions: four ops per block and a skip edge over them."""
    b = GraphBuilder()
    x = b.input("x", (1, 8, 8, 8))
    for _ in range(blocks):
        y = b.op("nn.relu", conv(b, x, 8))
        x = b.op("nn.relu", b.op("add", conv(b, y, 8), x))
    return b.output(x).build()
