"""What makes two blocks the same measurement: a canonical form, and its hash.

Two blocks are the same when they have the same ops with the same attributes, shapes, dtypes and
wiring, whatever their ops and tensors are called and in whatever order they stand. Each op is
labelled by a hash of itself, refined by the labels of its neighbours (colour refinement, as in
Weisfeiler and Lehman's graph hashing); ops are then written in the topological order that takes the
smallest label first. Cost: a few hashes per op and round, about a millisecond for a block of ten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Lit, Op, Ref


def block_key(
    ops: Sequence[Op],
    graph: Graph,
    device: DeviceSpec,
    schedule_version: str,
    threads: int | None = None,
) -> str:
    """Key of a block's measurement: 64 hexadecimal digits.

    `threads` is None for as many as the device has cores.
    """
    count = device.cores if threads is None else threads
    return entry_key(canonical_block(ops, graph), device.name, count, schedule_version)


def entry_key(block: str, device: str, threads: int, schedule: str) -> str:
    """sha256 of a canonical block and of what it was measured on."""
    text = json.dumps([block, device, threads, schedule], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_block(ops: Sequence[Op], graph: Graph) -> str:
    """A block as JSON that does not depend on names or on the order of independent ops.

    Fields: "in" (shape, dtype and whether constant, per outside tensor), "ops" (kind, attributes,
    arguments, shapes and dtypes of results) and "out" (results that are needed outside). Tensors
    are numbers: negative ones come from outside, the others are results in order.
    """
    order = _canonical_order(tuple(ops), graph)
    inside = {op.name for op in order}
    number: dict[str, int] = {}
    outside: list[str] = []
    made = 0
    rows: list[list[Any]] = []
    for op in order:
        for name in op.inputs:
            if name not in number:
                outside.append(name)
                number[name] = -len(outside)
        args = [_arg(a, number) for a in op.args]
        for name in op.outputs:
            number[name] = made
            made += 1
        rows.append([op.kind, _attrs(op), args, [_type(graph, t) for t in op.outputs]])
    escaping = sorted(number[t] for op in order for t in op.outputs if _escapes(graph, t, inside))
    inputs = [[*_type(graph, t), t in graph.constants] for t in outside]
    return json.dumps({"in": inputs, "ops": rows, "out": escaping}, separators=(",", ":"))


def canonical_tensors(ops: Sequence[Op], graph: Graph) -> tuple[str, ...]:
    """The tensors of a block in the order of their numbers in `canonical_block`: first those from
    outside, then results. Two equal blocks have the same roles at the same places."""
    order = _canonical_order(tuple(ops), graph)
    made = [t for op in order for t in op.outputs]
    inside = set(made)
    outside = dict.fromkeys(t for op in order for t in op.inputs if t not in inside)
    return (*outside, *made)


def _escapes(graph: Graph, tensor: str, inside: set[str]) -> bool:
    """Whether a result is read outside the block, or returned."""
    readers = graph.consumers.get(tensor, ())
    return graph.is_output(tensor) or any(op.name not in inside for op in readers)


def _canonical_order(ops: tuple[Op, ...], graph: Graph) -> tuple[Op, ...]:
    """Topological order that takes the smallest label first.

    Of ops with one label any may come first, since they are alike; the one taken is marked and the
    labels are refined again, so that what belongs to it is told from what belongs to the others.
    """
    maker = {t: (op.name, i) for op in ops for i, t in enumerate(op.outputs)}
    uses = _uses(ops)
    inside = {op.name for op in ops}
    label = _settled({op.name: _own_label(op, graph, inside) for op in ops}, ops, maker, uses)
    waits = {op.name: {maker[t][0] for t in op.inputs if t in maker} for op in ops}
    left = list(ops)
    out: list[Op] = []
    while left:
        ready = [op for op in left if not waits[op.name]]
        if not ready:
            raise ValueError("the block's ops form a cycle")
        first = min(ready, key=lambda op: label[op.name])
        if sum(label[op.name] == label[first.name] for op in ready) > 1:
            marked = {**label, first.name: _hash(label[first.name], "first")}
            label = _settled(marked, ops, maker, uses)
        out.append(first)
        left.remove(first)
        for op in left:
            waits[op.name].discard(first.name)
    return tuple(out)


def _uses(ops: tuple[Op, ...]) -> dict[str, list[tuple[str, int]]]:
    """Tensor -> (op, place among its inputs) of every reader in the block."""
    uses: dict[str, list[tuple[str, int]]] = {}
    for op in ops:
        for place, t in enumerate(op.inputs):
            uses.setdefault(t, []).append((op.name, place))
    return uses


def _settled(
    label: dict[str, str],
    ops: tuple[Op, ...],
    maker: dict[str, tuple[str, int]],
    uses: dict[str, list[tuple[str, int]]],
) -> dict[str, str]:
    """Labels refined until a round tells no more ops apart."""
    while len(set(label.values())) < len(ops):
        refined = {op.name: _refined(op, label, maker, uses) for op in ops}
        done = len(set(refined.values())) == len(set(label.values()))
        label = refined
        if done:
            break
    return label


def _own_label(op: Op, graph: Graph, inside: set[str]) -> str:
    """Hash of an op by itself: tensors are replaced by their type."""
    args = json.dumps([_typed_arg(a, graph) for a in op.args])
    results = [[*_type(graph, t), _escapes(graph, t, inside)] for t in op.outputs]
    return _hash(op.kind, json.dumps(_attrs(op)), args, json.dumps(results))


def _refined(
    op: Op,
    label: dict[str, str],
    maker: dict[str, tuple[str, int]],
    uses: dict[str, list[tuple[str, int]]],
) -> str:
    """Label of an op with those of the ops it reads, feeds and shares inputs with."""
    parts = [label[op.name]]
    for t in op.inputs:
        if t in maker:
            parts.append(f"{label[maker[t][0]]}.{maker[t][1]}")
        else:
            parts.append("|".join(sorted(f"{label[n]}.{p}" for n, p in uses[t])))
    for t in op.outputs:
        parts.append("|".join(sorted(f"{label[n]}.{p}" for n, p in uses.get(t, ()))))
    return _hash(*parts)


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _type(graph: Graph, tensor: str) -> list[Any]:
    record = graph.tensors[tensor]
    return [None if record.shape is None else list(record.shape), record.dtype]


def _attrs(op: Op) -> list[list[Any]]:
    return [[name, _plain(value)] for name, value in sorted(op.attrs)]


def _arg(arg: Arg, number: dict[str, int]) -> Any:
    """An argument with numbers for tensors."""
    if isinstance(arg, Ref):
        return number[arg.tensor]
    if isinstance(arg, Lit):
        return {arg.kind: _plain(arg.value)}
    return [_arg(a, number) for a in arg]


def _typed_arg(arg: Arg, graph: Graph) -> Any:
    """An argument with types for tensors."""
    if isinstance(arg, Ref):
        return {"tensor": _type(graph, arg.tensor), "constant": arg.tensor in graph.constants}
    if isinstance(arg, Lit):
        return {arg.kind: _plain(arg.value)}
    return [_typed_arg(a, graph) for a in arg]


def _plain(value: Attr) -> Any:
    """A value as JSON has it; numbers that JSON lacks (inf, nan) as text."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return repr(value)
    return value
