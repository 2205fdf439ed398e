"""What memory planners share: a budget with the best plan so far, and partitioners by name.

A partition is a tuple of groups (bit sets of layers) in execution order. A partitioner searches one
under a `Budget`, offers every complete one that it finds, and stops when the budget is spent or a
person interrupts it; `partition` returns the best in any case.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tvm_dnnfusion.cost.memory import GroupCost, MemoryModel, bits
from tvm_dnnfusion.named import known_as

Report = Callable[[str, int, "int | None"], None]
"""Told where a search stands: phase, steps done, steps in all where that is known."""

Partition = tuple[int, ...]


class PartitionError(ValueError):
    """A partitioner that is not known, or a network that it cannot plan; the message says why."""

    exit_code = 2


class Budget:
    """How long a search may take, and the best partition that it has offered.

    Parameters
    ----------
    seconds, proposals : limits, None for none. A search counts its proposals with `propose`.
    report : told of progress.
    clock : what `seconds` are of; `time.process_time` makes them the processor's.
    """

    def __init__(self, seconds: float | None = None, proposals: int | None = None,
                 report: Report | None = None, clock: Callable[[], float] = time.monotonic,
                 ) -> None:  # fmt: skip
        self.seconds, self.proposals, self._report = seconds, proposals, report
        self._clock, self.began = clock, clock()
        self.proposed = 0
        self.best: Partition | None = None
        self.best_cost = math.inf
        self.stopped = False

    def propose(self, count: int = 1) -> None:
        """Count complete plans that a search has looked at."""
        self.proposed += count

    def spent(self) -> bool:
        """Whether the search has to stop."""
        late = self.seconds is not None and self._clock() - self.began >= self.seconds
        done = self.proposals is not None and self.proposed >= self.proposals
        self.stopped = self.stopped or late or done
        return self.stopped

    def offer(self, groups: Sequence[int], cost: float) -> bool:
        """Keep a complete partition where it is the best; whether it was."""
        if cost >= self.best_cost:
            return False
        self.best, self.best_cost = tuple(groups), cost
        return True

    def report(self, phase: str, done: int, total: int | None = None) -> None:
        """Say where the search stands."""
        if self._report is not None:
            self._report(phase, done, total)


@runtime_checkable
class Partitioner(Protocol):
    """A search for a partition of a network's layers into groups."""

    def search(self, model: MemoryModel, budget: Budget) -> Partition:
        """The best partition found; every complete one on the way is offered to the budget."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """A partition and how it was found.

    `complete`: the search came to its own end; `interrupted`: a person ended it. `evaluations`
    counts groups whose cost was computed for it.
    """

    groups: Partition
    costs: tuple[GroupCost, ...]
    seconds: float
    evaluations: int
    complete: bool
    interrupted: bool = False

    @property
    def dram_bytes(self) -> float:
        """DRAM traffic of all groups."""
        return sum(c.dram_bytes for c in self.costs)

    @property
    def energy(self) -> float:
        """Energy of all groups, in multiply-accumulates."""
        return sum(c.energy for c in self.costs)

    @property
    def buffer_bytes(self) -> int:
        """The most buffer that one group uses."""
        return max((c.used_bytes or c.buffer_bytes for c in self.costs), default=0)


def partition(partitioner: Partitioner, model: MemoryModel, budget: Budget | None = None
              ) -> Result:  # fmt: skip
    """Run a search; an interrupt ends it with the best partition so far.

    Raises
    ------
    KeyboardInterrupt where nothing had been found yet.
    PartitionError where the result is no partition into groups that can run one after the other.
    """
    budget = budget or Budget()
    before, began, interrupted = model.evaluations, time.monotonic(), False
    try:
        groups = partitioner.search(model, budget)
    except KeyboardInterrupt:
        if budget.best is None:
            raise
        groups, interrupted = budget.best, True
    seconds = time.monotonic() - began
    found = ordered(model, groups)
    costs = tuple(model.evaluate(g) for g in found)
    return Result(found, costs, seconds, model.evaluations - before,
                  not interrupted and not budget.stopped, interrupted)  # fmt: skip


def ordered(model: MemoryModel, groups: Sequence[int]) -> Partition:
    """The groups in execution order. Raises PartitionError where they are no partition."""
    covered = 0
    for g in groups:
        if covered & g:
            shared = [model.network.layers[i].name for i in bits(covered & g)]
            raise PartitionError(f"layer {shared[0]} stands in two groups")
        covered |= g
    if covered != model.network.everything:
        lost = next(bits(model.network.everything & ~covered))
        raise PartitionError(f"no group holds layer {model.network.layers[lost].name}")
    found = model.network.order(groups)
    if found is None:
        raise PartitionError("groups wait for each other: a path leaves one and comes back")
    return found


def cost_of(model: MemoryModel, groups: Sequence[int], energy: bool = False) -> float:
    """DRAM bytes of a partition, or its energy."""
    costs = (model.evaluate(g) for g in groups)
    return sum(c.energy if energy else c.dram_bytes for c in costs)


def singles(model: MemoryModel) -> Partition:
    """The partition into single layers."""
    return tuple(1 << i for i in range(model.network.n))


Factory = Callable[..., Partitioner]
_KNOWN: dict[str, Factory] = {}


def register_partitioner(name: str) -> Callable[[Factory], Factory]:
    """Decorator: make a partitioner known under a name. Raises ValueError when it is taken."""
    return known_as(_KNOWN, "partitioner", name)


def get_partitioner(name: str, **options: object) -> Partitioner:
    """A partitioner with its options. Raises PartitionError with the names that exist."""
    if name not in _KNOWN:
        raise PartitionError(
            f"no memory planner named {name!r}; known: {', '.join(partitioner_names())}"
        )
    return _KNOWN[name](**options)


def partitioner_names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_KNOWN))
