"""NSGA-II by pymoo: a plan is one bit per edge, set where its ends are fused.

Objectives are DRAM bytes and the largest buffer of a group. Children come from two-point crossover
(edges stand in topological order: parents exchange a stretch of the network) and flipped bits. What
does not fit is split. The split plan goes back into the population (`inherit`), or counts for its
figures only, as where a library sees plans as black boxes: children then descend from what was
proposed, and random splits are not kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_dnnfusion.planners.get.partition import Partition, drawn, from_fused, fused_of
from tvm_dnnfusion.planners.get.search import Task


class MissingSearch(ImportError):
    """pymoo is not installed."""

    exit_code = 3


def evolve(task: Task, population: int, inherit: bool = True) -> None:
    """Run until the budget is spent; the task's keeper holds the best plan.

    Raises
    ------
    MissingSearch where pymoo is not installed.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.repair import Repair
        from pymoo.core.sampling import Sampling
        from pymoo.operators.crossover.pntx import TwoPointCrossover
        from pymoo.operators.mutation.bitflip import BitflipMutation
    except ImportError as error:
        raise MissingSearch(
            "the search nsga2 needs pymoo: pip install 'tvm-dnnfusion[search]', or take"
            " --search local"
        ) from error

    space = task.space
    if not space.free:
        task.proposed(tuple(1 << v for v in range(space.size)))
        return
    figures: dict[bytes, tuple[float, float]] = {}

    def settled(plan: Partition) -> np.ndarray:
        """The bits that stay in the population; the objectives of the rectified plan are noted."""
        cost, made = task.proposed(plan)
        bits = np.array(fused_of(space, made if inherit else plan), dtype=bool)
        figures[bits.tobytes()] = (cost, float(task.oracle.buffer(made)))
        return bits

    class Random(Sampling):
        def _do(self, problem: Any, n_samples: int, **_: Any) -> np.ndarray:
            return np.array([fused_of(space, drawn(space, task.rng)) for _ in range(n_samples)])

    class Rectify(Repair):
        def _do(self, problem: Any, X: np.ndarray, **_: Any) -> np.ndarray:
            kept = [x if task.keeper.spent() else settled(from_fused(space, x.tolist())) for x in X]
            return np.array(kept, dtype=bool)

    class Plans(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=len(space.free), n_obj=2, xl=0, xu=1, vtype=bool)

        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
            worst = (float("inf"), float("inf"))  # children after the last proposal
            out["F"] = np.array([figures.get(np.asarray(r, bool).tobytes(), worst) for r in x])

    algorithm = NSGA2(
        pop_size=population,
        sampling=Random(),
        crossover=TwoPointCrossover(),
        mutation=BitflipMutation(),
        repair=Rectify(),
    )
    algorithm.setup(Plans(), seed=task.rng.randrange(2**31), termination=("n_gen", 2**31))
    while not task.keeper.spent():
        algorithm.next()
