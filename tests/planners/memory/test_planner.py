"""Memory plans as ordinary plans: blocks, schedules, JSON, reasons, other planners' plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.planners.networks import Net, build
from tests.cost.memory.nets import residual, squeeze
from tests.planners.graphs import DEVICE
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import (
    PlanError,
    check_plan,
    get_planner,
    plan,
    plan_from_json,
    plan_to_json,
)
from tvm_dnnfusion.planners.memory import MemoryPlanner
from tvm_dnnfusion.planners.plan import Plan, Reason

NAMES = ("memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "dnnfusion", "none")


def awkward() -> Graph:
    """Views, a constant's function, a transposition, a barrier with an activation behind it."""
    b = GraphBuilder()
    x = b.input("x", (1, 4, 6, 6))
    ones = b.op("ones", (4, 144), dtype="float32")
    y = b.op("nn.relu", b.op("reshape", x, (1, 144)))
    z = b.op("matmul", y, b.op("permute_dims", ones, axes=(1, 0)))
    return b.output(b.op("nn.relu", b.op("expand_dims", z, axis=0))).build()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("graph", [residual(), squeeze(), awkward()], ids=["skip", "se", "odd"])
def test_plans_are_plans_for_the_graph(name: str, graph: Graph) -> None:
    found = MemoryPlanner(name, buffer_bytes=2048).plan(extend(graph), DEVICE)
    assert check_plan(found, graph).blocks
    assert plan_from_json(plan_to_json(found)) == found
    assert found.memory is not None and found.memory.buffer_bytes == 2048


def test_a_barrier_stays_alone() -> None:
    graph = residual()
    ops = tuple(
        replace(op, barrier="OPAQUE_CALL") if op.name == "conv_1" else op for op in graph.ops
    )
    graph = replace(graph, ops=ops)
    found = MemoryPlanner(buffer_bytes=1 << 20).plan(extend(graph), DEVICE)
    check_plan(found, graph)
    assert any(b.ops == ("conv_1",) for b in found.blocks)


def test_the_schedule_of_a_group_says_what_waits() -> None:
    graph = residual()
    found = MemoryPlanner(buffer_bytes=1 << 20).plan(extend(graph), DEVICE)
    memory = found.blocks[0].memory
    assert memory is not None and memory.resident
    assert len(memory.layers) == 6
    assert {line.tensor for line in memory.lines} == {"x", *memory.layers}
    assert sum(line.bytes for line in memory.lines) < memory.buffer_bytes


def test_a_plan_file_with_a_broken_schedule_is_refused() -> None:
    text = plan_to_json(MemoryPlanner(buffer_bytes=1 << 20).plan(extend(residual()), DEVICE))
    with pytest.raises(PlanError, match=r"memory\.tile_rows is str, not int"):
        plan_from_json(text.replace('"tile_rows": 4', '"tile_rows": "4"'))


def test_registered_under_its_name() -> None:
    assert isinstance(get_planner("memory", buffer_bytes=4096), MemoryPlanner)
    found = plan(extend(residual()), "optimus", device=DEVICE, buffer_bytes=4096)
    assert found.planner == "optimus"


def test_other_planners_are_held_to_the_buffer() -> None:
    """A block that does not fit is cut; what is left moves more than planning for the buffer."""
    ecg = extend(build("mobilenet-v2"))
    held = MemoryPlanner("dnnfusion").assess(ecg, DEVICE).result
    ours = MemoryPlanner("memory").assess(ecg, DEVICE).result
    assert all(c.valid for c in held.costs)
    assert ours.dram_bytes < 0.5 * held.dram_bytes


def test_edges_between_groups_carry_the_figures() -> None:
    n = Net(56, 64)
    graph = n.done(n.conv(n.conv(n.x, 256, 3), 256, 3))
    found = MemoryPlanner(buffer_bytes=32 * 1024).plan(extend(graph), DEVICE)
    apart = [d for d in found.decisions if d.reason is Reason.MEMORY]
    assert len(found.blocks) == 2 and len(apart) == 1
    assert dict(apart[0].numbers)["needed_bytes"] > 32 * 1024
    assert apart[0].ops == ("conv", "conv_1")


def test_same_plan_every_time() -> None:
    plans: set[str] = set()
    for _ in range(2):
        found: Plan = MemoryPlanner(buffer_bytes=48 * 1024).plan(
            extend(build("squeezenet")), DEVICE
        )
        plans.add(plan_to_json(found))
    assert len(plans) == 1
