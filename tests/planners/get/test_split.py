"""The recursive splitting of algorithm 1 and its random baseline, on figures checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.planners.get.worlds import SumModel, chain, lbdf, mobile_graph, random_space
from tvm_dnnfusion.planners.get.oracle import Oracle
from tvm_dnnfusion.planners.get.space import Edge, Mask, Space, members
from tvm_dnnfusion.planners.get.split import AllEdges, Explainer, GuidedSplitter, RandomSplitter


class Named:
    """An explainer that names the same edges always, where they lie in the group."""

    def __init__(self, *edges: Edge) -> None:
        self._edges = edges

    def edges(self, group: Mask) -> Sequence[Edge]:
        return [e for e in self._edges if group >> e[0] & group >> e[1] & 1]


def splitter(space: Space, model: SumModel, explainer: Explainer, seed: int = 0) -> GuidedSplitter:
    oracle = Oracle(model)
    return GuidedSplitter(space, oracle, explainer, RandomSplitter(space, oracle, Random(seed)))


def test_category_one_takes_the_cheapest_of_the_cuts_that_leave_two_valid_parts():
    space = Space(4, [(0, 1), (1, 2), (2, 3), (0, 2)])
    model = SumModel(space, [1, 1, 1, 1], cap=4)
    made = splitter(space, model, Named((1, 2), (2, 3)))
    # the cut before node 2 leaves it with two operands from outside: 2 + 3 maps against 1 + 2
    assert made.split(space.all) == (0b0111, 0b1000)
    assert made.stats.rate == 1.0


def test_category_two_keeps_the_largest_valid_part_and_goes_on_with_the_rest():
    space = chain(6)
    model = SumModel(space, [1, 1, 5, 5, 1, 1], cap=6)
    made = splitter(space, model, Named((0, 1), (1, 2), (2, 3), (3, 4)))
    # {0, 1} before {0}; of the rest {4, 5} before {2}; then both parts of {2, 3} fit
    assert made.split(space.all) == (0b000011, 0b110000, 0b000100, 0b001000)
    assert made.stats.rate == 1.0


def test_category_three_goes_on_with_both_parts():
    space = chain(4)
    model = SumModel(space, [3, 3, 3, 3], cap=4)
    assert splitter(space, model, AllEdges(space)).split(space.all) == (1, 2, 4, 8)


def test_a_part_without_named_edges_falls_back_to_random_cuts():
    space = chain(4)
    model = SumModel(space, [3, 3, 3, 3], cap=4)
    made = splitter(space, model, Named((1, 2)))
    assert sorted(made.split(space.all)) == [1, 2, 4, 8]
    assert (made.stats.invalid, made.stats.rectified) == (1, 0)


def test_a_split_is_found_once():
    space = chain(8)
    model = SumModel(space, [1] * 8, cap=5)
    made = splitter(space, model, AllEdges(space))
    first = made.split(space.all)
    asked = len(model.asked)
    assert made.split(space.all) == first
    assert len(model.asked) == asked
    assert made.stats.memory.rate == 0.5


@given(st.integers(0, 10_000), st.integers(2, 16), st.booleans())
def test_splitting_always_ends_in_valid_groups(seed: int, size: int, informed: bool):
    rng = Random(seed)
    space = random_space(rng, size)
    model = SumModel(space, [rng.randrange(1, 9) for _ in range(size)], cap=10)
    oracle = Oracle(model)
    random = RandomSplitter(space, oracle, rng)
    made = GuidedSplitter(space, oracle, AllEdges(space), random) if informed else random
    parts = made.split(space.all)
    assert sum(parts) == space.all
    assert sum(p.bit_count() for p in parts) == size
    for part in parts:
        assert oracle.valid(part)
        assert space.connected(part)
        assert space.convex(part)


def test_informed_splits_of_a_mobile_network_cost_less_than_random_ones():
    model = lbdf(mobile_graph(), 64)
    space = Space(model.network.n, model.network.edges, members(model.unfusable()))
    oracle = Oracle(model)
    group = next(g for g in space.components(space.all & ~space.fixed) if not oracle.valid(g))
    random = [oracle.dram(RandomSplitter(space, oracle, Random(k)).split(group)) for k in range(9)]
    fallback = RandomSplitter(space, oracle, Random(0))
    informed = oracle.dram(GuidedSplitter(space, oracle, AllEdges(space), fallback).split(group))
    assert informed < 0.8 * sorted(random)[4]
