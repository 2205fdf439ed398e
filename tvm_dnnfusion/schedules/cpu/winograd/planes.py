"""Buffers whose planes lie an odd number of vectors apart.

A transform of Winograd's writes one vector into each of 16 to 64 planes. At a distance of a power
of two these would all fall into one set of the first cache, and push each other out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tvm import tirx

from tvm_dnnfusion.schedules.cpu import nest


class Planes:
    """A float32 buffer [*lead, *rest]; `rest` is one plane, whole vectors of `lanes`."""

    def __init__(self, name: str, lead: Sequence[int], rest: Sequence[int]):
        self.rest = tuple(rest)
        self.buffer = nest.buffer(name, (*lead, (prod(rest[:-1]) | 1) * rest[-1]))

    def whole(self) -> Any:
        """A statement that mentions the buffer as a whole, and does nothing.

        Without it TVM would cut off the gaps between planes, which nothing reads. It belongs inside
        the loop whose turns have buffers of their own.
        """
        return tirx.Evaluate(self.buffer.data)

    def load(self, *index: Any) -> Any:
        """The element at an index [*lead, *rest]."""
        return nest.load(self.buffer, *self._place(index))

    def put(self, code: nest.Straight, value: Any, *index: Any) -> None:
        """Write a vector: straight-line code's lane is the last index."""
        code.write(self.buffer, value, lambda lane: self._place((*index, lane)))

    def _place(self, index: tuple[Any, ...]) -> tuple[Any, ...]:
        split = len(index) - len(self.rest)
        at: Any = 0
        for i, n in zip(index[split:], self.rest):
            at = at * n + i
        return (*index[:split], at)
