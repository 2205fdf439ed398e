"""Concats in place: each producer writes its part of the joined tensor, and nothing is copied.

A concatenation moves every byte once more than its producers do. Where the parts come out of
different kernels anyway, each can be written straight into the joined tensor's memory: the part has
a `Place` there, its readers read at an offset, and the concat needs no kernel. Nested and growing
concats (DenseNet) share one buffer, whose front is the shorter one.

Legal: the part is made by an op that is no barrier and has a template, is not a result of the
function, and has no home elsewhere yet; other parts (parameters, constants, a tensor that is joined
twice) are copied into their place. Profitable: at least two parts hang on different heavy ops,
which no kernel holds together, and the parts begin at whole vectors. Near-linear in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import gcd, prod

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.epilogue import MAX_WALK
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.plan import Place

RUN_BYTES = 64
"""The least bytes of a part that lie together in the joined tensor: one cache line. Below that,
writing in place touches each line from several kernels."""

Start = tuple[int, ...]


def find_places(facts: Facts, device: DeviceSpec) -> dict[str, Place]:
    """Tensor -> its place, for all parts of the concats that are worth joining in place."""
    found: dict[str, Place] = {}
    # from the last concat to the first: a longer one gives a home to those inside it
    for op in reversed(facts.sorted(facts.graph.ops)):
        if op.kind == "concat" and op.name not in facts.barriers:
            found.update(_joined(op, found, facts, device))
    return found


def parts(op: Op, graph: Graph) -> Iterator[tuple[str, Start]]:
    """The operands of a concat, each with the index where it begins in the result."""
    rank = len(graph.tensors[op.output].dims)
    axis, at = int(op.attr("axis", 0) or 0) % rank, 0  # type: ignore[arg-type]
    for t in op.inputs:
        yield t, tuple(at if a == axis else 0 for a in range(rank))
        at += graph.tensors[t].dims[axis]


def home(tensor: str, graph: Graph, places: Mapping[str, Place]) -> Place:
    """Where a tensor lies: its place, or the beginning of its own memory."""
    own = Place(tensor, tensor, (0,) * len(graph.tensors[tensor].dims))
    return places.get(tensor, own)


def expected(op: Op, graph: Graph, places: Mapping[str, Place]) -> Iterator[Place]:
    """The place that each operand of a concat must have for the result to be where it is."""
    base = home(op.output, graph, places)
    for t, start in parts(op, graph):
        yield Place(t, base.buffer, _plus(base.start, start))


def is_joined(op: Op, graph: Graph, places: Mapping[str, Place]) -> bool:
    """Whether some part of a concat is written in place, so that no kernel joins them."""
    return op.kind == "concat" and any(
        places.get(p.tensor) == p for p in expected(op, graph, places)
    )


def copied(op: Op, graph: Graph, places: Mapping[str, Place]) -> tuple[Place, ...]:
    """The operands of a joined concat that have to be copied, and where to."""
    seen: dict[Place, None] = {}
    for place in expected(op, graph, places):
        if places.get(place.tensor) != place:
            seen[place] = None
    return tuple(seen)


def granted(alone: Sequence[Op], graph: Graph, places: Mapping[str, Place]) -> set[str]:
    """The tensors whose places follow from concats that are blocks by themselves (`alone`).

    A concat that lies nowhere else gives places to its parts, one that has a place does so too, and
    one whose parts all have theirs side by side is where the first of them is.
    """
    concats = [op for op in alone if op.kind == "concat"]
    found: set[str] = set()
    while True:
        before = len(found)
        for op in concats:
            wanted = list(expected(op, graph, places))
            right = [p.tensor for p in wanted if places.get(p.tensor) == p]
            if op.output in found or op.output not in places:
                found.update(right)
            elif len(right) == len(wanted) and found.issuperset(right):
                found.add(op.output)
        if len(found) == before:
            return found


def _joined(
    op: Op, found: Mapping[str, Place], facts: Facts, device: DeviceSpec
) -> dict[str, Place]:
    """The places that one concat adds; none where it is not joined in place."""
    graph = facts.graph
    front = _inside(op, found, facts)
    if front is not None:
        return {op.output: front}
    new: dict[str, Place] = {}
    for place in expected(op, graph, found):
        t = place.tensor
        if t not in found and t not in new and t != place.buffer and _has_no_home(t, facts):
            new[t] = place
    if not _worthwhile(op, new, facts) or not _lines_up(op, found, facts, device):
        return {}
    return new


def _inside(op: Op, found: Mapping[str, Place], facts: Facts) -> Place | None:
    """The place of a concat whose parts already lie side by side in a longer one."""
    places = [found.get(t) for t in op.inputs]
    first = places[0]
    if first is None or op.output in found or not _has_no_home(op.output, facts):
        return None
    wanted = (
        Place(t, first.buffer, _plus(first.start, start)) for t, start in parts(op, facts.graph)
    )
    if list(wanted) != places:
        return None
    return Place(op.output, first.buffer, first.start)


def _has_no_home(tensor: str, facts: Facts) -> bool:
    """Whether a tensor may lie inside another one: only templates write and read it."""
    graph = facts.graph
    producer = graph.producers.get(tensor)
    if producer is None or graph.is_output(tensor) or not graph.tensors[tensor].elements:
        return False
    readers = graph.consumers[tensor]
    if any(facts.is_alone(op) for op in (producer, *readers)):
        return False
    # a view has the memory of what it shows, which must then be whole
    return not any(facts.types[op.name] is MappingType.REORGANIZE for op in readers)


def _worthwhile(op: Op, new: Mapping[str, Place], facts: Facts) -> bool:
    """Whether parts of it hang on different heavy ops: one block holds one, so bytes are saved."""
    made = facts.graph.producers
    heavy = {t: set(_heavy(made[t], facts)) for t in op.inputs if t in made}
    return any(a and b and not a & b for t, a in heavy.items() if t in new for b in heavy.values())


def _heavy(start: Op, facts: Facts) -> tuple[str, ...]:
    """The nearest heavy ops that an op is computed from."""
    found: dict[str, None] = {}
    pending, seen = [start], {start.name: None}
    while pending and len(seen) <= MAX_WALK:
        op = pending.pop(0)
        if facts.is_heavy(op):
            found[op.name] = None
            continue
        for p in facts.predecessors[op.name]:
            if p.name not in seen:
                seen[p.name] = None
                pending.append(p)
    return tuple(found)


def _lines_up(op: Op, found: Mapping[str, Place], facts: Facts, device: DeviceSpec) -> bool:
    """Whether the parts begin at whole vectors of a blocked layout, or at whole cache lines."""
    graph = facts.graph
    record = graph.tensors[op.output]
    axis = int(op.attr("axis", 0) or 0) % len(record.dims)  # type: ignore[arg-type]
    widths = [graph.tensors[t].dims[axis] for t in op.inputs]
    if prod(record.dims[axis + 1 :]) * min(widths) * record.itemsize < RUN_BYTES:
        return False
    base = home(op.output, graph, found)
    if axis != 1 or len(record.dims) < 3 or graph.is_output(base.buffer):
        return True
    lanes = device.lanes(record.dtype)
    joint = gcd(lanes, base.start[1], *widths)
    return 2 * joint >= max(gcd(lanes, w) for w in widths)


def _plus(a: Start, b: Start) -> Start:
    return tuple(x + y for x, y in zip(a, b))
