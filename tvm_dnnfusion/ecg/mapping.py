"""The five mapping types and their order (DNNFusion, PLDI'21, section 3.1, table 2).

A mapping type says how the elements of an op's input become elements of its output. It belongs to a
pair (op, shapes of its operands), not to the name of the op: an addition whose operand is broadcast
is One-to-Many.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class MappingType(enum.Enum):
    """Relation of input elements to output elements; `complexity` orders them (footnote 1)."""

    ONE_TO_ONE = "One-to-One"
    REORGANIZE = "Reorganize"
    SHUFFLE = "Shuffle"
    ONE_TO_MANY = "One-to-Many"
    MANY_TO_MANY = "Many-to-Many"

    complexity: int
    """0 for One-to-One up to 4 for Many-to-Many."""

    def __init__(self, _: str) -> None:
        self.complexity = len(type(self).__members__)


class Property(enum.Flag):
    """Mathematical properties that rewriting uses (section 4.2)."""

    NONE = 0
    ASSOCIATIVE = enum.auto()
    DISTRIBUTIVE = enum.auto()
    COMMUTATIVE = enum.auto()


def most_complex(types: Iterable[MappingType]) -> MappingType:
    """The type of an op with several input/output pairs: the most complex of theirs."""
    return max(types, key=lambda t: t.complexity, default=MappingType.ONE_TO_ONE)
