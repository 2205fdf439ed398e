"""Better as an epilogue: an elementwise op belongs to the heavy op before it, not to the one after.

Listing 1 grows from a One-to-One seed to its successors first, and table 3 has One-to-One before
Many-to-Many green. A ReLU between two convolutions would so become a prologue of the second, which
computes it once for every window that reads it, when the first could apply it to its registers for
nothing. `heavy_before` finds the op that could. Cost: at most `MAX_WALK` ops are looked at.

A split is the exception: as an epilogue it would make a kernel write several tensors, each of some
columns only. Where products or attention read its parts, `parts_read_in_place` leaves it to them:
there it is an offset in the index.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.contraction import Contraction
from tvm_dnnfusion.planners.facts import Facts

MAX_WALK = 32
"""Ops looked at on the way back; the longest activation that exporters write out (GELU by tanh)
with bias, scale and residual has a dozen."""


def heavy_before(starts: tuple[Op, ...], facts: Facts, contraction: Contraction,
                 free: Callable[[Op], bool]) -> tuple[Op, ...] | None:  # fmt: skip
    """A heavy op that can take `starts` and what lies between as its epilogue, or None.

    Returns
    -------
    The heavy op and, in canonical order, the ops of the path from it to `starts`.

    Parameters
    ----------
    starts : the ops that would become a prologue, in canonical order.
    free : whether an op belongs to no finished block.

    Only paths that keep one element to one element are followed: through elementwise ops and
    reshapes, and through transpositions that keep the innermost axis. A concatenation ends the
    path: its producers each make a part of it only.
    """
    walked: dict[str, Op] = {op.name: op for op in starts}
    pending = list(starts)
    while pending and len(walked) <= MAX_WALK + len(starts):
        op = pending.pop(0)
        for p in facts.predecessors[op.name]:
            if p.name in walked or not free(p) or facts.is_alone(p) or not _through(p, op, facts):
                continue
            if facts.is_heavy(p):
                found = (p, *_path(p, walked, facts))
                if contraction.is_convex(found):
                    return found
                continue
            walked[p.name] = p
            pending.append(p)
    return None


def parts_read_in_place(op: Op, facts: Facts) -> bool:
    """Whether it is a split whose parts only go, through movements, to products or attention."""
    if op.kind != "split":
        return False
    pending, seen = list(facts.successors[op.name]), 0
    while pending:
        reader = pending.pop()
        seen += 1
        if reader.kind in _READ_IN_PLACE:
            continue
        if reader.kind not in _MOVED or facts.is_alone(reader) or seen > MAX_WALK:
            return False
        pending.extend(facts.successors[reader.name])
        if facts.graph.is_output(reader.outputs[0]):
            return False
    return seen > 0 and not any(facts.graph.is_output(t) for t in op.outputs)


_READ_IN_PLACE = frozenset(("nn.attention", "nn.attention_bias", "matmul"))
_MOVED = frozenset(("reshape", "permute_dims"))


def _through(producer: Op, op: Op, facts: Facts) -> bool:
    """Whether the op keeps each element of the producer's result: one in, one out."""
    graph = facts.graph
    for t in producer.outputs:
        if t not in op.inputs or facts.elements(t) != facts.elements(op.outputs[0]):
            continue
        kind = facts.edge(op, t)
        if kind in (MappingType.ONE_TO_ONE, MappingType.REORGANIZE):
            return True
        if kind is MappingType.SHUFFLE:
            rank = len(graph.tensors[t].dims)
            axes = op.ints("axes") if op.kind == "permute_dims" else ()
            return bool(axes) and axes[-1] % rank == rank - 1
    return False


def _path(heavy: Op, walked: dict[str, Op], facts: Facts) -> tuple[Op, ...]:
    """The ops of `walked` that lie behind the heavy op on the way to the starts."""
    found: dict[str, Op] = {}
    pending = [heavy]
    while pending:
        for s in facts.successors[pending.pop().name]:
            if s.name in walked and s.name not in found:
                found[s.name] = s
                pending.append(s)
    return facts.sorted(found.values())
