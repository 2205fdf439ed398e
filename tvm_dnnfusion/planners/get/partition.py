"""Plans as partitions of the space: made from fused edges, drawn at random, changed by one edit.

A plan is legal when its groups hang together and do not wait for each other (section 2.1 of the
paper: the groups form a DAG, each weakly connected). Everything here returns legal plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tvm_dnnfusion.planners.get.space import Mask, Space, mask_of, members

Partition = tuple[Mask, ...]
"""Disjoint groups that cover the space, ordered by their smallest node."""

EDIT_TRIES = 16
"""Draws of an edit before a plan is taken as one that has no legal edit of that kind."""


def ordered(groups: Sequence[Mask]) -> Partition:
    """The groups in the one order that equal plans share."""
    return tuple(sorted(groups, key=lambda g: g & -g))


def homes(space: Space, plan: Sequence[Mask]) -> list[int]:
    """Node -> index of its group in the plan."""
    home = [-1] * space.size
    for index, group in enumerate(plan):
        for v in members(group):
            home[v] = index
    return home


def cyclic_core(space: Space, plan: Sequence[Mask]) -> list[int]:
    """Indices of groups on a cycle, or on a path between two; empty for a legal plan.

    Kahn's order from both ends; cost linear in the edges.
    """
    home = homes(space, plan)
    links = {(home[i], home[j]) for i, j in space.edges if home[i] != home[j]}
    alive = _peeled(set(range(len(plan))), links)
    return sorted(_peeled(alive, {(b, a) for a, b in links if a in alive and b in alive}))


def _peeled(nodes: set[int], links: set[tuple[int, int]]) -> set[int]:
    waits = dict.fromkeys(nodes, 0)
    after: dict[int, list[int]] = {v: [] for v in nodes}
    for a, b in links:
        waits[b] += 1
        after[a].append(b)
    ready = [v for v, n in waits.items() if not n]
    left = set(nodes)
    while ready:
        v = ready.pop()
        left.discard(v)
        for w in after[v]:
            waits[w] -= 1
            if not waits[w]:
                ready.append(w)
    return left


def is_legal(space: Space, plan: Sequence[Mask]) -> bool:
    """Whether the groups cover the space once, hang together and do not wait for each other."""
    total = sum(plan)
    disjoint = sum(g.bit_count() for g in plan) == space.size and total == space.all
    return disjoint and all(map(space.connected, plan)) and not cyclic_core(space, plan)


def from_fused(space: Space, fused: Sequence[bool]) -> Partition:
    """The plan in which the ends of `space.free[k]` share a group where `fused[k]`.

    Groups are what fused edges connect. Where groups would wait for each other, the nodes of those
    groups are put together anew by level: the most edges not fused on a path to the node. Two nodes
    of one level that an edge joins share a group; levels only grow along edges, so that no cycle is
    left. Cost: linear in the edges.
    """
    pairs = [e for e, f in zip(space.free, fused) if f]
    plan = _joined(space.size, pairs)
    core = cyclic_core(space, plan)
    if not core:
        return ordered(plan)
    inside = 0
    for index in core:
        inside |= plan[index]
    kept = [g for index, g in enumerate(plan) if index not in set(core)]
    return ordered(kept + _by_level(space, inside, set(pairs)))


def _joined(size: int, pairs: Sequence[tuple[int, int]]) -> list[Mask]:
    root = list(range(size))

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = root[root[v]]
            v = root[v]
        return v

    for i, j in pairs:
        root[find(j)] = find(i)
    groups: dict[int, Mask] = {}
    for v in range(size):
        top = find(v)
        groups[top] = groups.get(top, 0) | 1 << v
    return list(groups.values())


def _by_level(space: Space, inside: Mask, fused: set[tuple[int, int]]) -> list[Mask]:
    level: dict[int, int] = {}
    for v in members(inside):
        found = (level[u] + ((u, v) not in fused) for u in members(space.before[v] & inside))
        level[v] = max(found, default=0)
    rows: dict[int, Mask] = {}
    for v, depth in level.items():
        rows[depth] = rows.get(depth, 0) | 1 << v
    out: list[Mask] = []
    for row in rows.values():
        alone = row & space.fixed
        out += [1 << v for v in members(alone)]
        out += list(space.components(row & ~alone))
    return out


def fused_of(space: Space, plan: Sequence[Mask]) -> list[bool]:
    """Which of `space.free` lie inside a group: the inverse of `from_fused`."""
    home = homes(space, plan)
    return [home[i] == home[j] for i, j in space.free]


def drawn(space: Space, rng: Random) -> Partition:
    """A random plan: each edge fused with one probability, itself drawn anew for each plan."""
    share = rng.random()
    return from_fused(space, [rng.random() < share for _ in space.free])


def singletons(space: Space) -> Partition:
    """Every node alone."""
    return tuple(1 << v for v in range(space.size))


def edited(space: Space, plan: Partition, rng: Random) -> Partition:
    """The plan after one random edit: a node moved, two groups merged, or one split.

    The plan itself where no legal edit was drawn in `EDIT_TRIES` tries.
    """
    if not space.free:
        return plan
    home = homes(space, plan)
    for _ in range(EDIT_TRIES):
        i, j = space.free[rng.randrange(len(space.free))]
        a, b = plan[home[i]], plan[home[j]]
        parts = _opened(space, a, i, j, rng) if a == b else _closed(space, a, b, i, j, rng)
        if parts is None:
            continue
        changed = ordered([g for g in plan if g not in (a, b)] + parts)
        if not cyclic_core(space, changed):
            return changed
    return plan


def _closed(space: Space, a: Mask, b: Mask, i: int, j: int, rng: Random) -> list[Mask]:
    """Across a cut edge: merge the two groups, or move one end to the other's group."""
    choice = rng.randrange(3)
    if choice == 0:
        return [a | b]
    v, giver, taker = (i, a, b) if choice == 1 else (j, b, a)
    return [taker | 1 << v, *space.components(giver & ~(1 << v))]


def _opened(space: Space, group: Mask, i: int, j: int, rng: Random) -> list[Mask] | None:
    """Along an inner edge: what stands before the consumer goes apart from what does not."""
    level = rng.randint(i, j - 1)
    low = mask_of(v for v in members(group) if v <= level)
    return [*space.components(low), *space.components(group & ~low)]
