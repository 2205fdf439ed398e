"""Plans made for other ends, held to a buffer: DNNFusion's, FuseOps', one kernel per op.

A block's layers become a group; where the group does not fit, it is cut into the runs of its layers
that move least. A layer that a plan tears apart counts where its operator is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from tvm_dnnfusion.cost.memory import MemoryModel
from tvm_dnnfusion.planners.memory.linear import runs
from tvm_dnnfusion.planners.memory.search import Budget, Partition, cost_of, singles
from tvm_dnnfusion.planners.plan import Plan


@dataclass(frozen=True, slots=True)
class Limited:
    """The groups of a plan, cut where they do not fit."""

    plan: Plan

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The plan's groups, each cut into parts that fit."""
        home = {op: k for k, block in enumerate(self.plan.blocks) for op in block.ops}
        groups = [part for g in _layers(model, home) for part in fitting(model, g)]
        found = model.network.order(groups)
        if found is None:  # merged ops moved between blocks: keep what alone is sure to be in order
            found = singles(model)
        budget.offer(found, cost_of(model, found))
        return found


def _layers(model: MemoryModel, home: Mapping[str, int]) -> list[int]:
    groups: dict[int, int] = {}
    for layer in model.network.layers:
        block = home[layer.ops[0]]
        groups[block] = groups.get(block, 0) | 1 << layer.index
    return list(groups.values())


def fitting(model: MemoryModel, group: int) -> Partition:
    """A group, or the runs of its layers that fit and move least."""
    net = model.network
    if net.is_convex(group) and model.evaluate(group).valid:
        return (group,)

    def price(part: int) -> float:
        return model.evaluate(part).dram_bytes if net.is_convex(part) else inf

    return runs(net.members(group), price) or tuple(1 << i for i in net.members(group))
