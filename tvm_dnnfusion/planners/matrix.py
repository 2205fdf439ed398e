"""The fusion-opportunity matrix (DNNFusion, PLDI'21, section 3.2, table 3), literally.

Row: the first op (producer); column: the second (consumer); cell: mapping type of the fused op, and
its colour. Two red cells, as the text of section 3.2 states; green where it says that One-to-One
fuses with any type in either order and that Reorganize and Shuffle fuse among themselves.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tvm_dnnfusion.ecg.mapping import MappingType

ONE = MappingType.ONE_TO_ONE
EXP = MappingType.ONE_TO_MANY
MANY = MappingType.MANY_TO_MANY
REO = MappingType.REORGANIZE
SHU = MappingType.SHUFFLE


class Colour(enum.Enum):
    """What a cell says; the values are the paper's words."""

    GREEN = "fuse_through"
    YELLOW = "fuse_depend"
    RED = "fuse_break"


G, Y, R = Colour.GREEN, Colour.YELLOW, Colour.RED


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the type of the fused op (None where red), and the colour."""

    mapping: MappingType | None
    colour: Colour


_ORDER = (ONE, EXP, MANY, REO, SHU)

# Table 3:     One-to-One  One-to-Many  Many-to-Many  Reorganize  Shuffle      (second op)
_TABLE_3 = (
    (ONE,    ((ONE, G),   (EXP, G),    (MANY, G),    (REO, G),   (SHU, G))),
    (EXP,    ((EXP, G),   (EXP, Y),    (None, R),    (EXP, Y),   (EXP, Y))),
    (MANY,   ((MANY, G),  (MANY, Y),   (None, R),    (MANY, Y),  (MANY, Y))),
    (REO,    ((REO, G),   (EXP, Y),    (MANY, Y),    (REO, G),   (REO, G))),
    (SHU,    ((SHU, G),   (EXP, Y),    (MANY, Y),    (REO, G),   (SHU, G))),
)  # fmt: skip

MATRIX: dict[tuple[MappingType, MappingType], Cell] = {
    (first, second): Cell(*cell) for first, row in _TABLE_3 for second, cell in zip(_ORDER, row)
}
"""(type of the first op, type of the second op) -> cell."""


def cell(first: MappingType, second: MappingType) -> Cell:
    """The cell of table 3 for a producer and a consumer."""
    return MATRIX[first, second]
