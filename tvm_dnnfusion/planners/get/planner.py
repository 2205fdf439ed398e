"""GET: a search over plans whose invalid groups are split where an explainer points.

    GetSearch(explainer="rg", search="nsga2").search(model, budget) -> groups

After "Applying Graph Explanation to Operator Fusion" (arXiv 2501.00636). With `explainer="random"`
it is the paper's baseline, the same search with random splits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from tvm_dnnfusion.cost.memory.model import MemoryModel
from tvm_dnnfusion.planners.get.explainers import EXPLAINERS, LearnedExplainer, make_explainer
from tvm_dnnfusion.planners.get.oracle import Oracle
from tvm_dnnfusion.planners.get.partition import Partition, singletons
from tvm_dnnfusion.planners.get.search import SEARCHES, Task
from tvm_dnnfusion.planners.get.space import Mask, Space, members
from tvm_dnnfusion.planners.get.split import Explainer, GuidedSplitter, RandomSplitter, SplitStats

PLANS = 2000
"""Plans that are proposed where nothing else is said (tables III and IV of the paper)."""


class SearchError(ValueError):
    """No search of that name; the message lists those that there are."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """How a search went: the figures of the paper's table V, and how its memories served.

    `rectify_rate`: share of the distinct invalid groups that explanations alone split into valid
    ones. Hit rates are shares of questions: of groups (F_beta and F_D), of splits, of explanations.
    """

    proposals: int
    seconds: float
    ms_per_plan: float
    invalid_groups: int
    rectify_rate: float
    group_hit_rate: float
    split_hit_rate: float
    explanation_hit_rate: float


class Budget(Protocol):
    """What the search is given: limits, a place for the best plan so far, and an ear."""

    def propose(self, count: int = 1) -> None: ...
    def spent(self) -> bool: ...
    def offer(self, groups: Sequence[Mask], cost: float) -> bool: ...
    def report(self, phase: str, done: int, total: int | None = None) -> None: ...


@dataclass
class _Counted:
    """A budget with a number of plans of its own; every plan is offered to it at once."""

    budget: Budget
    plans: int
    best: tuple[float, Partition] | None = None
    proposals: int = 0

    def spent(self) -> bool:
        return self.proposals >= self.plans or self.budget.spent()

    def offer(self, groups: tuple[Mask, ...], cost: float) -> None:
        self.proposals += 1
        self.budget.propose()
        if self.best is None or cost < self.best[0]:
            self.best = (cost, groups)
            self.budget.offer(groups, cost)
        self.budget.report("search", self.proposals, self.plans)


@dataclass
class GetSearch:
    """The planner's search.

    Parameters
    ----------
    explainer : one of `EXPLAINERS`.
    search_name : one of `SEARCHES`.
    plans : how many are proposed; a budget of seconds may end the search before.
    seed : of everything random; the same seed and number of plans give the same plan.
    weights : a file of `dnnfusion gnn train`; None: those that the package carries.

    `figures` tells of the last search. `given`, an explainer, is taken instead of the named one:
    its memory then serves several searches under one memory model.
    """

    explainer: str = EXPLAINERS[0]
    search_name: str = "nsga2"
    plans: int = PLANS
    seed: int = 0
    weights: Path | None = None
    name: str = "get"
    given: Explainer | None = None
    figures: SearchFigures | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.search_name not in SEARCHES:
            raise SearchError(f"no search {self.search_name!r}; there are {', '.join(SEARCHES)}")

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """Groups in execution order: the best plan when the budget was spent.

        Raises
        ------
        KeyboardInterrupt : the budget holds the best plan so far.
        ExplainerError, MissingGNN, MissingSearch : what the options name is not there.
        """
        network = model.network
        space = space_of(model)
        named = self.given or make_explainer(self.explainer, model, space, self.weights)
        rng = Random(self.seed)
        oracle = Oracle(model)
        fallback = RandomSplitter(space, oracle, rng)
        guided = None if named is None else GuidedSplitter(space, oracle, named, fallback)
        counted = _Counted(budget, self.plans)
        began = time.perf_counter()
        try:
            SEARCHES[self.search_name](Task(space, oracle, guided or fallback, rng, counted))
        finally:
            seconds = time.perf_counter() - began
            stats = guided.stats if guided is not None else SplitStats()
            learned = isinstance(named, LearnedExplainer)
            self.figures = SearchFigures(
                proposals=counted.proposals,
                seconds=seconds,
                ms_per_plan=1e3 * seconds / max(1, counted.proposals),
                invalid_groups=stats.invalid,
                rectify_rate=stats.rate,
                group_hit_rate=oracle.groups.rate,
                split_hit_rate=stats.memory.rate,
                explanation_hit_rate=named.memory.rate if learned else 0.0,
            )
        plan = counted.best[1] if counted.best is not None else singletons(space)
        found = network.order(plan)
        if found is None:
            raise AssertionError("the search returned groups that wait for each other")
        return found


def space_of(model: MemoryModel) -> Space:
    """The graph that a search under this model moves in."""
    network = model.network
    return Space(network.n, network.edges, members(model.unfusable()))


def get_search(
    explainer: str = EXPLAINERS[0],
    search: str = "nsga2",
    plans: int = PLANS,
    seed: int = 0,
    weights: Path | None = None,
) -> GetSearch:
    """The planner's search under the names that the command line has for its options."""
    return GetSearch(explainer, search, plans, seed, weights)
