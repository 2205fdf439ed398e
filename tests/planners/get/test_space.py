"""Spaces, plans and their edits: always legal, and the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planners.get.worlds import chain, random_space, residual
from tvm_dnnfusion.planners.get.partition import (
    cyclic_core,
    drawn,
    edited,
    from_fused,
    fused_of,
    is_legal,
    singletons,
)
from tvm_dnnfusion.planners.get.space import Space, mask_of, members


def test_edges_must_follow_the_order():
    with pytest.raises(ValueError, match="2 -> 1 is not in topological order"):
        Space(3, [(0, 1), (2, 1)])


def test_sets_are_bits():
    assert members(mask_of([5, 1, 300])) == [1, 5, 300]
    space = residual()
    assert space.inner(0b1011) == [(0, 1), (0, 3)]
    assert space.connected(0b1011)
    assert not space.connected(0b0101)
    assert not space.convex(0b1011)  # 1 -> 2 -> 3 leaves and comes back
    assert space.convex(0b1110)


def test_groups_that_wait_for_each_other_are_found():
    # 0 -> 3 and 1 -> 2: {0, 2} and {1, 3} would each need the other first
    space = Space(5, [(0, 2), (1, 2), (0, 3), (1, 3), (3, 4)])
    assert cyclic_core(space, (0b00101, 0b01010, 0b10000)) == [0, 1]
    assert not is_legal(space, (0b00101, 0b01010, 0b10000))
    assert cyclic_core(space, (0b00001, 0b11110)) == []
    assert is_legal(space, (0b00001, 0b11110))


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_any_choice_of_fused_edges_gives_a_legal_plan(seed: int, size: int):
    rng = Random(seed)
    space = random_space(rng, size)
    fused = [rng.random() < 0.7 for _ in space.free]
    plan = from_fused(space, fused)
    assert is_legal(space, plan)
    assert from_fused(space, fused_of(space, plan)) == plan


@given(st.integers(0, 10_000), st.integers(2, 30))
def test_edits_keep_plans_legal(seed: int, size: int):
    rng = Random(seed)
    space = random_space(rng, size)
    plan = drawn(space, rng)
    for _ in range(8):
        plan = edited(space, plan, rng)
        assert is_legal(space, plan)


def test_fixed_nodes_stay_alone():
    space = Space(5, chain(5).edges, fixed=[2])
    rng = Random(0)
    for _ in range(20):
        plan = edited(space, drawn(space, rng), rng)
        assert 0b00100 in plan
    assert from_fused(space, [True] * len(space.free)) == (0b00011, 0b00100, 0b11000)


def test_edits_reach_other_plans():
    space, rng = chain(6), Random(1)
    found = {edited(space, singletons(space), rng) for _ in range(50)}
    assert len(found) >= 5
    assert singletons(space) not in found
