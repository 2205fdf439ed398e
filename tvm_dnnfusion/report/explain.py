"""Why two layers were, or were not, put in one kernel.

Works on a plan and a graph summary, so it needs neither the model nor a compiler. Every sentence
about an edge comes from the decision that the planner recorded; nothing is guessed afterwards.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Plan, Reason
from tvm_dnnfusion.report.format import number_text
from tvm_dnnfusion.report.names import resolve
from tvm_dnnfusion.report.summary import GraphSummary

ADVICE: Mapping[Reason, str] = {
    Reason.FUSED_GREEN: "nothing to do",
    Reason.FUSED_PROFIT: "nothing to do",
    Reason.FUSED_EXTENSION: "nothing to do",
    Reason.OWN_KERNEL: "nothing: such an operator is one kernel by nature",
    Reason.RED: "no schedule keeps such a pair in one kernel; only rewriting one of the two into "
    "a simpler form (see `dnnfusion rules`) can bring them together",
    Reason.NOT_CONVEX: "fuse what lies between the two as well, or duplicate it, so that no path "
    "leaves the kernel and returns",
    Reason.BARRIER: "replace the operator in the model by one that is not a barrier; "
    "`dnnfusion inspect` gives the barrier's reason",
    Reason.ESCAPES: "let fewer layers read the intermediate result, or do not return it",
    Reason.KERNEL_ARGS: "split the layer that takes the most operands, or use a device whose "
    "kernels take more buffers",
    Reason.DTYPE: "cast both layers to one element type in the model",
    Reason.TOO_HEAVY: "a device with more registers, or smaller layers, would allow it",
    Reason.NO_PROFIT: "measure on this device (--profile with a database) if the figure is an "
    "estimate; a measured figure means that two kernels are faster",
    Reason.BETTER_AS_EPILOGUE: "nothing to do: it runs in its producer's kernel at no cost",
    Reason.BETTER_AS_PROLOGUE: "nothing to do: its readers' kernels read the parts where they lie",
    Reason.TAKEN: "another kernel took it first, from the seed named there; a plan file edited by "
    "hand can be applied with --plan",
    Reason.IN_PLACE: "nothing to do: no byte is moved to join or to part the tensor",
    Reason.COPIED: "let the model join the tensor only once, and neither return it nor reshape it",
    Reason.BASELINE: "use --planner dnnfusion",
    Reason.FUSED_MEMORY: "nothing to do",
    Reason.MEMORY: "a larger buffer or narrower words would let them stay together",
}
"""What a user can do about each reason."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one name ended up: its ops, and the block that holds each."""

    name: str
    ops: tuple[str, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer, as data; `text` is the same in words.

    `path` are op names from one layer to the other along the data, empty when no data flows
    between them. `decisions` are those of the path's edges; `missing` are edges without one.
    """

    a: Placement
    b: Placement
    together: tuple[str, ...]
    path: tuple[str, ...]
    decisions: tuple[EdgeDecision, ...]
    missing: tuple[tuple[str, str], ...]
    text: str

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "a": {"name": self.a.name, "ops": list(self.a.ops), "blocks": list(self.a.blocks)},
            "b": {"name": self.b.name, "ops": list(self.b.ops), "blocks": list(self.b.blocks)},
            "together": list(self.together),
            "path": list(self.path),
            "decisions": [decision_dict(d) for d in self.decisions],
            "missing": [list(edge) for edge in self.missing],
            "text": self.text,
        }


def decision_dict(decision: EdgeDecision) -> dict[str, Any]:
    """A decision as JSON data, with the reason's code and its sentence."""
    return {
        "producer": decision.producer,
        "consumer": decision.consumer,
        "fused": decision.fused,
        "reason": decision.reason.name,
        "text": decision.reason.value,
        "numbers": dict(decision.numbers),
        "source": decision.source,
        "ops": list(decision.ops),
        "advice": ADVICE[decision.reason],
    }


def explain(plan: Plan, graph: GraphSummary, a: str, b: str) -> Explanation:
    """Say in which kernels `a` and `b` are, and why the edges between them were kept or cut.

    Parameters
    ----------
    a, b : names of source layers, ops or kernels, or unambiguous beginnings of them.

    Raises
    ------
    UnknownNameError
        When a name is not known or not clear; its message offers close matches.
    """
    home = {op: block.name for block in plan.blocks for op in block.ops}
    first, second = (_place(graph, plan, home, name) for name in (a, b))
    path = _path(graph, home, first.ops, second.ops) or _path(graph, home, second.ops, first.ops)
    recorded = {(d.producer, d.consumer): d for d in plan.decisions}
    edges = list(itertools.pairwise(path))
    decisions = tuple(recorded[e] for e in edges if e in recorded)
    missing = tuple(e for e in edges if e not in recorded)
    together = tuple(dict.fromkeys(x for x in first.blocks if x in second.blocks))
    text = _text(plan, graph, first, second, together, path, recorded)
    return Explanation(first, second, together, path, decisions, missing, text)


def _place(graph: GraphSummary, plan: Plan, home: Mapping[str, str], name: str) -> Placement:
    ops = resolve(graph, name, plan)
    return Placement(name, ops, tuple(dict.fromkeys(home[op] for op in ops if op in home)))


def _path(
    graph: GraphSummary, home: Mapping[str, str], sources: tuple[str, ...], ends: tuple[str, ...]
) -> tuple[str, ...]:
    """The path along the data that leaves the fewest kernels, then the shortest; () if none."""
    successors = _neighbours(graph)[0]
    best: dict[str, tuple[int, int]] = dict.fromkeys(sources, (0, 0))
    previous: dict[str, str] = {}
    queue = [(0, 0, index, op) for index, op in enumerate(sources)]
    order = itertools.count(len(queue))
    while queue:
        cuts, length, _, op = heapq.heappop(queue)
        if best[op] < (cuts, length):
            continue
        for succ in successors.get(op, ()):
            cost = (cuts + (home.get(op) != home.get(succ)), length + 1)
            if succ not in best or cost < best[succ]:
                best[succ], previous[succ] = cost, op
                heapq.heappush(queue, (*cost, next(order), succ))
    reached = [op for op in ends if op in best and op not in sources]
    if not reached:
        return ()
    out = [min(reached, key=lambda op: best[op])]
    while out[-1] in previous:
        out.append(previous[out[-1]])
    return tuple(reversed(out))


def _text(
    plan: Plan,
    graph: GraphSummary,
    a: Placement,
    b: Placement,
    together: tuple[str, ...],
    path: tuple[str, ...],
    recorded: Mapping[tuple[str, str], EdgeDecision],
) -> str:
    blocks = {block.name: block for block in plan.blocks}
    lines = [_where(graph, p, blocks) for p in (a, b)]
    if set(a.ops) == set(b.ops):
        return "\n".join([*lines, "Both names are the same ops."])
    lines.append(_verdict(a, b, together))
    if not path:
        lines.append(f"No data flows from one to the other. {_common(graph, a, b)}".rstrip())
        return "\n".join(lines)
    lines.append(f"Between them ({len(path) - 1} {'edge' if len(path) == 2 else 'edges'}):")
    for edge in itertools.pairwise(path):
        lines += _edge_lines(graph, edge, recorded.get(edge))
    return "\n".join(lines)


def _where(graph: GraphSummary, placement: Placement, blocks: Mapping[str, Block]) -> str:
    kinds = ", ".join(graph.by_name[op].label for op in placement.ops)
    kernels = ", ".join(_kernel_text(blocks[name]) for name in placement.blocks)
    return f"{placement.name}: {kinds}; in {kernels or 'no kernel'}."


def _kernel_text(block: Block) -> str:
    kind = "barrier" if block.mapping is None else block.mapping.value
    return f"{block.name} [{kind}, {len(block.ops)} op{'s' * (len(block.ops) != 1)}]"


def _verdict(a: Placement, b: Placement, together: tuple[str, ...]) -> str:
    if not together:
        return f"{a.name} and {b.name} are in different kernels."
    if a.blocks == b.blocks and len(together) == 1:
        return f"{a.name} and {b.name} are fused: both are in {together[0]}."
    return f"{a.name} and {b.name} are partly fused: in {', '.join(together)}."


def _edge_lines(
    graph: GraphSummary, edge: tuple[str, str], decision: EdgeDecision | None
) -> list[str]:
    producer, consumer = (graph.by_name[name] for name in edge)
    head = f"  {producer.label} -> {consumer.label}:"
    if decision is None:
        return [head, "    the plan records no decision for this edge"]
    verb = "fused" if decision.fused else "not fused"
    reason = decision.reason.value.removeprefix("fused: ")
    lines = [head, f"    {verb} ({decision.reason.name}): {reason}"]
    if decision.numbers:
        figures = ", ".join(f"{name} = {number_text(name, v)}" for name, v in decision.numbers)
        lines.append(f"    figures ({decision.source}): {figures}")
    if decision.ops:
        names = ", ".join(graph.by_name[name].label for name in decision.ops)
        lines.append(f"    operators that do not fit together: {names}")
    if not decision.fused:
        lines.append(f"    what can be done: {ADVICE[decision.reason]}")
    return lines


def _common(graph: GraphSummary, a: Placement, b: Placement) -> str:
    """The nearest op that both read from, or that reads both: why they look like neighbours."""
    forward, backward = _neighbours(graph)
    for step, words in ((forward, "Both feed"), (backward, "Both read from")):
        near = _reach(step, a.ops)
        shared = [op for op in _reach(step, b.ops) if op in near]
        if shared:
            return f"{words} {graph.by_name[shared[0]].label}."
    return ""


def _neighbours(graph: GraphSummary) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Op name -> names of the ops that read from it, and of those that it reads from."""
    forward: dict[str, list[str]] = {}
    backward: dict[str, list[str]] = {}
    for producer, consumer in graph.edges:
        forward.setdefault(producer, []).append(consumer)
        backward.setdefault(consumer, []).append(producer)
    return forward, backward


def _reach(step: Mapping[str, list[str]], roots: tuple[str, ...]) -> dict[str, None]:
    """Ops that can be reached, nearest first."""
    seen = dict.fromkeys(roots)
    queue = deque(roots)
    while queue:
        for op in step.get(queue.popleft(), ()):
            if op not in seen:
                seen[op] = None
                queue.append(op)
    return seen
