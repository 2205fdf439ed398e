"""Greedy rewriting: always the rule with the largest FLOPs drop (DNNFusion, section 4.2).

All rules are matched at all ops once; the candidates wait in a heap, ordered by: rules that always
apply, FLOPs saved, bytes read saved, ops saved, order of registration, name of the root; late rules
come when no other is left. After an application only the ops around it are matched again, so the
time is near-linear in the size of the graph. A last pass over all ops makes sure that nothing was
overlooked. Since every ranked rule must lower (FLOPs, bytes read, ops), the process ends;
MAX_STEPS_PER_OP guards against a user's rules.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.rewrite.candidate import Candidate, Finder, renamed
from tvm_dnnfusion.rewrite.partition import kinds_with_properties, partitions
from tvm_dnnfusion.rewrite.pattern import ASSOCIATIVE
from tvm_dnnfusion.rewrite.report import RewriteOptions, RewriteReport, RewriteResult, Step
from tvm_dnnfusion.rewrite.rule import Family, Rule, all_rules
from tvm_dnnfusion.rewrite.work import Cost, Work

MAX_STEPS_PER_OP = 20
"""Applications per op of the source graph; a BatchNorm in a residual block takes about six."""

Entry = tuple[int, tuple[int, int, int], int, str]


def rewrite(graph: Graph, options: RewriteOptions | None = None) -> RewriteResult:
    """Apply the rewriting rules until none lowers the cost.

    Parameters
    ----------
    graph : any graph; nothing is rewritten at or across a barrier.
    options : see RewriteOptions.

    Returns
    -------
    The new graph, whose outputs equal the old one's, and the report.
    """
    engine = _Engine(graph, options or RewriteOptions())
    engine.run()
    return RewriteResult(engine.work.graph(), engine.report())


def selected(options: RewriteOptions) -> tuple[Rule, ...]:
    """The rules that the options leave, in order of registration."""
    return tuple(
        r
        for r in all_rules()
        if not r.enabler
        and r.name not in options.disabled
        and (options.reassociate or not r.reassociates)
        and (options.range_risk or not r.range_risk)
        and (options.fold or r.family is not Family.FOLD)
    )


class _Engine:
    def __init__(self, graph: Graph, options: RewriteOptions) -> None:
        self.graph = graph
        self.work = Work(graph)
        self.rules = selected(options)
        self.index: dict[str, list[int]] = {}
        for i, rule in enumerate(self.rules):
            for kind in rule.roots:
                self.index.setdefault(kind, []).append(i)
        self.reach = max((r.reach for r in self.rules), default=1)
        self.finder = Finder(self.work, kinds_with_properties())
        self.heap: list[Entry] = []
        self.queued: dict[tuple[int, str], Entry] = {}
        self.steps: list[Step] = []
        self.start = self.work.total()
        self.flops = self.start.flops
        limit = options.max_steps
        self.limit = max(1000, MAX_STEPS_PER_OP * len(graph.ops)) if limit is None else limit

    def run(self) -> None:
        """Apply until a full pass finds nothing more."""
        while len(self.steps) < self.limit:
            self._drop_dead()
            before = len(self.steps)
            self._look(dict.fromkeys(sorted(self.work.ops), 0))
            while self.heap and len(self.steps) < self.limit:
                self._pop()
            if len(self.steps) == before:
                return

    def _pop(self) -> None:
        entry = heapq.heappop(self.heap)
        _, _, index, root = entry
        if self.queued.get((index, root)) != entry:
            return  # a later look at the op has taken its place
        del self.queued[index, root]
        if root not in self.work.ops:
            return
        found = self.finder.best(self.rules[index], self.work.ops[root])
        if found is None:
            return
        if self._entry(found, index) != entry:
            self._queue(found, index)
            return
        self._look(self._apply(found))

    def _look(self, distances: Mapping[str, int]) -> None:
        """Match rules at these ops, those that reach as far as the change, and queue the finds."""
        for name, distance in distances.items():
            op = self.work.ops.get(name)
            if op is None or op.barrier is not None:
                continue
            read = self.finder.read_kinds(op)
            for index in (*self.index.get(op.kind, ()), *self.index.get("*", ())):
                rule = self.rules[index]
                if rule.reach < distance or not self.finder.promising(rule, op, read):
                    continue
                found = self.finder.best(rule, op)
                if found is not None:
                    self._queue(found, index)

    def _queue(self, c: Candidate, index: int) -> None:
        entry = self._entry(c, index)
        if self.queued.get((index, c.root)) != entry:
            self.queued[index, c.root] = entry
            heapq.heappush(self.heap, entry)

    def _entry(self, c: Candidate, index: int) -> Entry:
        if c.rule.always:
            return (0, (0, 0, 0), index, c.root)
        if c.rule.late:
            return (2, (0, 0, 0), index, c.root)
        flops, loads, ops = c.gain
        return (1, (-flops, -loads, -ops), index, c.root)

    def _apply(self, c: Candidate) -> dict[str, int]:
        """Put a candidate in; returns the ops to look at again, with their distance."""
        root = self.work.ops[c.root]
        gone = [*c.matched, *(op.name for op in c.dead)]
        sources = [self.work.ops[n] for n in dict.fromkeys(gone) if n in self.work.ops]
        sources.sort(key=lambda op: self.work.order[op.name])
        origins = _merged(op.origins for op in sources)
        rules = (*_merged(op.rules for op in sources), c.rule.name)
        order = self.work.order[c.root]
        touched = {t for op in c.dead for t in op.inputs}
        c = renamed(c)
        self._declare(c)
        changed: list[str] = []
        for old, new in c.replaced.items():
            if new != old:
                changed += self.work.rewire(old, new)
        for op in c.dead:
            self.work.remove(op)
        for i, op in enumerate(c.draft.ops):
            self.work.add(replace(op, origins=origins, rules=rules), (*order, i))
            changed.append(op.name)
            touched.update((*op.inputs, *op.outputs))
        self._keep_origins(c, origins, rules)
        self._record(c, root)
        touched.update(c.replaced.values())
        return self._around(changed, touched)

    def _declare(self, c: Candidate) -> None:
        named = {t for op in c.draft.ops for t in (*op.inputs, *op.outputs)}
        named |= set(c.replaced.values())
        # an output that takes the name of what it replaces is declared already
        for t, data in c.draft.constants.maps[0].items():  # type: ignore[attr-defined]
            if t in named:
                self.work.constants[t] = data
                self.work.tensors[t] = c.draft.tensors[t]
                self.work.intern(t)
        for op in c.draft.ops:
            for t in op.outputs:
                if t not in self.work.tensors:
                    self.work.tensors[t] = c.draft.tensors[t]

    def _keep_origins(self, c: Candidate, origins: tuple[str, ...], rules: tuple[str, ...]) -> None:
        """Where a result is a tensor that was there, its producer takes the origins over."""
        new = {op.name for op in c.draft.ops}
        for t in c.replaced.values():
            op = self.work.producer.get(t)
            if op is not None and op.name not in new:
                self.work.update(
                    replace(
                        op, origins=_merged((op.origins, origins)), rules=_merged((op.rules, rules))
                    )
                )

    def _record(self, c: Candidate, root: Op) -> None:
        after = self.flops - c.gain[0]
        names = tuple(op.name for op in c.dead) or (root.name,)
        self.steps.append(
            Step(c.rule.name, names, tuple(op.name for op in c.draft.ops), self.flops, after)
        )
        self.flops = after

    def _around(self, changed: Iterable[str], touched: Iterable[str]) -> dict[str, int]:
        """Ops whose matches may differ, with the number of ops between them and the change.

        Changed ops are at 0, so are producers and readers of a tensor whose readers changed. A
        step from link to link of one chain counts nothing, since chains are matched as a whole.
        Constants connect nothing: they are shared all over the graph.
        """
        work = self.work
        near = dict.fromkeys(n for n in changed if n in work.ops)
        for t in sorted(t for t in touched if t not in work.constants):
            near.update(dict.fromkeys(work.users.get(t, {})))
            if t in work.producer:
                near[work.producer[t].name] = None
        found = dict.fromkeys(near, 0)
        edge = list(found)
        while edge:
            grown: list[str] = []
            for name in edge:
                op = work.ops[name]
                for u in (u for t in op.outputs for u in work.users.get(t, {})):
                    link = op.kind in ASSOCIATIVE and work.ops[u].kind == op.kind
                    distance = found[name] + (0 if link else 1)
                    if distance <= self.reach and distance < found.get(u, self.reach + 1):
                        found[u] = distance
                        grown.append(u)
            edge = grown
        return dict(sorted(found.items()))

    def _drop_dead(self) -> None:
        """Remove ops whose results nobody reads."""
        for op in sorted(
            self.work.ops.values(), key=lambda o: self.work.order[o.name], reverse=True
        ):
            if op.barrier is None and not any(self.work.used(t) for t in op.outputs):
                self.work.remove(op)

    def report(self) -> RewriteReport:
        """The summary."""
        counts: dict[str, int] = {}
        for s in self.steps:
            counts[s.rule] = counts.get(s.rule, 0) + 1
        end: Cost = self.work.total()
        misses = {
            name: reason
            for name, (_, reason) in sorted(self.finder.misses.best.items())
            if name not in counts
        }
        return RewriteReport(
            counts=dict(sorted(counts.items())),
            steps=tuple(self.steps),
            near_misses=misses,
            ops_before=len(self.graph.ops),
            ops_after=len(self.work.ops),
            flops_before=self.start.flops,
            flops_after=end.flops,
            bytes_read_before=self.start.bytes_read,
            bytes_read_after=end.bytes_read,
            partitions=len(partitions(self.graph)),
            complete=len(self.steps) < self.limit,
        )


def _merged(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))
