"""What the planner asks for: a cost that answers from the database and notes what is missing.

What a planner asks depends on the answers: a fusion that proves slow leaves other ones open. So a
model is planned, what was missing is measured, and it is planned again, until nothing is missing:
then every yellow cell that the search comes to has been decided by measurements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.cost.protocol import Cost, Estimate
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.measuring.kernels import has_kernel
from tvm_dnnfusion.measuring.meter import Job
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.keys import canonical_block, entry_key


@dataclass
class Asked:
    """A `Cost` that remembers what it was asked: `keys` in order, and `missing` ones as jobs."""

    db: ProfileDB
    device: DeviceSpec
    threads: int
    schedule: str
    variants: Variants
    fallback: Cost
    keys: dict[str, None] = field(default_factory=dict)
    missing: dict[str, Job] = field(default_factory=dict)

    def latency_us(self, ops: tuple[Op, ...], graph: Graph) -> Estimate:
        """From the database, else an estimate."""
        if not has_kernel(ops, graph):
            return self.fallback.latency_us(ops, graph)
        job = self.job(ops, graph)
        self.keys[job.key] = None
        row = self.db.get(job.key)
        if row is not None:
            return Estimate(row.latency_us, "database")
        self.missing[job.key] = job
        return self.fallback.latency_us(ops, graph)

    def job(self, ops: tuple[Op, ...], graph: Graph) -> Job:
        """The measurement that answers for a group."""
        block = canonical_block(ops, graph)
        schedule = self.schedule + self.variants.tag(ops, graph)
        key = entry_key(block, self.device.name, self.threads, schedule)
        return Job(key, block, self.device.name, self.threads, schedule)


def ask(graph: Graph, cost: Asked, every: bool = False) -> None:
    """Plan a graph with that cost.

    `every`: ask too for each block of the plan, of FuseOps' plan, and for each operator alone: what
    a latency model is trained on.
    """
    made = plan(extend(graph), device=cost.device, cost=cost)
    if not every:
        return
    other = plan(extend(graph), planner="tvm", device=cost.device)
    for block in (*made.blocks, *other.blocks):
        _one(tuple(graph.by_name[name] for name in block.ops), graph, cost)
    for op in graph.ops:
        _one((op,), graph, cost)


def _one(ops: Iterable[Op], graph: Graph, cost: Asked) -> None:
    cost.latency_us(tuple(ops), graph)


def without_weights(graph: Graph) -> Graph:
    """The graph with constants that take no memory: planning asks for their sizes only."""
    light = {name: _light(data) for name, data in graph.constants.items()}
    return replace(graph, constants=light)


def _light(data: Array) -> Array:
    """The first element as all of them; a copy, so that the original can be let go."""
    if data.size <= 1:
        return data.copy()
    return np.broadcast_to(data.reshape(-1)[0].copy(), data.shape)
