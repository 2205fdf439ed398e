"""From an edge that an explainer names to the cuts that split its group there (section A.5).

Removing one edge (i, j) of a chain splits the group. Where another path joins both sides (a skip
connection around it, nested ones, or the branch of a squeeze-and-excite block), companions have to
be removed with it: one edge of every other path. Each minimal set is one solution:

    add -> conv -> relu -> add'          edges conv->relu and the skip: one solution
     '------------------'                the whole block: three (the skip with each inner edge)

A cut is a pair (before, after) of groups that hang together, with edges from the first to the
second only, so that the groups of a plan never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from tvm_dnnfusion.planners.get.space import Edge, Mask, Space, mask_of, members

Cut = tuple[Mask, Mask]
"""(part that comes first, part that reads it)."""

MAX_COMPANIONS = 6
"""Other paths that one cut may have to break. Blocks with four branches need three, and a
squeeze-and-excite inside a residual block two."""

MAX_SOLUTIONS = 16
"""Cuts kept per edge: with three long branches the combinations of companions are hundreds,
nearly all of which differ by where a side branch is left."""


def cuts_of(space: Space, group: Mask, edges: Iterable[Edge]) -> list[Cut]:
    """The distinct cuts of a group that remove one of the edges, in the order of the edges."""
    found: dict[Cut, None] = {}
    for i, j in edges:
        for cut in cuts_at(space, group, i, j):
            found.setdefault(cut)
    return list(found)


def cuts_at(space: Space, group: Mask, i: int, j: int) -> list[Cut]:
    """The minimal cuts of a group with i before and j after.

    Everything in the group from which a path leads to i stands with it, everything that j leads to
    stands with j; each path that still joins the sides is broken at one of its edges in turn.
    """
    first = (space.above[i] & group) | 1 << i
    last = (space.below[j] & group) | 1 << j
    found: dict[Cut, None] = {}
    _break(space, group, first, last, MAX_COMPANIONS, found)
    return list(found)


def _break(
    space: Space, group: Mask, first: Mask, last: Mask, left: int, found: dict[Cut, None]
) -> None:
    """Extend the two sides until no path joins them; `left` more paths may be broken."""
    if first & last or len(found) >= MAX_SOLUTIONS:
        return
    path = _path(space, group, first, last)
    if path is None:
        _add(space, group, first, last, found)
        return
    if not left:
        return
    for a, b in pairwise(path):
        if space.after[a] >> b & 1:  # a cut runs along the direction of the edges only
            _break(
                space,
                group,
                first | (space.above[a] & group) | 1 << a,
                last | (space.below[b] & group) | 1 << b,
                left - 1,
                found,
            )


def _path(space: Space, group: Mask, first: Mask, last: Mask) -> list[int] | None:
    """A shortest path between the sides, in either direction, that is not yet broken, or None.

    Edges from `first` straight to `last` are cut; a path runs through nodes of neither side.
    """
    middle = group & ~first & ~last
    came: dict[int, int] = {}
    frontier: list[int] = []
    if not middle:
        return None
    for v in members(first):
        for w in members(space.near[v] & middle):
            if w not in came:
                came[w] = v
                frontier.append(w)
    while frontier:
        following: list[int] = []
        for v in frontier:
            near = space.near[v]
            end = near & last
            if end:
                return _traced(came, v, end.bit_length() - 1)
            for w in members(near & middle):
                if w not in came:
                    came[w] = v
                    following.append(w)
        frontier = following
    return None


def _traced(came: dict[int, int], v: int, end: int) -> list[int]:
    out = [end, v]
    while out[-1] in came:
        out.append(came[out[-1]])
    return out[::-1]


def _add(space: Space, group: Mask, first: Mask, last: Mask, found: dict[Cut, None]) -> None:
    """What hangs on neither side's far end goes with the side that it touches."""
    before = space.reach(first, group & ~last)
    after = group & ~before
    if _is_cut(space, before, after):
        found.setdefault((before, after))


def _is_cut(space: Space, before: Mask, after: Mask) -> bool:
    sources = 0
    for v in members(before):
        sources |= space.before[v]
    return not sources & after and space.connected(before) and space.connected(after)


def prefix_cuts(space: Space, group: Mask) -> list[Cut]:
    """Every cut of a group in its topological order, whose parts hang together."""
    nodes = members(group)
    pairs = ((mask_of(nodes[:k]), mask_of(nodes[k:])) for k in range(1, len(nodes)))
    return [(a, b) for a, b in pairs if space.connected(a) and space.connected(b)]
