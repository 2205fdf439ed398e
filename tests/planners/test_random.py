"""Plans of random graphs: partition, order, decisions, determinism, structure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planners.graphs import DEVICE, chain, make, permuted, residual_net
from tests.planners.random_graphs import random_graph
from tvm_dnnfusion.cost import AnalyticCost
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import check_plan, ir_removable, plan_from_json, plan_to_json
from tvm_dnnfusion.planners.dnnfusion import DNNFusionPlanner, Search
from tvm_dnnfusion.planners.facts import ANCHORS, Facts
from tvm_dnnfusion.planners.limits import buffers

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = st.fixed_dictionaries({"prefer_epilogue": st.booleans(), "extensions": st.booleans()})


@settings(max_examples=120, deadline=None)
@given(random_graph(), OPTIONS)
def test_a_plan_is_a_partition_into_kernels_that_can_run_in_order(graph, options):
    found = make(graph, **options)
    assert sorted(n for b in found.blocks for n in b.ops) == sorted(op.name for op in graph.ops)
    assert [b.name for b in check_plan(found, graph).blocks] == [b.name for b in found.blocks]
    made = {*graph.inputs, *graph.constants}
    for block in found.blocks:
        ops = [graph.by_name[n] for n in block.ops]
        for op in ops:
            assert set(op.inputs) <= made, f"{op.name} in {block.name} runs too early"
            made.update(op.outputs)


@settings(max_examples=120, deadline=None)
@given(random_graph(), OPTIONS)
def test_every_edge_has_one_decision_and_it_is_true(graph, options):
    found = make(graph, **options)
    edges = [(op.name, s.name) for op in graph.ops for s in graph.successors(op)]
    assert sorted((d.producer, d.consumer) for d in found.decisions) == sorted(edges)
    home = {n: b.name for b in found.blocks for n in b.ops}
    for d in found.decisions:
        assert d.fused is (home[d.producer] == home[d.consumer])
        assert d.fused is d.reason.name.startswith("FUSED")


@settings(max_examples=120, deadline=None)
@given(random_graph(), OPTIONS)
def test_blocks_keep_the_structure_that_kernels_can_have(graph, options):
    found, facts = make(graph, **options), Facts(graph)
    for block in found.blocks:
        ops = [graph.by_name[n] for n in block.ops]
        assert sum(op.kind in ANCHORS for op in ops) <= 1
        assert len(ops) == 1 or not any(facts.is_alone(op) for op in ops)
        assert len(ops) == 1 or buffers(ops, graph) <= DEVICE.kernel_args
        assert (block.mapping is None) is (ops[0].name in facts.barriers)
        assert block.seed is None or block.seed in block.ops


@settings(max_examples=60, deadline=None)
@given(random_graph())
def test_outputs_are_kept(graph):
    removable = ir_removable(make(graph), graph)
    for op in graph.ops:
        if any(graph.is_output(t) for t in op.outputs):
            assert not removable[op.name]


@settings(max_examples=60, deadline=None)
@given(random_graph(), st.integers(0, 10**6))
def test_the_order_of_the_ops_does_not_matter(graph, seed):
    assert plan_to_json(make(permuted(graph, seed))) == plan_to_json(make(graph))


@settings(max_examples=30, deadline=None)
@given(random_graph())
def test_round_trip(graph):
    found = make(graph)
    assert plan_from_json(plan_to_json(found)) == found


def test_the_hash_seed_does_not_matter():
    code = (
        "from tests.planners.graphs import make, residual_net\n"
        "from tvm_dnnfusion.planners import plan_to_json\n"
        "print(plan_to_json(make(residual_net(3))), end='')"
    )
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT,
                             capture_output=True, text=True, check=True)  # fmt: skip
        assert out.stdout == plan_to_json(make(residual_net(3)))


@pytest.mark.parametrize(("graph", "sizes"), [(chain, (500, 1000, 2000)),
                                              (residual_net, (100, 200, 400))])  # fmt: skip
def test_checks_grow_linearly(graph, sizes):
    counts = []
    for size in sizes:
        search = Search(DNNFusionPlanner(), extend(graph(size)), DEVICE, AnalyticCost(DEVICE))
        search.run()
        counts.append((search.checks + search.contraction.visited) / size)
    assert max(counts) <= 1.05 * min(counts)
    assert counts[-1] < 30
