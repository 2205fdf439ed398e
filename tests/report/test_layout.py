"""The layered drawing: edges run down, nodes do not overlap, long edges pass between nodes."""

from __future__ import annotations

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.samples import network
from tvm_dnnfusion.report.drawing import quotient
from tvm_dnnfusion.report.layout import Sizes, layered

SIZES = Sizes()


@st.composite
def dags(draw):
    count = draw(st.integers(1, 24))
    nodes = [f"n{i}" for i in range(count)]
    pairs = [(a, b) for a, b in itertools.combinations(nodes, 2)]
    return nodes, draw(st.lists(st.sampled_from(pairs), max_size=60)) if pairs else []


@settings(max_examples=80, deadline=None)
@given(dags())
def test_edges_run_down_and_nodes_keep_apart(dag):
    nodes, edges = dag
    layout = layered(nodes, edges, SIZES)
    assert set(layout.nodes) == set(nodes)
    for a, b in edges:
        assert layout.nodes[a][1] < layout.nodes[b][1]
        assert layout.edges[a, b][0] == layout.nodes[a]
        assert layout.edges[a, b][-1] == layout.nodes[b]
    for (ax, ay), (bx, by) in itertools.combinations(layout.nodes.values(), 2):
        assert ay != by or abs(ax - bx) >= SIZES.node_width
    for x, y in layout.nodes.values():
        assert SIZES.node_width / 2 <= x <= layout.width - SIZES.node_width / 2
        assert SIZES.node_height / 2 <= y <= layout.height - SIZES.node_height / 2


@settings(max_examples=80, deadline=None)
@given(dags())
def test_long_edges_pass_beside_the_nodes_of_the_layers_between(dag):
    nodes, edges = dag
    layout = layered(nodes, edges, SIZES)
    for points in layout.edges.values():
        for x, y in points[1:-1]:
            row = [nx for nx, ny in layout.nodes.values() if ny == y]
            assert all(abs(x - nx) > SIZES.node_width / 2 for nx in row)


def test_a_chain_is_one_column():
    names = [f"n{i}" for i in range(9)]
    layout = layered(names, list(itertools.pairwise(names)))
    assert len({x for x, _ in layout.nodes.values()}) == 1


def test_the_same_graph_gives_the_same_drawing():
    graph, plan = network(80)
    edges = list(quotient(graph, plan))
    names = [b.name for b in plan.blocks]
    assert layered(names, edges) == layered(names, edges)


def test_five_hundred_blocks_take_seconds_at_most():
    graph, plan = network(500)
    began = time.perf_counter()
    layered([b.name for b in plan.blocks], list(quotient(graph, plan)))
    assert time.perf_counter() - began < 5


def test_nothing_to_draw():
    assert layered([], []).nodes == {}
