"""What was decided of every edge, and the plan that comes of it.

A planner records verdicts while it searches; `assemble` gives every edge of the graph a decision
(no silent no), orders the blocks and names them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.mapping import MappingType, most_complex
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.matrix import Colour, cell
from tvm_dnnfusion.planners.plan import Block, EdgeDecision, Plan, Reason

Numbers = tuple[tuple[str, float], ...]
MAX_NAMED_KINDS = 4

Undecided = Callable[[Op, Op, bool, Facts], Reason]
"""(producer, consumer, whether they share a block, facts) -> reason of an edge nobody looked at."""


@dataclass
class Ledger:
    """Decisions by edge.

    A fusion overrides a refusal. Of two refusals the later one stands, unless it only says what
    follows from the earlier one: that the ops are in other blocks, or that table 3 keeps apart what
    these have become.
    """

    facts: Facts
    found: dict[tuple[str, str], EdgeDecision] = field(default_factory=dict)

    def refuse(self, producers: Sequence[Op], consumers: Sequence[Op], reason: Reason,
               numbers: Numbers = (), source: str = "table") -> None:  # fmt: skip
        """Record why the edges from one group to the other stay cut."""
        for p, _, c in self.facts.links(producers, consumers):
            old = self.found.get((p.name, c.name))
            if old is None or not (old.fused or reason in _CONSEQUENCES):
                self.found[p.name, c.name] = EdgeDecision(
                    p.name, c.name, False, reason, numbers, source
                )

    def fuse(self, producers: Sequence[Op], consumers: Sequence[Op], reason: Reason,
             numbers: Numbers = (), source: str = "table") -> None:  # fmt: skip
        """Record that all edges from one group to the other lie in one kernel now."""
        for p, _, c in self.facts.links(producers, consumers):
            self.found[p.name, c.name] = EdgeDecision(p.name, c.name, True, reason, numbers, source)


@dataclass(frozen=True, slots=True)
class Draft:
    """A block without its name."""

    ops: tuple[Op, ...]
    mapping: MappingType | None
    seed: str | None


def draft_of(ops: Sequence[Op], facts: Facts) -> Draft:
    """A group that someone else chose, as a block without a seed.

    Its type is accumulated by table 3, Many-to-Many where the group joins a red pair; a barrier has
    none.
    """
    ordered = tuple(facts.sorted(ops))
    if ordered[0].name in facts.barriers:
        return Draft(ordered, None, None)
    found = facts.types[ordered[0].name]
    for op in ordered[1:]:
        found = cell(found, facts.types[op.name]).mapping or MappingType.MANY_TO_MANY
    return Draft(ordered, found, None)


def said_by_all(together: Reason, apart: Reason) -> Undecided:
    """The same reason for every edge inside a block, and for every other but the barriers'."""

    def reason(producer: Op, consumer: Op, fused: bool, facts: Facts) -> Reason:
        if fused:
            return together
        barrier = producer.name in facts.barriers or consumer.name in facts.barriers
        return Reason.BARRIER if barrier else apart

    return reason


_CONSEQUENCES = (Reason.TAKEN, Reason.RED)


def assemble(planner: str, drafts: Sequence[Draft], ledger: Ledger, device: str,
             undecided: Undecided | None = None) -> Plan:  # fmt: skip
    """The plan: blocks in execution order with their names, and a decision for every edge.

    The order is that of the blocks' first ops, as far as the edges between blocks allow; it does
    not depend on the order in which drafts or the graph's ops are given.
    """
    facts = ledger.facts
    ordered = _execution_order(drafts, facts)
    blocks = tuple(
        Block(block_name(i, d.ops), tuple(op.name for op in d.ops), d.mapping, d.seed)
        for i, d in enumerate(ordered)
    )
    home = {name: b.name for b in blocks for name in b.ops}
    decisions = _decisions(home, ledger, undecided or left_over)
    return Plan(planner, fingerprint(facts.graph), blocks, decisions, device)


def block_name(index: int, ops: Sequence[Op]) -> str:
    """ "b012_conv2d_add_relu": the place in the plan and up to four kinds, as C identifiers."""
    kinds = (op.kind.removeprefix("nn.").replace(".", "_") for op in ops)
    return f"b{index:03d}_" + "_".join(list(kinds)[:MAX_NAMED_KINDS])


def left_over(producer: Op, consumer: Op, together: bool, facts: Facts) -> Reason:
    """The reason of an edge that the search never came to.

    Inside one block: both ends joined it by other edges. Between two: what legality says of the
    two ops alone where it says no, else that they were taken.
    """
    if producer.name in facts.barriers or consumer.name in facts.barriers:
        return Reason.BARRIER
    if facts.is_alone(producer) or facts.is_alone(consumer):
        return Reason.OWN_KERNEL
    entry = facts.entry((producer,), (consumer,)) or MappingType.ONE_TO_ONE
    second = most_complex((facts.intrinsic(consumer), entry))
    colour = cell(facts.intrinsic(producer), second).colour
    if together:
        return _INSIDE[colour]
    return Reason.RED if colour is Colour.RED else Reason.TAKEN


_INSIDE = {
    Colour.GREEN: Reason.FUSED_GREEN,
    Colour.YELLOW: Reason.FUSED_PROFIT,
    Colour.RED: Reason.FUSED_EXTENSION,
}


def _decisions(
    home: dict[str, str], ledger: Ledger, undecided: Undecided
) -> tuple[EdgeDecision, ...]:
    facts = ledger.facts
    out: list[EdgeDecision] = []
    for producer in facts.sorted(facts.graph.ops):
        for consumer in facts.successors[producer.name]:
            together = home[producer.name] == home[consumer.name]
            found = ledger.found.get((producer.name, consumer.name))
            if found is None or found.fused != together:
                reason = undecided(producer, consumer, together, facts)
                found = EdgeDecision(producer.name, consumer.name, together, reason)
            out.append(found)
    return tuple(out)


def _execution_order(drafts: Sequence[Draft], facts: Facts) -> list[Draft]:
    """Kahn's order of the blocks, the one with the earliest op first among those that are ready."""
    home = {op.name: i for i, d in enumerate(drafts) for op in d.ops}
    after: list[dict[int, None]] = [{} for _ in drafts]
    waits = [0] * len(drafts)
    for i, draft in enumerate(drafts):
        for op in draft.ops:
            for s in facts.successors[op.name]:
                j = home[s.name]
                if j != i and j not in after[i]:
                    after[i][j] = None
                    waits[j] += 1
    first = [min(facts.order[op.name] for op in d.ops) for d in drafts]
    ready = [(first[i], i) for i in range(len(drafts)) if not waits[i]]
    heapq.heapify(ready)
    out: list[Draft] = []
    while ready:
        _, i = heapq.heappop(ready)
        out.append(drafts[i])
        for j in after[i]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, (first[j], j))
    if len(out) != len(drafts):
        names = [d.ops[0].name for d, w in zip(drafts, waits) if w]
        raise AssertionError(f"the blocks of {', '.join(names)} wait for each other")
    return out
