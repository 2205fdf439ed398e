"""The genetic search that the paper tunes with (DNNFusion, PLDI'21, section 4.4): steady state.

Each child has two parents, each the best of some of those that were measured, takes each gene from
one of them, and mutates one gene on average: half of the time by a step, since values stand in
order, else to anything. The first individual is the template's own choice.
"""

from __future__ import annotations

import random
from typing import Protocol

from tvm_dnnfusion.tuning.space import Genes, Space


class Search(Protocol):
    """Who asks for the next candidate. `ask` may repeat itself and may not fit the block."""

    name: str

    def ask(self) -> Genes:
        """The next point."""
        ...

    def tell(self, genes: Genes, cost: float | None) -> None:
        """What a point cost; None where it failed or does not fit."""
        ...


FIRST = 8
"""Points before the first child: the template's own and random neighbours of it."""
TOURNAMENT = 3
"""Individuals of which the best becomes a parent."""
IMMIGRANTS = 0.15
"""Part of the children that are random, so that the search does not settle too soon."""


class Genetic:
    """The search over a space."""

    name = "genetic"

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        self._rng = random.Random(seed)
        self._cost: dict[Genes, float] = {}
        self._asked = 0

    def ask(self) -> Genes:
        """The template's own choice, then neighbours of it, then children."""
        self._asked += 1
        if not self._cost:
            return self.space.origin if self._asked == 1 else self.space.random(self._rng)
        if self._rng.random() < IMMIGRANTS:
            return self.space.random(self._rng)
        if len(self._cost) < FIRST:
            return self._mutated(self._parent(), 2.0)
        a, b = self._parent(), self._parent()
        return self._mutated(tuple(self._rng.choice(pair) for pair in zip(a, b)), 1.0)

    def tell(self, genes: Genes, cost: float | None) -> None:
        """Take an individual into the population; those that failed have no children."""
        if cost is not None:
            self._cost[genes] = cost

    def _parent(self) -> Genes:
        rivals = self._rng.choices(list(self._cost), k=TOURNAMENT)
        return min(rivals, key=lambda g: (self._cost[g], g))

    def _mutated(self, genes: Genes, expected: float) -> Genes:
        """Some genes changed, `expected` on average and at least one."""
        sizes = self.space.sizes
        if not sizes:
            return genes
        out = list(genes)
        picked = [i for i in range(len(out)) if self._rng.random() < expected / len(out)]
        for i in picked or [self._rng.randrange(len(out))]:
            step = out[i] + self._rng.choice((-1, 1))
            near = self._rng.random() < 0.5 and 0 <= step < sizes[i]
            out[i] = step if near else self._rng.randrange(sizes[i])
        return tuple(out)
