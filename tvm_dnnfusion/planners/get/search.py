"""Searches over plans: at random, and local with a population (section A.7 of the paper).

Every search proposes plans, has invalid groups split by one splitter, and keeps the plan with the
least DRAM bytes. NSGA-II, from a library, is in `evolution.py`. What a search gets for its budget
is a number of proposed plans, the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tvm_dnnfusion.planners.get.oracle import Oracle
from tvm_dnnfusion.planners.get.partition import Partition, drawn, edited, ordered
from tvm_dnnfusion.planners.get.space import Mask, Space
from tvm_dnnfusion.planners.get.split import Splitter

POPULATION = 10
"""Plans that local search and NSGA-II keep (K in the paper)."""


class Keeper(Protocol):
    """The budget of a search: when to stop, and the best plan so far."""

    def spent(self) -> bool:
        """Whether the search has to end."""
        ...

    def offer(self, groups: tuple[Mask, ...], cost: float) -> None:
        """Count a proposed plan and keep it if it is the best."""
        ...


@dataclass
class Task:
    """What a search works on: graph, memory model, splitter and its own random numbers."""

    space: Space
    oracle: Oracle
    splitter: Splitter
    rng: Random
    keeper: Keeper

    def rectified(self, plan: Partition) -> Partition:
        """The plan with each group that does not fit replaced by its split."""
        out: list[Mask] = []
        for group in plan:
            if group & (group - 1) == 0 or self.oracle.valid(group):
                out.append(group)
            else:
                out += self.splitter.split(group)
        return ordered(out)

    def proposed(self, plan: Partition) -> tuple[float, Partition]:
        """DRAM bytes of the plan once it is rectified, and that plan; counts as one proposal."""
        plan = self.rectified(plan)
        cost = self.oracle.dram(plan)
        self.keeper.offer(plan, cost)
        return cost, plan


Search = Callable[[Task], None]


def random_search(task: Task) -> None:
    """A new random plan each time."""
    while not task.keeper.spent():
        task.proposed(drawn(task.space, task.rng))


def local_search(task: Task) -> None:
    """The best `POPULATION` plans, each edited once per round."""
    best: list[tuple[float, Partition]] = []
    while len(best) < POPULATION and not task.keeper.spent():
        best.append(task.proposed(drawn(task.space, task.rng)))
    while not task.keeper.spent():
        for _, plan in tuple(best):
            if task.keeper.spent():
                return
            best.append(task.proposed(edited(task.space, plan, task.rng)))
        best = sorted(dict.fromkeys(best))[:POPULATION]


def nsga2(task: Task) -> None:
    """NSGA-II of pymoo on two objectives, DRAM bytes and the largest buffer of a group."""
    from tvm_dnnfusion.planners.get.evolution import evolve

    evolve(task, POPULATION)


def nsga2_plain(task: Task) -> None:
    """NSGA-II whose population holds plans as proposed, not as split; see `evolution.evolve`."""
    from tvm_dnnfusion.planners.get.evolution import evolve

    evolve(task, POPULATION, inherit=False)


SEARCHES: dict[str, Search] = {
    "nsga2": nsga2,
    "local": local_search,
    "random": random_search,
    "nsga2-plain": nsga2_plain,
}
"""Searches by the name that `--search` takes."""
