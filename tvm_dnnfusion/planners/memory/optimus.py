"""Optimus' search over the graph (LCTES'21, TECS'23), and its quick on-line variant.

Off-line: a state is what has run so far, a set closed under predecessors (the memo's key). From a
state a group grows vertex by vertex among those whose operands are there; a vertex that another
frontier vertex leads to has to wait, so every group is convex. A group that does not fit grows no
further. After a cut the next group may start at any vertex of the frontier, or at several: the
virtual source vertex of the paper is the state itself. The cost is exact over this space and grows
with the number of states, hence with the width of the graph.

On-line: groups of low efficiency are filtered out. Neighbouring groups are joined, the pair that
saves most first, while that pays. Then the best cuts of the breadth-first order are taken, where
they cost less; a run is given up when, for as many layers as the largest joined group has, it no
longer pays. Cost: linear in layers, times the length of runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf

from tvm_dnnfusion.cost.memory import GroupCost, MemoryModel, bits
from tvm_dnnfusion.planners.memory.linear import PATIENCE, breadth_first, price_of, runs
from tvm_dnnfusion.planners.memory.search import (
    Budget,
    Partition,
    cost_of,
    register_partitioner,
    singles,
)


@register_partitioner("optimus")
@dataclass(frozen=True, slots=True)
class Optimus:
    """The off-line search. `energy` ranks plans by energy instead of DRAM bytes."""

    energy: bool = False

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The best partition of its space; the best so far where the budget ends."""
        fallback = singles(model)
        budget.offer(fallback, cost_of(model, fallback, self.energy))
        return chain(model, budget, lambda done: _grown(model, done), self.energy)


Growth = Callable[[int], Iterable[tuple[int, GroupCost]]]
"""State -> the groups that can run next, with their costs."""


def chain(model: MemoryModel, budget: Budget, groups: Growth, energy: bool = False) -> Partition:
    """The cheapest chain of groups from nothing to the whole network."""
    found = path(Space(model, 0, model.network.everything, energy), groups, budget)
    if found is None:
        return budget.best or singles(model)
    budget.offer(found, cost_of(model, found, energy))
    return budget.best or found


@dataclass(frozen=True, slots=True)
class Space:
    """A stretch of the network: what has run before it, and what has run after it.

    `bound`: only plans that cost less are wanted. `width`: states of one size that are kept, the
    cheapest; None for all.
    """

    model: MemoryModel
    start: int
    goal: int
    energy: bool = False
    bound: float = inf
    width: int | None = None


def path(space: Space, groups: Growth, budget: Budget, rest: Callable[[int], float] | None = None
         ) -> Partition | None:  # fmt: skip
    """The cheapest chain of groups through a space; None where there is none below its bound, or
    the budget ends first. `rest` bounds from below what a state still has to pay."""
    best: dict[int, tuple[float, int]] = {space.start: (0.0, 0)}
    waiting: dict[int, set[int]] = {space.start.bit_count(): {space.start}}
    for size in range(space.start.bit_count(), space.goal.bit_count()):
        states = sorted(waiting.pop(size, ()), key=lambda s: (best[s][0], s))
        for state in states[: space.width]:
            if budget.spent():
                return None
            base = best[state][0]
            if rest is not None and base + rest(state) >= space.bound:
                continue
            for group, cost in groups(state):
                value = base + (cost.energy if space.energy else cost.dram_bytes)
                after = state | group
                known = best.get(after)
                if value < space.bound and (known is None or value < known[0]):
                    best[after] = (value, group)
                    waiting.setdefault(after.bit_count(), set()).add(after)
        budget.report("plan", size, space.goal.bit_count())
    if space.goal not in best:
        return None
    found: list[int] = []
    state = space.goal
    while state != space.start:
        found.append(best[state][1])
        state &= ~best[state][1]
    return tuple(found[::-1])


def frontier(model: MemoryModel, done: int, near: int) -> Iterator[int]:
    """Layers among `near` that can run after `done`."""
    preds = model.network.preds
    for i in bits(near & ~done):
        if not preds[i] & ~done:
            yield i


def _grown(model: MemoryModel, done: int) -> Iterator[tuple[int, GroupCost]]:
    """Every group that can run after `done` and is grown through groups that fit."""
    left = model.network.everything & ~done
    ready = sum(1 << i for i in frontier(model, done, left))
    seen: set[int] = set()
    stack: list[tuple[int, int]] = [(0, ready)]
    succs = model.network.succs
    while stack:
        group, ready = stack.pop()
        for i in bits(ready):
            larger = group | 1 << i
            if larger in seen:
                continue
            seen.add(larger)
            cost = model.evaluate(larger)
            if not cost.valid:
                continue
            yield larger, cost
            fresh = sum(1 << j for j in frontier(model, done | larger, succs[i]))
            stack.append((larger, ready & ~(1 << i) | fresh))


@register_partitioner("optimus-online")
@dataclass(frozen=True, slots=True)
class OptimusOnline:
    """The on-line variant: filtered groups, joined greedily by what they save, and in runs."""

    energy: bool = False

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """Groups joined while that pays, or filtered runs of one order where those cost less."""
        found = merged(model, budget, singles(model), self.energy)
        budget.offer(found, cost_of(model, found, self.energy))
        largest = max((g.bit_count() for g in found), default=1)
        price = partial(price_of, model, self.energy)
        order = breadth_first(model.network)
        cut = runs(order, price, budget, max(PATIENCE, largest), filtered=True)
        groups = model.network.order(cut) if cut else None
        if groups:
            budget.offer(groups, cost_of(model, groups, self.energy))
        return budget.best or found


def merged(model: MemoryModel, budget: Budget, start: Partition, energy: bool = False) -> Partition:
    """Join pairs of groups that share a map, the greatest saving first, until none saves."""
    net = model.network
    groups = dict(enumerate(start))
    home = {i: k for k, g in groups.items() for i in bits(g)}

    def price(group: int) -> float:
        cost = model.evaluate(group)
        return cost.energy if energy else cost.dram_bytes

    def saving(a: int, b: int) -> float:
        joined = groups[a] | groups[b]
        if not net.is_convex(joined):
            return 0.0
        return price(groups[a]) + price(groups[b]) - price(joined)

    def near(k: int) -> set[int]:
        around = 0
        for i in bits(groups[k]):
            around |= net.siblings[i]
        return {home[i] for i in bits(around & ~groups[k])}

    heap: list[tuple[float, int, int]] = []
    for a in groups:
        for b in near(a):
            if a < b and (gain := saving(a, b)) > 0:
                heapq.heappush(heap, (-gain, a, b))
    fresh = len(groups)
    while heap and not budget.spent():
        gain, a, b = heapq.heappop(heap)
        if a not in groups or b not in groups:
            continue
        joined = groups[a] | groups[b]
        rest = [g for k, g in groups.items() if k not in (a, b)]
        if not net.acyclic([*rest, joined]):
            continue
        del groups[a], groups[b]
        groups[fresh] = joined
        home.update(dict.fromkeys(bits(joined), fresh))
        for other in sorted(near(fresh)):
            if (gain := saving(other, fresh)) > 0:
                heapq.heappush(heap, (-gain, other, fresh))
        fresh += 1
    return net.order(tuple(groups.values())) or start
