"""Splitting an invalid group into valid ones: greedily along explanations, or at random.

`GuidedSplitter` is algorithm 1 of the paper (section A.6). Cuts at the edges that an explainer
names fall into three categories: both parts fit; one does; none does. The first that has members
decides, and only the last opens more than one branch, which keeps the tree small. `RandomSplitter`
is what every search of the paper does without it, and the way out where explanations fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from tvm_dnnfusion.planners.get.cuts import Cut, cuts_at, cuts_of
from tvm_dnnfusion.planners.get.oracle import Counter, Oracle
from tvm_dnnfusion.planners.get.space import Edge, Mask, Space, members

Groups = tuple[Mask, ...]

MAX_OPEN = 3
"""Cuts followed when neither part of any fits (category 3): those whose parts are most equal in
nodes. The paper follows all, which on a group of a whole network is thousands of explanations."""

WIDE = 64
"""Nodes from which a group counts as wide: of its category 3 only the most equal cut is followed,
and the informed explainer tries that many of its edges, evenly spaced."""


class Explainer(Protocol):
    """Names the edges of an invalid group that explain why it does not fit."""

    def edges(self, group: Mask) -> Sequence[Edge]:
        """Edges inside the group, the most telling first; empty where it has no answer."""
        ...


class Splitter(Protocol):
    """Turns an invalid group into valid ones."""

    def split(self, group: Mask) -> Groups:
        """Valid groups that cover `group` and do not wait for each other."""
        ...


@dataclass
class RandomSplitter:
    """Cuts at a random edge, again and again until all parts fit; never asks for DRAM bytes."""

    space: Space
    oracle: Oracle
    rng: Random

    def split(self, group: Mask) -> Groups:
        """Valid parts. A single node counts as valid: it runs layer by layer."""
        done: list[Mask] = []
        pending = [group]
        while pending:
            part = pending.pop()
            if part & (part - 1) == 0 or self.oracle.valid(part):
                done.append(part)
            else:
                pending += self._cut(part)
        return tuple(done)

    def _cut(self, group: Mask) -> Sequence[Mask]:
        edges = self.space.inner(group)
        while edges:
            i, j = edges.pop(self.rng.randrange(len(edges)))
            cuts = cuts_at(self.space, group, i, j)
            if cuts:
                return cuts[self.rng.randrange(len(cuts))]
        return [1 << v for v in members(group)]


@dataclass
class SplitStats:
    """How often explanations were enough: the paper's rectify rate (table V)."""

    invalid: int = 0
    rectified: int = 0
    memory: Counter = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Share of the distinct invalid groups that explanations split into valid ones."""
        return self.rectified / self.invalid if self.invalid else 0.0


@dataclass
class GuidedSplitter:
    """Algorithm 1, with a memory of splits and random cuts where explanations fail.

    Parameters
    ----------
    space, oracle : the graph and the memory model.
    explainer : names the edges to cut at.
    fallback : splits a part that no named edge breaks.
    """

    space: Space
    oracle: Oracle
    explainer: Explainer
    fallback: RandomSplitter
    stats: SplitStats = field(default_factory=SplitStats)
    _known: dict[Mask, Groups | None] = field(default_factory=dict)

    def split(self, group: Mask) -> Groups:
        """Valid parts of an invalid group; a random split where explanations do not get there."""
        self.stats.memory.asked += 1
        if group in self._known:
            self.stats.memory.hits += 1
            found = self._known[group]
        else:
            found = self._tree(group)
            self.stats.invalid += 1
            self.stats.rectified += found is not None
        return self.fallback.split(group) if found is None else found

    def _tree(self, group: Mask) -> Groups | None:
        """`Split(phi)` of the paper; None where a part is left that no named edge breaks."""
        if group not in self._known:
            self._known[group] = self._searched(group)
        return self._known[group]

    def _searched(self, group: Mask) -> Groups | None:
        edges = self.explainer.edges(group)
        both, one, none = self._sorted(cuts_of(self.space, group, edges))
        if both:
            return min(both, key=self.oracle.dram)
        if one:
            kept, broken = max(one, key=lambda cut: cut[0].bit_count())
            rest = self._tree(broken)
            return None if rest is None else (kept, *rest)
        followed = 1 if group.bit_count() > WIDE else MAX_OPEN
        found = [self._halves(cut) for cut in none[:followed]]
        return min((f for f in found if f is not None), key=self.oracle.dram, default=None)

    def _halves(self, cut: Cut) -> Groups | None:
        first = self._tree(cut[0])
        second = self._tree(cut[1]) if first is not None else None
        return None if first is None or second is None else (*first, *second)

    def _sorted(self, cuts: Sequence[Cut]) -> tuple[list[Cut], list[Cut], list[Cut]]:
        """Categories 1, 2 (valid part first) and 3 (parts most equal in nodes first)."""
        both: list[Cut] = []
        one: list[Cut] = []
        none: list[Cut] = []
        for a, b in cuts:
            fits_a, fits_b = self.oracle.valid(a), self.oracle.valid(b)
            if fits_a and fits_b:
                both.append((a, b))
            elif both:
                continue
            elif fits_a or fits_b:
                one.append((a, b) if fits_a else (b, a))
            else:
                none.append((a, b))
        none.sort(key=lambda cut: abs(cut[0].bit_count() - cut[1].bit_count()))
        return both, one, none


@dataclass(frozen=True)
class AllEdges:
    """The informed explainer: edges are tried with exact buffer and DRAM figures.

    Needs no network and no training; the same recursion then looks at all cuts of a group.
    """

    space: Space

    def edges(self, group: Mask) -> Sequence[Edge]:
        """All edges of the group; of a wide one `WIDE`, evenly spaced."""
        found = self.space.inner(group)
        return found[:: -(-len(found) // WIDE)] if len(found) > WIDE else found
