"""Table 3, cell by cell, from its text: not from the table that the code holds."""

import pytest

from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.matrix import MATRIX, Colour, cell

NAMES = {"one": MappingType.ONE_TO_ONE, "expand": MappingType.ONE_TO_MANY,
         "many": MappingType.MANY_TO_MANY, "reorganize": MappingType.REORGANIZE,
         "shuffle": MappingType.SHUFFLE}  # fmt: skip

CELLS = """
one        one        one        green
one        expand     expand     green
one        many       many       green
one        reorganize reorganize green
one        shuffle    shuffle    green
expand     one        expand     green
expand     expand     expand     yellow
expand     many       -          red
expand     reorganize expand     yellow
expand     shuffle    expand     yellow
many       one        many       green
many       expand     many       yellow
many       many       -          red
many       reorganize many       yellow
many       shuffle    many       yellow
reorganize one        reorganize green
reorganize expand     expand     yellow
reorganize many       many       yellow
reorganize reorganize reorganize green
reorganize shuffle    reorganize green
shuffle    one        shuffle    green
shuffle    expand     expand     yellow
shuffle    many       many       yellow
shuffle    reorganize reorganize green
shuffle    shuffle    shuffle    green
"""


@pytest.mark.parametrize("line", CELLS.strip().splitlines())
def test_cell(line: str):
    first, second, fused, colour = line.split()
    found = cell(NAMES[first], NAMES[second])
    assert found.colour is Colour[colour.upper()]
    assert found.mapping is NAMES.get(fused)


def test_there_are_twenty_five_cells_and_twenty_three_rules():
    assert len(MATRIX) == 25
    assert sum(c.colour is not Colour.RED for c in MATRIX.values()) == 23
