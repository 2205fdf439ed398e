"""May two groups of ops be one kernel? Legality only: what it would gain is the cost's to say.

`judge` is one pure function with three answers: fuse (table 3 is green, or an extension holds),
profile (yellow: ask a cost), no. Every answer carries a reason of the closed set and the figures
behind it. The checks stand in the order in which a reader would ask: may these ops be fused at all,
does the table allow the pair, does the graph, does the device. Cost: linear in the two groups,
apart from convexity, which the caller may answer from a structure of its own (`contraction.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.mapping import MappingType, most_complex
from tvm_dnnfusion.planners.extension import extension
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.limits import Limits, buffers, leaves, live_values, mixed_widths
from tvm_dnnfusion.planners.matrix import Cell, Colour, cell
from tvm_dnnfusion.planners.plan import Reason

Numbers = tuple[tuple[str, float], ...]


class Answer(enum.Enum):
    """What legality says of a pair."""

    FUSE = "fuse"
    PROFILE = "profile"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, its reason and figures, and the mapping type that the fused op would have.

    For PROFILE the reason is that of the profit (FUSED_PROFIT) and holds once the cost agrees.
    """

    answer: Answer
    reason: Reason
    numbers: Numbers = ()
    mapping: MappingType | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One side of a pair: ops in topological order, and their accumulated mapping type."""

    ops: tuple[Op, ...]
    mapping: MappingType

    @staticmethod
    def single(op: Op, facts: Facts) -> Part:
        """One op; a barrier counts as Many-to-Many, and is refused before its type is asked."""
        heavy = MappingType.MANY_TO_MANY
        return Part((op,), heavy if op.name in facts.barriers else facts.intrinsic(op))


def judge(
    first: Part,
    second: Part,
    facts: Facts,
    limits: Limits,
    convex: Callable[[], bool] | None = None,
    extensions: bool = True,
) -> Verdict:
    """Whether `second`, which reads results of `first`, may join it in one kernel.

    Parameters
    ----------
    first, second : the producing and the consuming side, disjoint, joined by at least one edge.
    facts, limits : of the graph and of the device.
    convex : answers whether no path leaves the pair and comes back; None: the graph is searched.
    extensions : whether the pairs of `extension.py` are allowed.

    Raises
    ------
    ValueError when no edge joins the two.
    """
    refused = _never(first, second, facts)
    if refused is not None:
        return refused
    entry = facts.entry(first.ops, second.ops)
    if entry is None:
        raise ValueError(f"no edge from {first.ops[0].name} to {second.ops[0].name}")
    found = cell(first.mapping, most_complex((second.mapping, entry)))
    allowed = _table(found, first, second, facts, limits, extensions)
    if allowed.answer is Answer.NO:
        return allowed
    ops = facts.sorted((*first.ops, *second.ops))
    if not (convex() if convex else is_convex(ops, facts)):
        return Verdict(Answer.NO, Reason.NOT_CONVEX)
    return _escape(ops, facts) or _device(ops, facts, limits) or allowed


def is_convex(ops: Sequence[Op], facts: Facts) -> bool:
    """Whether no path leaves a group of ops and comes back to it.

    Searches forward from what the group feeds, no further than its last op in canonical order.
    """
    inside = {op.name for op in ops}
    last = max(facts.order[name] for name in inside)
    pending = [s for op in ops for s in facts.successors[op.name] if s.name not in inside]
    seen: set[str] = set()
    while pending:
        op = pending.pop()
        if op.name in inside:
            return False
        if op.name not in seen and facts.order[op.name] < last:
            seen.add(op.name)
            pending.extend(facts.successors[op.name])
    return True


def _never(first: Part, second: Part, facts: Facts) -> Verdict | None:
    names = [op.name for op in (*first.ops, *second.ops)]
    if any(name in facts.barriers for name in names):
        return Verdict(Answer.NO, Reason.BARRIER)
    if any(facts.is_alone(op) for op in (*first.ops, *second.ops)):
        return Verdict(Answer.NO, Reason.OWN_KERNEL)
    return None


def _table(found: Cell, first: Part, second: Part, facts: Facts, limits: Limits,
           extensions: bool) -> Verdict:  # fmt: skip
    if found.colour is Colour.GREEN:
        return Verdict(Answer.FUSE, Reason.FUSED_GREEN, (), found.mapping)
    if found.colour is Colour.YELLOW:
        return Verdict(Answer.PROFILE, Reason.FUSED_PROFIT, (), found.mapping)
    more = extension(first.ops, second.ops, facts, limits.row_bytes) if extensions else None
    if more is None:
        return Verdict(Answer.NO, Reason.RED)
    return Verdict(Answer.FUSE, Reason.FUSED_EXTENSION, more.numbers, MappingType.MANY_TO_MANY)


def _escape(ops: tuple[Op, ...], facts: Facts) -> Verdict | None:
    """Refuse when a value that leaves the block feeds, inside it, an op with loops of its own.

    Such an op (an anchor, a pooling, an expansion) reads its operands piece by piece and often: the
    kernel never holds the whole value to write it out. In a row block each row is whole.
    """
    inside = {op.name for op in ops}
    rows = {found[0] for found in map(facts.rows, ops) if found is not None}
    hard: dict[str, bool] = {}
    for op in reversed(ops):
        after = any(hard.get(s.name, False) for s in facts.successors[op.name])
        hard[op.name] = after or _has_own_loops(op, inside, rows, facts)
    for op in ops:
        for t in op.outputs:
            readers = [c for c in facts.graph.consumers[t] if c.name in inside]
            if any(hard[c.name] for c in readers) and leaves(t, inside, facts.graph):
                return _no(Reason.ESCAPES, value_bytes=facts.graph.tensors[t].nbytes)
    return None


def _has_own_loops(op: Op, inside: set[str], rows: set[int], facts: Facts) -> bool:
    """Whether the op is heavy, or expands a value of the block that is not one number per row."""
    if facts.is_heavy(op):
        return facts.rows(op) is None
    made = [t for t in op.inputs if t in facts.graph.producers]
    grown = [t for t in made if facts.graph.producers[t].name in inside
             and facts.edge(op, t) is MappingType.ONE_TO_MANY]  # fmt: skip
    return any(facts.elements(t) not in rows for t in grown)


def _device(ops: tuple[Op, ...], facts: Facts, limits: Limits) -> Verdict | None:
    needed = buffers(ops, facts.graph)
    if needed > limits.kernel_args:
        return _no(Reason.KERNEL_ARGS, buffers=needed, limit=limits.kernel_args)
    widths = mixed_widths(ops, facts)
    if widths is not None:
        return _no(Reason.DTYPE, anchor_bits=widths[0], other_bits=widths[1])
    if len(ops) > limits.block_ops:
        return _no(Reason.TOO_HEAVY, ops=len(ops), limit=limits.block_ops)
    live = live_values(ops, facts.graph)
    if live > limits.registers:
        return _no(Reason.TOO_HEAVY, live_values=live, registers=limits.registers)
    return None


def _no(reason: Reason, **numbers: int) -> Verdict:
    return Verdict(Answer.NO, reason, tuple((k, float(v)) for k, v in numbers.items()))
