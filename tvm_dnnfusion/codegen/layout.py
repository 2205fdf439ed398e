"""Physical layouts of the tensors between blocks (DNNFusion, PLDI'21, section 4.4, inter-block).

Ops are always written over logical indices ([N, C, H, W]). A layout is only how a tensor lies in
memory, so it is an index map at the loads and stores of a kernel: a conversion never needs a kernel
of its own, it is folded into whichever neighbour reads or writes the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """`axis` split into blocks of `factor`, the inner part innermost: NCHW16c is Layout(1, 16).

    `factor` 1 is the plain row-major layout.
    """

    axis: int = 0
    factor: int = 1

    @property
    def blocked(self) -> bool:
        """Whether it differs from row-major."""
        return self.factor > 1

    def shape(self, logical: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in memory: [1, 64, 7, 7] as NCHW16c is [1, 4, 7, 7, 16]."""
        if not self.blocked:
            return logical
        outer = logical[self.axis] // self.factor
        return (*logical[: self.axis], outer, *logical[self.axis + 1 :], self.factor)

    def index(self, logical: tuple[Any, ...]) -> tuple[Any, ...]:
        """The place in memory of a logical index."""
        if not self.blocked:
            return logical
        c = logical[self.axis]
        return (*logical[: self.axis], c // self.factor, *logical[self.axis + 1 :], c % self.factor)

    def logical(self, physical: tuple[Any, ...]) -> tuple[Any, ...]:
        """The logical index of a place in memory."""
        if not self.blocked:
            return physical
        c = physical[self.axis] * self.factor + physical[-1]
        return (*physical[: self.axis], c, *physical[self.axis + 1 : -1])

    def __str__(self) -> str:
        return f"blocked(axis={self.axis}, {self.factor})" if self.blocked else "plain"


PLAIN = Layout()
