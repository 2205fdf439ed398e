"""Efficient-S and DNNVM as Optimus' authors compare with them: runs of a linear order.

Layers stand in breadth-first order; a group is a run of it, and dynamic programming finds the best
cuts. Efficient-S (Zheng et al., TCAD'20) takes branches, DNNVM (Xing et al., TCAD'20) takes no
layer with two operands or two readers; both keep maps in full and need a group's weights to fit. In
`paper` accounting they rank groups by energy, as the authors' code does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from tvm_dnnfusion.cost.memory import Accounting, GroupCost, MemoryModel, Network, bits
from tvm_dnnfusion.cost.memory.published import (
    DNNVM,
    EFFICIENT_S,
    NO_FUSION,
    Flags,
    PublishedModel,
)
from tvm_dnnfusion.planners.memory.search import (
    Budget,
    Partition,
    cost_of,
    register_partitioner,
    singles,
)

Price = Callable[[int], float]

PATIENCE = 3
"""Longer runs in turn that may be of no use before a run is given up."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Runs of the breadth-first order. `branches`: layers with several operands or readers."""

    flags: Flags
    branches: bool

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The best cuts of the order."""
        price = self._price(model)
        found = runs(breadth_first(model.network), price, budget)
        fallback = found or singles(model)
        groups = model.network.order(fallback) or singles(model)
        budget.offer(groups, cost_of(model, groups))
        return groups

    def _price(self, model: MemoryModel) -> Price:
        net = model.network
        if model.setting.accounting is Accounting.PAPER and isinstance(model, PublishedModel):
            own = model if model.flags == self.flags else published(model, self.flags)
            if self.flags.by_energy:
                return lambda group: own.evaluate(group).energy
            return lambda group: own.evaluate(group).dram_bytes
        return lambda group: self._full(model, net, group)

    def _full(self, model: MemoryModel, net: Network, group: int) -> float:
        """DRAM bytes with everything charged, where the method would take the group."""
        if group & (group - 1):
            if not self.branches and any(_branches(net, i) for i in bits(group)):
                return inf
            cost = model.evaluate(group)
            if not cost.valid or not cost.resident or not net.is_convex(group):
                return inf
            return cost.dram_bytes
        return model.evaluate(group).dram_bytes


@register_partitioner("efficient-s")
def _efficient_s() -> Linear:
    return Linear(EFFICIENT_S, True)


@register_partitioner("dnnvm")
def _dnnvm() -> Linear:
    return Linear(DNNVM, False)


def published(model: MemoryModel, flags: Flags) -> PublishedModel:
    """The published model of another method on the same network."""
    return PublishedModel(model.network, model.setting, flags)


def flags_of(name: str) -> Flags | None:
    """What a baseline's own published model allows; None for planners that have none."""
    return {"efficient-s": EFFICIENT_S, "dnnvm": DNNVM, "none": NO_FUSION}.get(name)


def breadth_first(net: Network) -> tuple[int, ...]:
    """The order in which Optimus' authors line layers up: a layer when all its operands are
    there, later successors first."""
    missing = [net.preds[i].bit_count() for i in range(net.n)]
    pending = deque(i for i in range(net.n) if not missing[i])
    out: list[int] = []
    while pending:
        i = pending.popleft()
        out.append(i)
        for s in reversed(tuple(bits(net.succs[i]))):
            missing[s] -= 1
            if not missing[s]:
                pending.append(s)
    return tuple(out)


def runs(order: Sequence[int], price: Price, budget: Budget | None = None,
         patience: int = PATIENCE,
         filtered: bool = False) -> Partition | None:  # fmt: skip
    """The cheapest cuts of a linear order into runs; None where the budget ends first.

    A run is given up when `patience` longer ones in turn do not fit, or with `filtered` do not pay:
    cuts that are known already cost no more.
    """
    best: list[tuple[float, int]] = [(0.0, 0)] + [(inf, 0)] * len(order)
    for start in range(len(order)):
        if budget is not None and budget.spent():
            return None
        base, group, misses = best[start][0], 0, 0
        for end in range(start, len(order)):
            group |= 1 << order[end]
            cost = price(group)
            poor = cost == inf or (filtered and base + cost >= best[end + 1][0])
            misses = misses + 1 if poor else 0
            if misses > patience:
                break
            if base + cost < best[end + 1][0]:
                best[end + 1] = (base + cost, start)
    out: list[int] = []
    end = len(order)
    while end:
        start = best[end][1]
        out.append(sum(1 << i for i in order[start:end]))
        end = start
    return tuple(reversed(out))


def price_of(model: MemoryModel, energy: bool, group: int) -> float:
    """DRAM bytes of a group, or its energy; infinite where a path leaves it and comes back."""
    if group & (group - 1) and not model.network.is_convex(group):
        return inf
    cost = model.evaluate(group)
    return cost.energy if energy else cost.dram_bytes


def _branches(net: Network, i: int) -> bool:
    readers = net.readers[i]
    return len({u.source for u in net.layers[i].uses}) > 1 or bool(readers & (readers - 1))


def totals(costs: Sequence[GroupCost]) -> float:
    """Bytes moved by groups, part by part, as printed tables count them."""
    return sum(c.moved_bytes for c in costs)
