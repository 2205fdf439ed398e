"""Random DAGs over all mapping types, small enough to compile many of them.

A `Choices` says what comes next: hypothesis in the tests, a seeded generator in a hunt. Values stay
of order one, so that a wrong element shows: weights are scaled by their fan-in, products of two
tensors are bounded. Discontinuous operators (floor, comparisons, argmax) only see values that are
computed without rounding, where one differing bit cannot flip them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph, GraphError

T = TypeVar("T")
MAX_ELEMENTS = 1 << 14
CHANNELS = (1, 2, 3, 4, 5, 8, 12, 16, 17, 32)
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16)


class Choices(Protocol):
    """Where a generator takes its decisions from."""

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        ...

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        ...

    def flag(self) -> bool:
        """Yes or no."""
        ...


class Maker:
    """A graph under construction: tensors that may be read, and which of them are exact."""

    def __init__(self, choices: Choices):
        self.c, self.b = choices, GraphBuilder()
        self.pool: list[str] = []
        self.exact: dict[str, bool] = {}
        self.rng = np.random.default_rng(choices.number(0, 1 << 16))

    def shape(self, x: str) -> tuple[int, ...]:
        """The dimensions of a tensor."""
        return self.b.tensors[x].dims

    def dtype(self, x: str) -> str:
        """The element type of a tensor."""
        return self.b.tensors[x].dtype

    def input(self, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """A new parameter."""
        x = self.b.input(f"x{len(self.b.inputs)}", shape, dtype)
        self.exact[x] = True
        self.pool.append(x)
        return x

    def weight(self, shape: tuple[int, ...], fan_in: int = 1) -> str:
        """A constant with values of order 1 / sqrt(fan_in)."""
        data = self.rng.uniform(-1, 1, shape).astype("float32") * np.float32(1.7 / fan_in**0.5)
        x = self.b.constant("w", data.astype("float32"))
        self.exact[x] = True
        return x

    def indices(self, shape: tuple[int, ...], below: int) -> str:
        """A constant of positions."""
        x = self.b.constant("at", self.rng.integers(0, below, shape), "int64")
        self.exact[x] = True
        return x

    def add(self, kind: str, *operands: Any, exact: bool = False, **attrs: Any) -> Any:
        """Append an op; its results may be read by later ones. Raises GraphError."""
        names = [o for x in operands for o in (x if isinstance(x, tuple) else (x,))
                 if isinstance(o, str)]  # fmt: skip
        result = self.b.op(kind, *operands, **attrs)
        outs = result if isinstance(result, tuple) else (result,)
        for t in outs:
            self.exact[t] = exact and all(self.exact[n] for n in names)
            if 0 < self.b.tensors[t].elements <= MAX_ELEMENTS:
                self.pool.append(t)
        return result

    def operand(self, rank: Sequence[int] = (), dtype: str = "float32", exact: bool = False) -> str:
        """A tensor to read, mostly a recent one. Raises GraphError where none fits."""
        good = [t for t in self.pool if self.dtype(t) == dtype and (not exact or self.exact[t])
                and (not rank or len(self.shape(t)) in rank)]  # fmt: skip
        if not good:
            raise GraphError("nothing fits")
        return self.c.pick(good[-4:] if self.c.number(0, 3) else good)

    def partner(self, x: str) -> str:
        """A second operand that broadcasts with `x`: same shape, or some of its dimensions 1."""
        shape = self.shape(x)
        good = [t for t in self.pool
                if self.dtype(t) == self.dtype(x) and _fits(self.shape(t), shape)]  # fmt: skip
        if self.dtype(x) != "float32" or self.c.number(0, 3):
            return self.c.pick(good[-6:])
        how = self.c.number(0, 2)
        small = tuple(n if how == 0 or self.c.flag() else 1 for n in shape)
        if how == 2:
            small = small[self.c.number(0, len(shape)) :]
        return self.weight(small)

    def axis(self, x: str) -> int:
        """An axis of a tensor, counted from either end. Raises GraphError for a scalar."""
        rank = len(self.shape(x))
        if not rank:
            raise GraphError("a scalar has no axis")
        return self.c.number(-rank, rank - 1)


def _fits(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    padded = (1,) * (len(wide) - len(shape)) + shape
    return len(padded) == len(wide) and all(a in (1, b) for a, b in zip(padded, wide))


Step = Callable[[Maker], object]


def random_dag(choices: Choices, steps: Sequence[Step], length: int) -> Graph:
    """A graph of about `length` ops; all that nothing reads is returned, and some more."""
    m = Maker(choices)
    for _ in range(choices.number(1, 2)):
        m.input(_input_shape(choices))
    tries = 0
    while len(m.b.ops) < length and tries < 4 * length:
        tries += 1
        try:
            choices.pick(steps)(m)
        except GraphError:
            continue  # the operator does not take what was picked
    if not m.b.ops:
        m.add("nn.relu", m.pool[0], exact=True)
    read = {t for op in m.b.ops for t in op.inputs}
    made = [t for op in m.b.ops for t in op.outputs]
    extra = [choices.pick(made) for _ in range(choices.number(0, 2))]
    m.b.output(*(t for t in made if t not in read or t in extra))
    return m.b.build()


def _input_shape(c: Choices) -> tuple[int, ...]:
    rank = c.pick((4, 4, 4, 3, 2, 5, 1))
    if rank == 1:
        return (c.pick((1, 5, 16, 33, 64)),)
    if rank == 2:
        return (c.pick(WIDTHS), c.pick((3, 8, 16, 31, 32, 50)))
    shape = (c.pick((1, 1, 2)), c.pick(CHANNELS), *(c.pick(WIDTHS) for _ in range(rank - 2)))
    return shape if math.prod(shape) <= MAX_ELEMENTS else (1, 3, *(5,) * (rank - 2))
