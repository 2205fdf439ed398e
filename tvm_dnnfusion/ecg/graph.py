"""The graph part of the Extended Computational Graph: tensors, ops, and their order.

First room of the pipeline (DNNFusion, PLDI'21, section 3). Records are frozen and hold plain Python
values and numpy arrays only, so that rewriting and planning run without a compiler. What is derived
from them (mapping type, FLOPs, bytes) is in `info.py`; how Relax becomes this is in
`tvm_dnnfusion.frontend.relax`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Union

import numpy as np

Attr = Union[int, float, bool, str, None, tuple["Attr", ...]]
"""An attribute value: a scalar, or a (nested) tuple of them."""

Dim = Union[int, str]
"""A dimension: a number of elements, or the text of a symbolic expression."""


class GraphError(ValueError):
    """The graph is not well formed; the message names the op or the tensor."""


@dataclass(frozen=True)
class Tensor:
    """A value that flows along an edge. What planners ask of it again and again is kept.

    `shape` is in elements, outermost first; None where the rank is unknown. `dtype` is the TVM and
    numpy name ("float32", "int64", "bool"); "" for a value that is not a tensor (a shape, a tuple).
    """

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str

    @cached_property
    def is_static(self) -> bool:
        """Whether every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @cached_property
    def dims(self) -> tuple[int, ...]:
        """The shape as numbers. Raises GraphError when it is symbolic or unknown."""
        if self.shape is None:
            raise GraphError(f"tensor {self.name}: unknown shape")
        out = tuple(d for d in self.shape if isinstance(d, int))
        if len(out) != len(self.shape):
            raise GraphError(f"tensor {self.name}: symbolic shape {self.shape}")
        return out

    @cached_property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        out = 1
        for d in self.dims:
            out *= d
        return out

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return 1 if self.dtype == "bool" else max(1, dtype_bits(self.dtype) // 8)

    @cached_property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.elements * self.itemsize


def dtype_bits(dtype: str) -> int:
    """Width of an element in bits: dtype_bits("float16") == 16."""
    digits = "".join(c for c in dtype.split("_")[0] if c.isdigit())
    return int(digits) if digits else 8


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is a tensor, by name."""

    tensor: str


@dataclass(frozen=True, slots=True)
class Lit:
    """An argument that is not a tensor.

    `kind` is "shape" (value: tuple of int), "str", "dtype" (value: str), "none", or the dtype of
    a scalar ("int64", "float32", value: number), as Relax passes them positionally:
    reshape(x, Lit("shape", (1, 64))), clip(x, Lit("float32", 0.0), Lit("float32", 6.0)).
    """

    kind: str
    value: Attr


Arg = Union[Ref, Lit, tuple["Arg", ...]]
"""An argument of an op; a tuple is a Relax tuple, as concat takes."""


def refs(arg: Arg | tuple[Arg, ...]) -> tuple[str, ...]:
    """The tensors in an argument, in order, with repetitions."""
    if isinstance(arg, Ref):
        return (arg.tensor,)
    if isinstance(arg, tuple):
        return tuple(name for a in arg for name in refs(a))
    return ()


def map_refs(arg: Arg, rename: Mapping[str, str]) -> Arg:
    """The argument with tensors renamed; names that are not in `rename` stay."""
    if isinstance(arg, Ref):
        return Ref(rename.get(arg.tensor, arg.tensor))
    if isinstance(arg, tuple):
        return tuple(map_refs(a, rename) for a in arg)
    return arg


@dataclass(frozen=True)
class Op:
    """One operator.

    `kind` is Relax's name without the prefix ("nn.conv2d", "add"). `attrs` are Relax's attributes
    as plain values, sorted by name. `origins` are the names of the source layers it came from,
    `rules` the rewriting rules that made it. `barrier` is None, or the reason (a code of
    `ecg.catalog.Barrier`) why nothing may be rewritten or fused across it.
    """

    name: str
    kind: str
    args: tuple[Arg, ...]
    outputs: tuple[str, ...]
    attrs: tuple[tuple[str, Attr], ...] = ()
    origins: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    barrier: str | None = None

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Input tensors in order of the arguments, with repetitions."""
        return refs(self.args)

    @property
    def output(self) -> str:
        """The only output. Raises GraphError if there are several."""
        if len(self.outputs) != 1:
            raise GraphError(f"op {self.name} ({self.kind}) has {len(self.outputs)} outputs")
        return self.outputs[0]

    def attr(self, name: str, default: Attr = None) -> Attr:
        """The attribute of that name, or `default`."""
        for key, value in self.attrs:
            if key == name:
                return value
        return default

    def ints(self, name: str) -> tuple[int, ...]:
        """An attribute that is a tuple of numbers (or one number, or None -> ())."""
        value = self.attr(name)
        if value is None:
            return ()
        items = value if isinstance(value, tuple) else (value,)
        return tuple(int(v) for v in items)  # type: ignore[arg-type]


def attrs(**values: Attr) -> tuple[tuple[str, Attr], ...]:
    """Attributes in the form that `Op` holds: attrs(axis=1) == (("axis", 1),)."""
    return tuple(sorted(values.items()))


@dataclass(frozen=True)
class Graph:
    """A function as ops in topological order.

    `constants` maps the names of constant tensors to their data; they are in `tensors` too. Node
    order is deterministic: it is the order of `ops`, and no method iterates over a set.
    """

    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def producers(self) -> Mapping[str, Op]:
        """Tensor name -> the op that makes it (inputs and constants have none)."""
        return {t: op for op in self.ops for t in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Op, ...]]:
        """Tensor name -> the ops that read it, in order, each once."""
        out: dict[str, list[Op]] = {t: [] for t in self.tensors}
        for op in self.ops:
            for t in dict.fromkeys(op.inputs):
                out[t].append(op)
        return {t: tuple(v) for t, v in out.items()}

    @cached_property
    def by_name(self) -> Mapping[str, Op]:
        """Op name -> op."""
        return {op.name: op for op in self.ops}

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Op name -> index in `ops`."""
        return {op.name: i for i, op in enumerate(self.ops)}

    def predecessors(self, op: Op) -> tuple[Op, ...]:
        """The ops whose results `op` reads, in argument order, each once."""
        found = (self.producers.get(t) for t in op.inputs)
        return tuple({p.name: p for p in found if p is not None}.values())

    def successors(self, op: Op) -> tuple[Op, ...]:
        """The ops that read a result of `op`, in order, each once."""
        return tuple({c.name: c for t in op.outputs for c in self.consumers[t]}.values())

    def is_output(self, tensor: str) -> bool:
        """Whether the function returns the tensor."""
        return tensor in self.outputs

    def check(self) -> Graph:
        """Return self, or raise GraphError naming what is wrong (order, names, constants)."""
        defined = set(self.inputs) | set(self.constants)
        seen: set[str] = set()
        for op in self.ops:
            if op.name in seen:
                raise GraphError(f"two ops are named {op.name}")
            seen.add(op.name)
            for t in op.inputs:
                if t not in defined:
                    raise GraphError(f"op {op.name} ({op.kind}) reads {t} before it is made")
            for t in op.outputs:
                if t in defined or t not in self.tensors:
                    raise GraphError(f"op {op.name} ({op.kind}) makes {t}: twice, or undeclared")
                defined.add(t)
        for t in self.outputs:
            if t not in defined:
                raise GraphError(f"the graph returns {t}, which nothing makes")
        return self

    def rebuild(
        self,
        ops: Iterable[Op],
        tensors: Mapping[str, Tensor] | None = None,
        constants: Mapping[str, np.ndarray] | None = None,
        outputs: tuple[str, ...] | None = None,
    ) -> Graph:
        """A graph of these ops, in the same or a new order, with the given parts replaced.

        Drops tensors and constants that nothing reads; sorts the ops topologically and stably.
        """
        outs = self.outputs if outputs is None else outputs
        data = self.constants if constants is None else constants
        records = self.tensors if tensors is None else tensors
        kept = toposort(tuple(ops), set(self.inputs) | set(data))
        used = {*self.inputs, *outs}
        for op in kept:
            used.update(op.inputs, op.outputs)
        return replace(
            self,
            tensors={t: r for t, r in records.items() if t in used},
            ops=kept,
            outputs=outs,
            constants={t: v for t, v in data.items() if t in used},
        )


def toposort(ops: tuple[Op, ...], available: set[str]) -> tuple[Op, ...]:
    """Topological order, stable: ops that already stand in order keep their places.

    Depth-first from each op in turn, with an explicit stack. Raises GraphError on a cycle or on a
    tensor that nothing makes.
    """
    producer = {t: op for op in ops for t in op.outputs}
    state: dict[str, int] = {}
    out: list[Op] = []
    for root in ops:
        stack = [(root, iter(root.inputs))] if state.get(root.name) is None else []
        state.setdefault(root.name, 1)
        while stack:
            op, pending = stack[-1]
            nxt = next(
                (
                    producer.get(t) or _missing(op, t)
                    for t in pending
                    if t not in available and state.get(_name(producer, t)) != 2
                ),
                None,
            )
            if nxt is None:
                stack.pop()
                state[op.name] = 2
                out.append(op)
            elif state.get(nxt.name) == 1:
                raise GraphError(f"cycle through {nxt.name} ({nxt.kind}) and {op.name}")
            else:
                state[nxt.name] = 1
                stack.append((nxt, iter(nxt.inputs)))
    return tuple(out)


def _name(producer: Mapping[str, Op], tensor: str) -> str:
    return producer[tensor].name if tensor in producer else ""


def _missing(op: Op, tensor: str) -> Op:
    raise GraphError(f"op {op.name} ({op.kind}) reads {tensor}, which nothing makes")
