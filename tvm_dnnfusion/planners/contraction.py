"""The graph with blocks drawn together: convexity checked and kept up incrementally.

Two blocks can each be convex and still feed each other through different ops; what has to stay
acyclic is the graph whose nodes are the blocks. Groups carry ranks, a topological order of that
graph. Joining u with v, which reads u, is legal when no other path leads from u to v, and only
groups ranked between the two can lie on one, so the search stops there; after joining, the ranks
between the two are dealt out anew (the order of Pearce and Kelly, 2006). On the graphs of networks
a check looks at a handful of groups; a skip connection costs the span that it skips.
"""

from __future__ import annotations

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.planners.facts import Facts

Group = int


class Contraction:
    """Groups of ops, at first one for each; `join` draws two together."""

    def __init__(self, facts: Facts) -> None:
        self.visited = 0
        ranked = sorted(facts.order, key=lambda name: facts.order[name])
        self._group = {name: i for i, name in enumerate(ranked)}
        self._rank = dict(enumerate(range(len(ranked))))
        self._members = {i: [name] for i, name in enumerate(ranked)}
        after, before = facts.successors, facts.predecessors
        self._after = {
            self._group[n]: {self._group[s.name]: None for s in after[n]} for n in ranked
        }
        self._before = {
            self._group[n]: {self._group[p.name]: None for p in before[n]} for n in ranked
        }

    def group(self, op: Op) -> Group:
        """The group that holds an op."""
        return self._group[op.name]

    def can_join(self, a: Op, b: Op) -> bool:
        """Whether the groups of two ops can be one without a cycle among the groups."""
        u, v = self._ordered(a, b)
        return u == v or not self._detour(u, v)

    def join(self, a: Op, b: Op) -> None:
        """Draw two groups together. The caller has asked `can_join`."""
        u, v = self._ordered(a, b)
        if u == v:
            return
        self._rerank(u, v)
        keep, gone = (u, v) if len(self._members[u]) >= len(self._members[v]) else (v, u)
        self._rank[keep] = self._rank[u]
        for name in self._members[gone]:
            self._group[name] = keep
        self._members[keep] += self._members.pop(gone)
        for near, far in ((self._after, self._before), (self._before, self._after)):
            for other in near.pop(gone):
                del far[other][gone]
                if other != keep:
                    near[keep][other] = None
                    far[other][keep] = None
        del self._rank[gone]

    def is_convex(self, ops: tuple[Op, ...]) -> bool:
        """Whether the groups of these ops can be one: no path leaves them and comes back."""
        inside = {self.group(op) for op in ops}
        last = max(self._rank[g] for g in inside)
        pending = [s for g in sorted(inside) for s in self._after[g] if s not in inside]
        seen: set[Group] = set()
        while pending:
            g = pending.pop()
            if g in inside:
                return False
            if g not in seen and self._rank[g] < last:
                seen.add(g)
                self.visited += 1
                pending.extend(self._after[g])
        return True

    def _ordered(self, a: Op, b: Op) -> tuple[Group, Group]:
        u, v = self._group[a.name], self._group[b.name]
        return (u, v) if self._rank[u] <= self._rank[v] else (v, u)

    def _detour(self, u: Group, v: Group) -> bool:
        """Whether a path of two or more edges leads from u to v."""
        limit = self._rank[v]
        pending = [s for s in self._after[u] if s != v and self._rank[s] < limit]
        seen = set(pending)
        while pending:
            g = pending.pop()
            self.visited += 1
            for s in self._after[g]:
                if s == v:
                    return True
                if s not in seen and self._rank[s] < limit:
                    seen.add(s)
                    pending.append(s)
        return False

    def _rerank(self, u: Group, v: Group) -> None:
        """Give u a rank right for both: what leads to v before it, what u feeds after it."""
        low, high = self._rank[u], self._rank[v]
        down = self._between(u, self._after, low, high)
        up = self._between(v, self._before, low, high)
        slots = sorted([low, high] + [self._rank[g] for g in (*down, *up)])
        for g, rank in zip(up, slots):
            self._rank[g] = rank
        self._rank[u] = slots[len(up)]
        for g, rank in zip(down, slots[len(up) + 1 :]):
            self._rank[g] = rank

    def _between(self, start: Group, step: dict[Group, dict[Group, None]], low: int,
                 high: int) -> list[Group]:  # fmt: skip
        """Groups reachable from `start`, ranked strictly between two, in order of rank."""
        pending, seen = [start], {start}
        while pending:
            for g in step[pending.pop()]:
                if g not in seen and low < self._rank[g] < high:
                    seen.add(g)
                    self.visited += 1
                    pending.append(g)
        seen.discard(start)
        return sorted(seen, key=lambda g: self._rank[g])
