"""One match of one rule, as guards, derivations and programs see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvm_dnnfusion.ecg.graph import Attr, GraphError, Lit, Op, Ref, Tensor
from tvm_dnnfusion.ecg.shapes import Call, broadcast
from tvm_dnnfusion.rewrite.bounds import Interval, interval
from tvm_dnnfusion.rewrite.draft import Draft
from tvm_dnnfusion.rewrite.match import Chain, Env, Template
from tvm_dnnfusion.rewrite.pattern import COMMUTATIVE, Hole, Node, Num, Pattern, Seq, Var
from tvm_dnnfusion.rewrite.work import Work


@dataclass
class Site:
    """The graph, the root op, what the names of the rule stand for, and the draft to write to."""

    work: Work
    root: Op
    draft: Draft
    env: Env = field(default_factory=Env)

    def tensor(self, name: str) -> str:
        """The tensor that a name stands for; a chain is made in the draft."""
        value = self.env.values[name]
        if isinstance(value, Chain):
            return self.draft.chain(value.kind, value.leaves)
        if not isinstance(value, str):
            raise KeyError(f"{name} is no tensor")
        return value

    def record(self, name: str) -> Tensor:
        """Shape and type of a named tensor (of a chain: what it combines to)."""
        value = self.env.values[name]
        if isinstance(value, Chain):
            parts = [self.work.tensors[t] for t in value.leaves]
            call = Call(value.kind, (), {}, self.work.tensors)
            return Tensor(name, broadcast(call, *(p.dims for p in parts)), parts[0].dtype)
        return self.draft.tensors[str(value)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a named tensor."""
        return self.record(name).dims

    def dtype(self, name: str) -> str:
        """Element type of a named tensor."""
        return self.record(name).dtype

    def const(self, name: str) -> np.ndarray | None:
        """Data of a named tensor, or None when it is not a constant."""
        value = self.env.values[name]
        return self.draft.constants.get(value) if isinstance(value, str) else None

    def number(self, name: str) -> float | None:
        """The number that all elements of a named constant equal, or None."""
        value = self.env.values[name]
        return self.work.splat(value) if isinstance(value, str) else None

    def interval(self, name: str) -> Interval:
        """What is known of a named tensor's values."""
        value = self.env.values[name]
        if isinstance(value, Chain):
            return Interval()
        return interval(self.work, str(value))

    def attrs(self, name: str) -> dict[str, Attr]:
        """Attributes bound by `**name`, or those of a class's operator."""
        value = self.env.values[name]
        return dict(value.attrs if isinstance(value, Template) else value)  # type: ignore

    def kind(self, name: str) -> str:
        """The kind that a class name stands for."""
        value = self.env.values[name]
        if not isinstance(value, Template):
            raise KeyError(f"{name} is no class")
        return value.kind

    def literal(self, name: str) -> Any:
        """A literal argument as Python values, or an attribute."""
        value = self.env.values[name]
        if isinstance(value, tuple):
            return tuple(v.value if isinstance(v, Lit) else v for v in value)
        return value.value if isinstance(value, Lit) else value

    def emit(self, p: Pattern) -> str:
        """Write a pattern to the draft; returns its tensor. Raises GraphError when it cannot be."""
        if isinstance(p, Var):
            return self.tensor(p.name)
        if isinstance(p, Node):
            return self._emit_node(p)
        raise GraphError(f"{p} is no tensor")

    def bind(self, values: Mapping[str, Any]) -> None:
        """More names: arrays become constants."""
        for name, value in values.items():
            if isinstance(value, (np.ndarray, np.generic)):
                value = self.draft.constant(name.lower(), np.asarray(value))
            self.env = self.env.bind(name, value)

    def _emit_node(self, p: Node) -> str:
        if p.kind == "fill":
            return self._fill(p)
        if p.label is not None:
            template = self.env.values[p.label]
            assert isinstance(template, Template)
            args = (*(Ref(self.emit(a)) for a in p.args), *template.args)
            return self.draft.op(template.kind, *args, **dict(template.attrs))  # type: ignore
        attrs: dict[str, Any] = dict(self.attrs(p.rest)) if p.rest else {}
        for key, value in p.fixed:
            attrs[key] = self.literal(value.name) if isinstance(value, Hole) else value
        if p.kind in COMMUTATIVE and len(p.args) > 2:
            return self._emit_chain(p)
        first = [self._operand(a) for a in p.args if not isinstance(a, Num)]
        rest = iter(first)
        dtype = self.draft.tensors[first[0]].dtype if isinstance(first[0], str) else "float32"
        operands = [self._number(a, dtype) if isinstance(a, Num) else next(rest) for a in p.args]
        return self.draft.op(p.kind, *operands, **attrs)

    def _emit_chain(self, p: Node) -> str:
        parts = [a for a in p.args if not isinstance(a, Num)]
        names = [self.emit(a) for a in parts]
        dtype = self.draft.tensors[names[0]].dtype
        names += [self._number(a, dtype) for a in p.args if isinstance(a, Num)]
        return self.draft.chain(p.kind, tuple(names))

    def _operand(self, p: Pattern) -> Any:
        if isinstance(p, Seq):
            return tuple(self.emit(a) for a in p.items)
        if isinstance(p, Hole):
            return self.env.values[p.name]
        return self.emit(p)

    def _number(self, p: Num, dtype: str) -> str:
        return self.draft.constant("k", np.asarray(p.value, dtype))

    def _fill(self, p: Node) -> str:
        """A tensor like the root's, full of a number."""
        (value,) = p.args
        record = self.work.tensors[self.root.output]
        if not isinstance(value, Num):
            raise GraphError("fill takes a number")
        scalar = self._number(value, record.dtype)
        return self.draft.op("broadcast_to", scalar, Lit("shape", record.dims))
