"""The planner of this library: exact where the width allows it, large neighbourhoods beyond.

A quick plan comes first: neighbouring groups joined greedily, and the best runs of two orders. Then
the exact search goes over states as Optimus' does, with three differences. Only groups whose layers
share a map are looked at: others cost no less than their parts. They grow by a layer with all that
it waits for, so that two branches and the addition behind them are one step. A state whose cost and
a lower bound of the rest reach the quick plan is dropped: every weight left moves once, every map
that crosses the state is read once, every result is written. Growing is cut where a group does not
fit: the buffer only grows with a group.

Where the exact search passes its share of evaluations, runs of neighbouring groups are taken out of
the best plan and planned anew, exactly, until no run gets better. Deterministic for a seed as long
as no time limit ends it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from tvm_dnnfusion.cost.memory import GroupCost, MemoryModel, bits
from tvm_dnnfusion.planners.memory.linear import breadth_first, price_of, runs
from tvm_dnnfusion.planners.memory.optimus import Space, frontier, merged, path
from tvm_dnnfusion.planners.memory.search import (
    Budget,
    Partition,
    PartitionError,
    cost_of,
    register_partitioner,
    singles,
)

EXACT_EVALUATIONS = 12_000
"""Groups that the exact search may evaluate before it gives way: some seconds of a slow core."""

EXACT_GROUPS = 200_000
"""Groups that it may look at, most of them from memory: two to four seconds of a slow core. Long
branches side by side (YOLO-v4) have few groups but many states."""

WINDOW_LAYERS = 14
"""Layers of a run that is planned anew; its states stay few on any network."""

WINDOW_EVALUATIONS = 1_500
"""Groups that one run may evaluate."""

STATE_GROUPS = 400
"""Groups that one state of a run grows to, in wide networks."""


class _Share(Budget):
    """A part of a budget: ends with it, or when the model has evaluated so many groups, or when so
    many were looked at (`counted`)."""

    def __init__(self, whole: Budget, model: MemoryModel, evaluations: int) -> None:
        super().__init__()
        self._whole, self._model = whole, model
        self._last = model.evaluations + evaluations
        self._looked_at = 0

    def counted(self, groups: Iterable[tuple[int, GroupCost]]) -> Iterator[tuple[int, GroupCost]]:
        """The groups as they come, each counted."""
        for found in groups:
            self._looked_at += 1
            yield found

    def spent(self) -> bool:
        """Whether the part or the whole is used up."""
        used = self._model.evaluations >= self._last or self._looked_at >= EXACT_GROUPS
        return self._whole.spent() or used

    def report(self, phase: str, done: int, total: int | None = None) -> None:
        """Passed on."""
        self._whole.report(phase, done, total)


@register_partitioner("memory")
@dataclass(frozen=True, slots=True)
class Convex:
    """The planner. `evaluations` and `rounds` bound the exact search and the neighbourhoods."""

    energy: bool = False
    seed: int = 0
    evaluations: int = EXACT_EVALUATIONS
    rounds: int = 200

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The best partition found, the optimum where the exact search came to its end."""
        found = self._quick(model, budget)
        share = _Share(budget, model, self.evaluations)
        exact = self._exact(model, share, budget)
        if exact is not None or share.spent() is False:
            return budget.best or found
        self._improve(model, budget)
        return budget.best or found

    def _quick(self, model: MemoryModel, budget: Budget) -> Partition:
        found = singles(model)
        budget.offer(found, cost_of(model, found, self.energy))
        joined = merged(model, budget, found, self.energy)
        budget.offer(joined, cost_of(model, joined, self.energy))
        share = _Share(budget, model, self.evaluations)
        for order in (tuple(range(model.network.n)), breadth_first(model.network)):
            cut = runs(order, partial(price_of, model, self.energy), share)
            groups = model.network.order(cut) if cut else None
            if groups:
                budget.offer(groups, cost_of(model, groups, self.energy))
        joined = merged(model, share, budget.best or found, self.energy)
        budget.offer(joined, cost_of(model, joined, self.energy))
        return budget.best or found

    def _exact(self, model: MemoryModel, share: _Share, budget: Budget) -> Partition | None:
        space = Space(model, 0, model.network.everything, self.energy, budget.best_cost)
        rest = None if self.energy else Rest(model)
        grow = partial(connected, model, model.network.everything)
        found = path(space, lambda done: share.counted(grow(done)), share, rest)
        if found is not None:
            budget.offer(found, cost_of(model, found, self.energy))
        return found

    def _improve(self, model: MemoryModel, budget: Budget) -> None:
        gen = random.Random(self.seed)
        groups = list(budget.best or singles(model))
        failed = 0
        for turn in range(self.rounds):
            if budget.spent() or failed > 2 * len(groups):
                return
            budget.report("improve", turn, self.rounds)
            first = gen.randrange(len(groups))
            last = first
            while last < len(groups) and sum(
                g.bit_count() for g in groups[first : last + 1]
            ) <= gen.choice((WINDOW_LAYERS, WINDOW_LAYERS // 2)):  # fmt: skip
                last += 1
            window = groups[first : max(last, first + 2)]
            better = self._window(model, budget, groups[:first], window)
            failed = 0 if better else failed + 1
            if better:
                rest = groups[first + len(window) :]
                groups = _shuffled(model, [*groups[:first], *better, *rest], gen)
                budget.offer(groups, cost_of(model, groups, self.energy))
            elif turn % 8 == 7:
                groups = _shuffled(model, groups, gen)

    def _window(self, model: MemoryModel, budget: Budget, before: list[int], window: list[int]
                ) -> Partition | None:  # fmt: skip
        """A cheaper partition of a run of groups, which no path leaves and enters again."""
        start = sum(before)
        goal = start | sum(window)
        bound = cost_of(model, window, self.energy)
        space = Space(model, start, goal, self.energy, bound, width=64)
        share = _Share(budget, model, WINDOW_EVALUATIONS)
        rest = None if self.energy else Rest(model, goal)
        grow = partial(connected, model, goal, most=STATE_GROUPS)
        return path(space, grow, share, rest)


def connected(model: MemoryModel, goal: int, done: int, most: int | None = None
              ) -> Iterator[tuple[int, GroupCost]]:  # fmt: skip
    """Groups within `goal` that can run after `done`, joined by maps, grown while they fit."""
    net = model.network
    left = goal & ~done
    seen: set[int] = set()
    stack: list[int] = []

    def grown(group: int, near: Iterable[int]) -> Iterator[tuple[int, GroupCost]]:
        for i in near:
            larger = group | 1 << i | net.ancestors[i] & ~done
            if larger in seen or larger & ~left:
                continue
            seen.add(larger)
            cost = model.evaluate(larger)
            if cost.valid:
                stack.append(larger)
                yield larger, cost

    yield from grown(0, frontier(model, done, left))
    while stack and (most is None or len(seen) < most):
        group = stack.pop()
        near = 0
        for i in bits(group):
            near |= net.siblings[i]
        yield from grown(group, bits(near & left & ~group))


class Rest:
    """A lower bound of what is left to pay after a state, in bytes, up to a goal.

    Weights move once at least. A map that was made before the state and is read after it is read
    once; results that leave the goal are written. In `paper` accounting layers may be free: no
    bound there beyond zero.
    """

    def __init__(self, model: MemoryModel, goal: int | None = None) -> None:
        net = model.network
        self._net, self._goal = net, net.everything if goal is None else goal
        self._free = model.setting.accounting.value == "paper"
        word = model.setting.word_bytes
        maps = word * model.setting.batch * net.images
        self._weights = [v.weights * word for v in net.layers]
        self._maps = [net.elements(k) * maps for k in range(net.n + len(net.inputs))]
        self._known: dict[int, float] = {}

    def __call__(self, done: int) -> float:
        """The bound for a state."""
        if self._free:
            return 0.0
        if done not in self._known:
            self._known[done] = self._bound(done)
        return self._known[done]

    def _bound(self, done: int) -> float:
        net, left = self._net, self._goal & ~done
        total = float(sum(self._weights[i] for i in bits(left)))
        for k, readers in enumerate(net.readers):
            made = k >= net.n or done >> k & 1
            leaves = k < net.n and left >> k & 1 and (net.outputs >> k & 1 or readers & ~self._goal)
            if (made and readers & left) or leaves:
                total += self._maps[k]
        return total


def _shuffled(model: MemoryModel, groups: list[int], gen: random.Random) -> list[int]:
    """The groups in another order in which they can run."""
    net = model.network
    home = {i: k for k, g in enumerate(groups) for i in bits(g)}
    waits = [{home[p] for i in bits(g) for p in bits(net.preds[i] & ~g)} for g in groups]
    out: list[int] = []
    done: set[int] = set()
    ready = [k for k in range(len(groups)) if not waits[k]]
    pending = set(range(len(groups))) - set(ready)
    while ready:
        k = ready.pop(gen.randrange(len(ready)))
        out.append(groups[k])
        done.add(k)
        fresh = sorted(j for j in pending if waits[j] <= done)
        pending -= set(fresh)
        ready += fresh
    return out


@register_partitioner("exact")
@dataclass(frozen=True, slots=True)
class Exact:
    """The optimum over all convex groups, without any pruning but what is provably safe.

    Looks at every group that can run next, joined or not, and goes on growing through groups that
    do not fit: the ground truth for small networks. Raises PartitionError beyond `layers`.
    """

    energy: bool = False
    layers: int = 16

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The optimum."""
        if model.network.n > self.layers:
            raise PartitionError(
                f"the exact planner takes up to {self.layers} layers, this network has"
                f" {model.network.n}; planner `memory` is exact as far as it can be"
            )
        found = singles(model)
        budget.offer(found, cost_of(model, found, self.energy))
        space = Space(model, 0, model.network.everything, self.energy)
        best = path(space, partial(_every, model), budget) or found
        budget.offer(best, cost_of(model, best, self.energy))
        return budget.best or best


def _every(model: MemoryModel, done: int) -> Iterator[tuple[int, GroupCost]]:
    left = model.network.everything & ~done
    seen: set[int] = set()
    stack = [0]
    while stack:
        group = stack.pop()
        for i in frontier(model, done | group, left & ~group):
            larger = group | 1 << i
            if larger not in seen:
                seen.add(larger)
                stack.append(larger)
                cost = model.evaluate(larger)
                if cost.valid:
                    yield larger, cost
