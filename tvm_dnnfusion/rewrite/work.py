"""The graph while it is being rewritten: mutable, indexed, with running totals.

Frozen graphs come in (`Work(graph)`) and go out (`Work.graph()`). Every change keeps the indices:
producer and users of a tensor, ops by value (so that nothing is computed twice), FLOPs and bytes
read. Costs a constant per changed edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from tvm_dnnfusion.ecg.graph import Arg, Attr, Graph, Op, Tensor, map_refs, toposort
from tvm_dnnfusion.ecg.metrics import bytes_read, flops
from tvm_dnnfusion.rewrite.pattern import COMMUTATIVE

INTERN_ELEMENTS = 1 << 16
"""Constants up to this size are compared by value; larger ones are told apart by name."""

Key = tuple[str, tuple[Arg, ...], tuple[tuple[str, Attr], ...]]


@dataclass(frozen=True, slots=True)
class _View:
    """What the metrics read of a graph."""

    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs and bytes read of an op or of several."""

    flops: int
    bytes_read: int


def cost_of(op: Op, tensors: Mapping[str, Tensor]) -> Cost:
    """FLOPs and bytes read of one op."""
    view = cast(Graph, _View(tensors))
    return Cost(flops(op, view), bytes_read(op, view))


class Work:
    """A graph under change."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self.constants: dict[str, np.ndarray] = dict(graph.constants)
        self.outputs: list[str] = list(graph.outputs)
        self.ops: dict[str, Op] = {}
        self.order: dict[str, tuple[int, ...]] = {}
        self.producer: dict[str, Op] = {}
        self.users: dict[str, dict[str, None]] = {}
        self.by_key: dict[Key, str] = {}
        self.costs: dict[str, Cost] = {}
        self._splats: dict[str, float | None] = {}
        self.interned: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        same = {name: self.intern(name) for name in sorted(self.constants)}
        for i, op in enumerate(graph.ops):
            self.add(replace(op, args=tuple(map_refs(a, same) for a in op.args)), (i,))
        for name in sorted(self.ops, reverse=True):  # of equal ops the first by name stays
            if self.ops[name].barrier is None:
                self.by_key[key_of(self.ops[name])] = name

    def intern(self, name: str) -> str:
        """The constant that stands for all constants equal to this one."""
        data = self.constants[name]
        if data.size > INTERN_ELEMENTS:
            return name
        key = (data.dtype.str, data.shape, data.tobytes())
        return self.interned.setdefault(key, name)

    def add(self, op: Op, order: tuple[int, ...]) -> None:
        """Put in an op whose tensors are declared."""
        self.ops[op.name], self.order[op.name] = op, order
        for t in op.outputs:
            self.producer[t] = op
        for t in op.inputs:
            self.users.setdefault(t, {})[op.name] = None
        if op.barrier is None:
            self.by_key.setdefault(key_of(op), op.name)
            self.costs[op.name] = cost_of(op, self.tensors)

    def remove(self, op: Op) -> None:
        """Take out an op; its output tensors stay declared."""
        del self.ops[op.name], self.order[op.name]
        for t in op.outputs:
            if self.producer.get(t) is op:
                del self.producer[t]
        for t in dict.fromkeys(op.inputs):
            self.users[t].pop(op.name, None)
        if self.by_key.get(key_of(op)) == op.name:
            del self.by_key[key_of(op)]
        self.costs.pop(op.name, None)

    def update(self, op: Op) -> None:
        """Replace the op of the same name and outputs."""
        order = self.order[op.name]
        self.remove(self.ops[op.name])
        self.add(op, order)

    def rewire(self, old: str, new: str) -> tuple[str, ...]:
        """Let every reader of `old` read `new`; returns the readers' names."""
        readers = tuple(self.users.get(old, {}))
        for name in readers:
            op = self.ops[name]
            args = tuple(map_refs(a, {old: new}) for a in op.args)
            self.update(replace(op, args=args))
        self.outputs = [new if t == old else t for t in self.outputs]
        return readers

    def used(self, tensor: str) -> bool:
        """Whether an op or the caller reads the tensor."""
        return bool(self.users.get(tensor)) or tensor in self.outputs

    def single(self, tensor: str) -> bool:
        """Whether exactly one op reads the tensor, and the caller does not."""
        return len(self.users.get(tensor, ())) == 1 and tensor not in self.outputs

    def splat(self, tensor: str) -> float | None:
        """The number that all elements of a constant equal, or None."""
        if tensor not in self._splats:
            data = self.constants.get(tensor)
            same = data is not None and data.size > 0 and bool((data == data.flat[0]).all())
            self._splats[tensor] = data.flat[0].item() if same and data is not None else None
        return self._splats[tensor]

    def total(self) -> Cost:
        """FLOPs and bytes read of all ops."""
        return Cost(
            sum(c.flops for c in self.costs.values()),
            sum(c.bytes_read for c in self.costs.values()),
        )

    def dead_if(self, replaced: Mapping[str, str], kept: Iterable[str]) -> tuple[Op, ...]:
        """The ops that nothing needs once the `replaced` tensors have no reader.

        `kept` are tensors that what comes new will read. Roots first.
        """
        alive = {*kept, *(t for t in self.outputs if t not in replaced)}
        dead: dict[str, Op] = {}
        pending = list(dict.fromkeys(self.producer[t].name for t in replaced if t in self.producer))
        while pending:
            op = self.ops[pending.pop(0)]
            if op.name in dead or not _pure(op):
                continue
            if all(
                t not in alive and (t in replaced or all(u in dead for u in self.users.get(t, ())))
                for t in op.outputs
            ):
                dead[op.name] = op
                pending.extend(self.producer[t].name for t in op.inputs if t in self.producer)
        return tuple(dead.values())

    def graph(self) -> Graph:
        """The frozen graph: ops in their order, sorted topologically, unused tensors dropped."""
        ops = sorted(self.ops.values(), key=lambda op: self.order[op.name])
        source = set(self.source.inputs) | set(self.constants)
        ordered = toposort(tuple(ops), source)
        base = replace(self.source, tensors=self.tensors, constants=self.constants)
        return base.rebuild(ordered, outputs=tuple(self.outputs)).check()


def key_of(op: Op) -> Key:
    """What two ops that compute the same have in common."""
    args = tuple(sorted(op.args, key=repr)) if op.kind in COMMUTATIVE else op.args
    return (op.kind, args, op.attrs)


def _pure(op: Op) -> bool:
    return op.barrier is None
