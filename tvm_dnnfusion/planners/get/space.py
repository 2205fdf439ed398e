"""The graph that a search for fusion groups moves in, with sets of nodes as bit masks.

A group is an int whose bit v says that node v is in it: union, intersection and hashing are single
operations, which is what a search with 10^5 groups needs. Nodes are numbered in topological order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

Mask = int
"""A set of nodes: bit v is node v."""

Edge = tuple[int, int]
"""(producer, consumer), the smaller number first."""


def members(mask: Mask) -> list[int]:
    """The nodes of a set, ascending."""
    if not mask:
        return []
    first = (mask & -mask).bit_length() - 1
    mask >>= first  # groups lie close together: the rest works on short numbers
    out: list[int] = []
    while mask:
        low = mask & -mask
        out.append(first + low.bit_length() - 1)
        mask ^= low
    return out


def mask_of(nodes: Iterable[int]) -> Mask:
    """The set of these nodes."""
    mask = 0
    for v in nodes:
        mask |= 1 << v
    return mask


class Space:
    """A DAG of `size` nodes in topological order.

    Parameters
    ----------
    size : number of nodes.
    edges : (producer, consumer) with producer < consumer; repetitions are dropped.
    fixed : nodes that stay alone in every plan (barriers, and ops that do not fit the buffer).

    Raises
    ------
    ValueError for an edge that does not go from a smaller number to a larger one.
    """

    def __init__(self, size: int, edges: Sequence[Edge], fixed: Iterable[int] = ()) -> None:
        self.size = size
        self.edges: tuple[Edge, ...] = tuple(sorted(set(edges)))
        for i, j in self.edges:
            if not 0 <= i < j < size:
                raise ValueError(f"edge {i} -> {j} is not in topological order of {size} nodes")
        self.fixed: Mask = mask_of(fixed)
        self.after: list[Mask] = [0] * size
        self.before: list[Mask] = [0] * size
        for i, j in self.edges:
            self.after[i] |= 1 << j
            self.before[j] |= 1 << i

    @property
    def all(self) -> Mask:
        """Every node."""
        return (1 << self.size) - 1

    @cached_property
    def free(self) -> tuple[Edge, ...]:
        """Edges whose both ends may be fused."""
        fixed = self.fixed
        return tuple(e for e in self.edges if not (fixed >> e[0] | fixed >> e[1]) & 1)

    @cached_property
    def near(self) -> tuple[Mask, ...]:
        """Node -> its neighbours, edges taken in either direction."""
        return tuple(a | b for a, b in zip(self.after, self.before))

    @cached_property
    def below(self) -> tuple[Mask, ...]:
        """Node -> everything that a path from it reaches."""
        out = [0] * self.size
        for v in reversed(range(self.size)):
            for w in members(self.after[v]):
                out[v] |= out[w] | 1 << w
        return tuple(out)

    @cached_property
    def above(self) -> tuple[Mask, ...]:
        """Node -> everything from which a path leads to it."""
        out = [0] * self.size
        for v in range(self.size):
            for w in members(self.before[v]):
                out[v] |= out[w] | 1 << w
        return tuple(out)

    def inner(self, group: Mask) -> list[Edge]:
        """Edges with both ends in the group, ascending."""
        return [(i, j) for i in members(group) for j in members(self.after[i] & group)]

    def reach(self, start: Mask, within: Mask) -> Mask:
        """What edges in either direction connect to `start` inside a set."""
        found = pending = start & within
        near = self.near
        while pending:
            low = pending & -pending
            fresh = near[low.bit_length() - 1] & within & ~found
            found |= fresh
            pending = pending ^ low | fresh
        return found

    def connected(self, group: Mask) -> bool:
        """Whether the group hangs together, edges taken in either direction."""
        return self.reach(group & -group, group) == group

    def components(self, group: Mask) -> Iterator[Mask]:
        """The connected parts of a set, that with the smallest node first."""
        while group:
            part = self.reach(group & -group, group)
            yield part
            group &= ~part

    def convex(self, group: Mask) -> bool:
        """Whether no path leaves the group and comes back."""
        down = up = 0
        for v in members(group):
            down |= self.below[v]
            up |= self.above[v]
        return not down & up & ~group

    def readers(self, group: Mask) -> Mask:
        """Nodes outside that read a result of the group."""
        out = 0
        for v in members(group):
            out |= self.after[v]
        return out & ~group
