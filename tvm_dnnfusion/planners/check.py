"""Is a plan one for this graph? And what it says of intermediate results.

A plan may come from a file that a person edited: everything that is wrong with it is refused with
the ops named. Cost: linear in ops and edges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tvm_dnnfusion.ecg.catalog import barrier_of
from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners.places import granted
from tvm_dnnfusion.planners.plan import Block, Plan
from tvm_dnnfusion.planners.plan_io import PlanError

_SHOWN = 5


def check_plan(plan: Plan, graph: Graph) -> Plan:
    """The plan with its blocks in execution order, and the ops of each in topological order.

    An order that is already one of these stays as it is: a plan that was saved is read unchanged.

    Raises
    ------
    PlanError
        For an op that the graph does not have, that stands in two blocks or in none; for a barrier
        in a block of several ops; for two blocks of one name; for blocks that wait for each other
        (a path leaves a block and comes back); for a place that no concat gives; for a plan of
        another graph.
    """
    _check_members(plan, graph)
    if plan.fingerprint != fingerprint(graph):
        raise PlanError(
            "the plan was made for another graph: same ops, but other shapes, attributes or edges"
            f" (fingerprint {plan.fingerprint[:12]}, here {fingerprint(graph)[:12]})"
        )
    _check_decisions(plan, graph)
    _check_places(plan, graph)
    for block in plan.blocks:
        fixed = [n for n in block.ops if barrier_of(graph.by_name[n], graph) is not None]
        if fixed and len(block.ops) > 1:
            reason = barrier_of(graph.by_name[fixed[0]], graph)
            text = reason.value if reason else ""
            raise PlanError(f"block {block.name} fuses the barrier {fixed[0]}: {text}")
    blocks = _execution_order(plan, graph)
    return replace(plan, blocks=tuple(replace(b, ops=_inner_order(b, graph)) for b in blocks))


def ir_removable(plan: Plan, graph: Graph) -> Mapping[str, bool]:
    """IR_removable of every op (section 3.1): its results vanish, all their readers being fused."""
    home = {name: block.name for block in plan.blocks for name in block.ops}
    return {
        op.name: bool(graph.successors(op))
        and not any(graph.is_output(t) for t in op.outputs)
        and all(home[s.name] == home[op.name] for s in graph.successors(op))
        for op in graph.ops
    }


def _check_members(plan: Plan, graph: Graph) -> None:
    counts = Counter(b.name for b in plan.blocks)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise PlanError(f"two blocks are named {_some(twice)}")
    home: dict[str, str] = {}
    unknown: list[str] = []
    for block in plan.blocks:
        if not block.ops:
            raise PlanError(f"block {block.name} is empty")
        for name in block.ops:
            if name in home:
                raise PlanError(f"op {name} stands in two blocks: {home[name]} and {block.name}")
            home[name] = block.name
            if name not in graph.by_name:
                unknown.append(f"{name} ({block.name})")
    if unknown:
        raise PlanError(f"the graph has no op {_some(unknown)}")
    missing = [f"{op.name} ({op.kind})" for op in graph.ops if op.name not in home]
    if missing:
        raise PlanError(f"no block holds op {_some(missing)}")


def _check_decisions(plan: Plan, graph: Graph) -> None:
    home = {name: block.name for block in plan.blocks for name in block.ops}
    for d in plan.decisions:
        for name in (d.producer, d.consumer):
            if name not in graph.by_name:
                raise PlanError(f"a decision names op {name}, which the graph does not have")
        if d.fused != (home[d.producer] == home[d.consumer]):
            said = "fused" if d.fused else "not fused"
            raise PlanError(
                f"the decision on {d.producer} -> {d.consumer} says {said}, its blocks say"
                " otherwise"
            )


def _check_places(plan: Plan, graph: Graph) -> None:
    places = {p.tensor: p for p in plan.places}
    if len(places) < len(plan.places):
        raise PlanError("a tensor has two places")
    for p in plan.places:
        if not {p.tensor, p.buffer} <= set(graph.producers) or graph.is_output(p.tensor):
            raise PlanError(f"tensor {p.tensor} cannot have a place in {p.buffer}")
    alone = [graph.by_name[b.ops[0]] for b in plan.blocks if len(b.ops) == 1]
    wrong = [t for t in places if t not in granted(alone, graph, places)]
    if wrong:
        raise PlanError(
            f"the place of {_some(wrong)} is not where a concat that is a block by itself has it"
        )


def _inner_order(block: Block, graph: Graph) -> tuple[str, ...]:
    """The given order of the ops where each comes after those it reads, else the graph's."""
    given = {name: i for i, name in enumerate(block.ops)}
    for name, i in given.items():
        if any(given.get(p.name, -1) > i for p in graph.predecessors(graph.by_name[name])):
            return tuple(sorted(block.ops, key=lambda n: graph.position[n]))
    return block.ops


def _execution_order(plan: Plan, graph: Graph) -> list[Block]:
    """The given order where it is possible, else the nearest that is."""
    home = {name: i for i, block in enumerate(plan.blocks) for name in block.ops}
    needs: list[dict[int, None]] = [{} for _ in plan.blocks]
    for op in graph.ops:
        for p in graph.predecessors(op):
            if home[p.name] != home[op.name]:
                needs[home[op.name]][home[p.name]] = None
    state = [0] * len(plan.blocks)
    out: list[Block] = []
    for root in range(len(plan.blocks)):
        stack = [(root, iter(needs[root]))] if not state[root] else []
        state[root] = state[root] or 1
        while stack:
            i, pending = stack[-1]
            j = next((k for k in pending if state[k] != 2), None)
            if j is None:
                stack.pop()
                state[i] = 2
                out.append(plan.blocks[i])
            elif state[j] == 1:
                ring = [k for k, _ in stack]
                raise PlanError(_cycle([plan.blocks[k] for k in ring[ring.index(j) :]]))
            else:
                state[j] = 1
                stack.append((j, iter(needs[j])))
    return out


def _cycle(blocks: list[Block]) -> str:
    ring = "; ".join(f"{b.name} ({_some(list(b.ops))})" for b in reversed(blocks))
    return f"blocks wait for each other, a path leaves a block and comes back: {ring}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
