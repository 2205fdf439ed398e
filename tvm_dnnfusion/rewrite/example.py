"""The graph of a rule's own example: for tests, for docs/rules.md, and for counting its cost.

A rule that is data can be drawn: its pattern, with the shapes that `Rule.example` gives (m x n = 6
x 8 where it gives none), is a graph on which the rule applies; with `Rule.near_miss` it is one on
which the first guard stops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite.pattern import Hole, Node, Num, Pattern, Seq, Var, parse, variables
from tvm_dnnfusion.rewrite.rule import Rule, Spec

_CLASS_KIND = {
    "unary": "tanh",
    "monotone": "nn.relu",
    "odd": "tanh",
    "even": "abs",
    "keeps_zero": "nn.relu",
    "idempotent": "floor",
    "binary": "multiply",
    "conv": "nn.conv2d",
    "conv_transpose": "nn.conv2d_transpose",
    "reduce": "sum",
}


@dataclass(frozen=True)
class Example:
    """A graph, and the range of values of each of its inputs."""

    graph: Graph
    inputs: Mapping[str, Spec]

    def data(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs within the ranges (float32, also for a run in double)."""
        rng = np.random.default_rng(seed)
        out = {}
        for name, spec in self.inputs.items():
            if spec.dtype.startswith("float"):
                out[name] = rng.uniform(spec.low, spec.high, spec.shape).astype("float32")
            else:
                out[name] = rng.integers(int(spec.low), int(spec.high), spec.shape).astype(
                    spec.dtype
                )
        return out


def example(
    rule: Rule, after: bool = False, near_miss: bool = False, extents: tuple[int, int] | None = None
) -> Example:
    """The graph of `before` (or of `after`, for a rule that derives nothing).

    `extents` are other m and n. Raises ValueError for a program, which has no example, and when
    extents are asked for where the example has shapes of its own.
    """
    values = rule.near_miss if near_miss else rule.example
    if extents is not None:
        values = {k: _resized(v, extents) for k, v in (values or {}).items()}
    pattern = rule.target if after else rule.pattern
    if pattern is None or rule.pattern is None:
        raise ValueError(f"rule {rule.name} is a program; it has no example of its own")
    drawing = _Drawing(dict(values or {}), extents or (6, 8), joins_in_order=not after)
    for v in variables(rule.pattern):  # both sides declare their inputs in one order
        drawing.var(v)
    out = drawing.emit(pattern, drawing.like(rule.pattern))
    drawing.builder.output(out)
    return Example(drawing.builder.build(), drawing.inputs)


def _resized(value: Any, extents: tuple[int, int]) -> Any:
    if isinstance(value, dict) and set(value) == {"axis", "keepdims"}:
        return value
    if isinstance(value, (dict, tuple)):  # attributes or arguments that fit one shape only
        raise ValueError("the example has shapes of its own")
    if not isinstance(value, Spec):
        return value
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {
        (6, 8): extents,
        (6, 1): (extents[0], 1),
        (): (),
    }
    if value.shape not in shapes:
        raise ValueError("the example has shapes of its own")
    return replace(value, shape=shapes[value.shape])


class _Drawing:
    def __init__(
        self, values: dict[str, Any], extents: tuple[int, int], joins_in_order: bool
    ) -> None:
        self.extents = extents
        self.joins_in_order = joins_in_order
        self.builder = GraphBuilder()
        self.values = values
        self.named: dict[str, str] = {}
        self.inputs: dict[str, Spec] = {}

    def var(self, v: Var) -> str:
        if v.name not in self.named:
            self.named[v.name] = self._declare(v)
        return self.named[v.name]

    def _declare(self, v: Var) -> str:
        value = self.values.get(v.name)
        if isinstance(value, str):
            inner = parse(value)
            for x in variables(inner):
                self.var(x)
            return self.emit(inner, self.like(inner))
        if isinstance(value, (np.ndarray, np.generic)):
            return self.builder.constant(v.name, value)
        if v.constant and not isinstance(value, Spec):
            digit = int(v.name[1:]) if v.name[1:].isdigit() else 0
            return self.builder.constant(v.name, np.float32(1.25 + 0.5 * digit))
        spec = value if isinstance(value, Spec) else Spec(self.extents)
        self.inputs[v.name] = spec
        return self.builder.input(v.name, spec.shape, spec.dtype)

    def like(self, p: Pattern) -> str:
        """Type of the numbers in a pattern: that of its first tensor."""
        return self.builder.tensors[self.var(variables(p)[0])].dtype

    def emit(self, p: Pattern, dtype: str) -> Any:
        if isinstance(p, Var):
            return self.var(p)
        if isinstance(p, Num):
            return self.builder.constant("k", np.asarray(p.value, dtype))
        if isinstance(p, Hole):
            return self.values[p.name]
        if isinstance(p, Seq):
            return tuple(self.emit(a, dtype) for a in p.items)
        return self._node(p, dtype)

    def _node(self, p: Node, dtype: str) -> str:
        args = [self.emit(a, dtype) for a in p.args]
        if p.label is not None:
            kind, more, attrs = self._class(p.label)
            return self.builder.op(kind, *args, *more, **attrs)
        attrs = dict(self.values.get(p.rest, {})) if p.rest else {}
        for key, value in p.fixed:
            attrs[key] = self.values.get(value.name) if isinstance(value, Hole) else value
        if p.chains:
            # as a draft joins them, so that constants meet each other
            first = (
                args
                if self.joins_in_order
                else sorted(args, key=lambda t: t not in self.builder.constants)
            )
            out = first[0]
            for a in first[1:]:
                out = self.builder.op(p.kind, out, a)
            return out
        return self.builder.op(p.kind, *args, **attrs)

    def _class(self, label: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        value = self.values.get(label, _CLASS_KIND.get(label.rstrip("0123456789")))
        if isinstance(value, str):
            return value, (), {}
        kind, *more = value
        attrs = more.pop() if more and isinstance(more[-1], dict) else {}
        return kind, tuple(more), attrs
