"""What the search asks of a memory model, counted: is a group valid, what does it cost.

The paper keeps three memories (section A.7): an invalid group's split, F_beta and F_D by group.
F_beta and F_D come from one evaluation here and share one memory; splits are in `split.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from tvm_dnnfusion.planners.get.space import Mask


class GroupFigures(Protocol):
    """Of one group: whether it fits, the buffer that it needs, its DRAM traffic."""

    @property
    def valid(self) -> bool: ...
    @property
    def buffer_bytes(self) -> int: ...
    @property
    def dram_bytes(self) -> float: ...


class Evaluator(Protocol):
    """The part of a memory model that is needed here."""

    def evaluate(self, group: Mask, /) -> GroupFigures: ...


@dataclass(slots=True)
class Counter:
    """Questions asked of a memory, and how many it answered without work."""

    asked: int = 0
    hits: int = 0

    @property
    def rate(self) -> float:
        """Share of questions answered from memory; 0 when none was asked."""
        return self.hits / self.asked if self.asked else 0.0


class Oracle:
    """A memory model with one memory per group and a count of its use."""

    def __init__(self, model: Evaluator) -> None:
        self._model = model
        self._known: dict[Mask, GroupFigures] = {}
        self.groups = Counter()

    def figures(self, group: Mask) -> GroupFigures:
        """What the model says of a group, asked once."""
        self.groups.asked += 1
        found = self._known.get(group)
        if found is None:
            found = self._known[group] = self._model.evaluate(group)
        else:
            self.groups.hits += 1
        return found

    def valid(self, group: Mask) -> bool:
        """F_beta(group) < beta."""
        return self.figures(group).valid

    def dram(self, groups: Iterable[Mask]) -> float:
        """Sum of F_D over groups, in bytes; infinite where one does not fit."""
        return sum(self.figures(g).dram_bytes for g in groups)

    def buffer(self, groups: Iterable[Mask]) -> int:
        """The largest F_beta of the groups, in bytes (the paper's MBU)."""
        return max((self.figures(g).buffer_bytes for g in groups), default=0)
