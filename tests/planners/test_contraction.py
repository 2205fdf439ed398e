"""The incremental check of cycles against a check from scratch."""

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planners.graphs import chain, residual_net
from tests.planners.random_graphs import random_graph
from tvm_dnnfusion.planners.contraction import Contraction
from tvm_dnnfusion.planners.facts import Facts


def quotient(facts: Facts, groups: dict[str, int]) -> nx.DiGraph:
    out = nx.DiGraph()
    out.add_nodes_from(groups.values())
    for op in facts.graph.ops:
        for s in facts.successors[op.name]:
            if groups[op.name] != groups[s.name]:
                out.add_edge(groups[op.name], groups[s.name])
    return out


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_joining_is_allowed_exactly_when_the_blocks_stay_acyclic(data):
    graph = data.draw(random_graph())
    facts = Facts(graph)
    contraction = Contraction(facts)
    groups = {op.name: i for i, op in enumerate(graph.ops)}
    pairs = [(op, s) for op in graph.ops for s in facts.successors[op.name]]
    for op, s in data.draw(st.permutations(pairs)):
        merged = {n: groups[op.name] if g == groups[s.name] else g for n, g in groups.items()}
        acyclic = nx.is_directed_acyclic_graph(quotient(facts, merged))
        assert contraction.can_join(op, s) is acyclic
        if acyclic:
            contraction.join(op, s)
            groups = merged
        together = groups[op.name] == groups[s.name]
        assert (contraction.group(op) == contraction.group(s)) is together


def test_a_chain_needs_no_search():
    graph = chain(200)
    contraction = Contraction(Facts(graph))
    for a, b in zip(graph.ops, graph.ops[1:]):
        assert contraction.can_join(a, b)
        contraction.join(a, b)
    assert contraction.visited == 0


def test_a_skip_connection_is_seen():
    graph = residual_net(1)
    ops = {op.name: op for op in graph.ops}
    contraction = Contraction(Facts(graph))
    assert contraction.is_convex((ops["relu"], ops["conv2d_1"], ops["add"]))
    graph = residual_net(2)
    ops = {op.name: op for op in graph.ops}
    contraction = Contraction(Facts(graph))
    assert not contraction.can_join(ops["relu_1"], ops["add_1"])
    assert not contraction.is_convex((ops["relu_1"], ops["add_1"]))
    assert contraction.is_convex((ops["relu_1"], *(ops[n] for n in (
        "conv2d_2", "relu_2", "conv2d_3", "add_1"))))  # fmt: skip
