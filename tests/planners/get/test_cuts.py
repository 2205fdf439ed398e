"""Edges to cuts with skip connections (section A.5 of the paper)."""

from __future__ import annotations

from itertools import product
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.planners.get.worlds import chain, random_space, residual, squeeze_excite
from tvm_dnnfusion.planners.get.cuts import cuts_at, cuts_of
from tvm_dnnfusion.planners.get.space import Mask, Space, members


def removed(space: Space, cut: tuple[Mask, Mask]) -> set[tuple[int, int]]:
    """Edges that a cut removes."""
    a, b = cut
    return {(i, j) for i, j in space.edges if a >> i & 1 and b >> j & 1}


def all_cuts(space: Space, group: Mask) -> set[tuple[Mask, Mask]]:
    """Every way to split a group in two connected parts with edges in one direction only."""
    nodes = members(group)
    found: set[tuple[Mask, Mask]] = set()
    for choice in product((0, 1), repeat=len(nodes)):
        a = sum(1 << v for v, c in zip(nodes, choice) if c)
        b = group & ~a
        back = any(space.after[v] & a for v in members(b))
        if a and b and not back and space.connected(a) and space.connected(b):
            found.add((a, b))
    return found


def test_an_edge_of_a_chain_is_a_cut_by_itself():
    space = chain(5)
    assert cuts_at(space, space.all, 1, 2) == [(0b00011, 0b11100)]


def test_the_four_edges_of_a_residual_block_give_three_solutions():
    space = residual()
    found = cuts_of(space, space.all, space.edges)
    assert [sorted(removed(space, c)) for c in found] == [
        [(0, 1), (0, 3)], [(0, 3), (1, 2)], [(0, 3), (2, 3)],
    ]  # fmt: skip


def test_a_skip_edge_has_one_solution_per_companion():
    space = residual()
    assert len(cuts_at(space, space.all, 0, 3)) == 3


def test_an_inner_edge_takes_the_enclosing_skip_with_it():
    space = residual()
    (cut,) = cuts_at(space, space.all, 1, 2)
    assert removed(space, cut) == {(1, 2), (0, 3)}


def test_nested_skips_are_all_broken():
    space = squeeze_excite()
    for cut in cuts_at(space, space.all, 2, 3):
        assert removed(space, cut) == {(2, 3), (1, 4), (0, 6)}
    # the gate's skip: with each of the edges of the branch that it goes round
    companions = [removed(space, c) for c in cuts_at(space, space.all, 1, 4)]
    assert sorted(map(sorted, companions)) == [
        [(0, 6), (1, 2), (1, 4)], [(0, 6), (1, 4), (2, 3)], [(0, 6), (1, 4), (3, 4)],
    ]  # fmt: skip


def test_outside_edges_do_not_matter():
    space = residual()
    assert cuts_at(space, 0b0111, 1, 2) == [(0b0011, 0b0100)]


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_cuts_are_cuts_and_none_of_an_edge_is_missed_on_small_graphs(seed: int, size: int):
    space = random_space(Random(seed), size)
    truth = all_cuts(space, space.all)
    found = set(cuts_of(space, space.all, space.edges))
    assert found <= truth
    for i, j in space.edges:  # an edge that some cut removes is not without one
        expected = any((i, j) in removed(space, c) for c in truth)
        assert bool(cuts_at(space, space.all, i, j)) == expected
