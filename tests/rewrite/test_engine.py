"""The engine: partitions, ranking, determinism, options, reports, and how many steps it takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.rewrite.helpers import assert_same_values, kinds, only, rewritten
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite import (
    Family,
    RewriteOptions,
    Rule,
    register_rule,
    rewrite,
    unregister_rule,
)
from tvm_dnnfusion.rewrite.canonical import canonical
from tvm_dnnfusion.rewrite.engine import selected
from tvm_dnnfusion.rewrite.partition import partitions


def _products(b, x, y, z):
    return b.op("add", b.op("multiply", x, z), b.op("multiply", x, y))


def test_table_4_number_1_by_hand():
    b = GraphBuilder()
    x, y = b.input("x", (6, 8)), b.input("y", (6, 8))
    a = b.op("exp", x)
    out = b.op("multiply", b.op("divide", 1.0, a), b.op("divide", 1.0, b.op("multiply", a, y)))
    graph = b.output(out).build()
    result = rewrite(graph, only("recip-pair"))
    e = GraphBuilder()
    x, y = e.input("x", (6, 8)), e.input("y", (6, 8))
    r = e.op("divide", 1.0, e.op("exp", x))
    expected = e.output(e.op("multiply", e.op("square", r), e.op("divide", 1.0, y))).build()
    assert canonical(result.graph) == canonical(expected)
    assert result.report.flops_after == result.report.flops_before
    assert result.report.bytes_read_after < result.report.bytes_read_before


def test_table_4_number_5_by_hand_needs_the_corrected_right_side():
    b = GraphBuilder()
    x, y, z = (b.input(n, (6, 8)) for n in "xyz")
    result = rewritten(b, _products(b, x, y, z))
    e = GraphBuilder()
    x, y, z = (e.input(n, (6, 8)) for n in "xyz")
    expected = e.output(e.op("multiply", x, e.op("add", y, z))).build()
    assert canonical(result.graph) == canonical(expected)
    assert (result.report.flops_before, result.report.flops_after) == (144, 96)


def test_a_common_factor_is_found_deep_inside_chains():
    b = GraphBuilder()
    x, y, z, u, v = (b.input(n, (6, 8)) for n in "xyzuv")
    left = b.op("multiply", b.op("multiply", y, u), x)
    right = b.op("multiply", b.op("multiply", v, x), z)
    result = rewritten(b, b.op("add", b.op("add", u, left), right))
    assert result.report.counts == {"factor-out": 1} | (
        {"factor-plus-one": 1} if "factor-plus-one" in result.report.counts else {}
    )
    assert kinds(result.graph).count("multiply") <= 4


def test_the_largest_flops_drop_is_applied_first():
    b = GraphBuilder()
    x, w, v = b.input("x", (1, 4, 6, 6)), b.input("w", (5, 4, 3, 3)), b.input("v", (5, 4, 3, 3))
    y = b.op("add", b.op("nn.conv2d", x, w), b.op("nn.conv2d", x, v))
    small = b.op("multiply", b.op("abs", y), b.op("abs", b.input("z", (4, 4))))
    result = rewritten(b, small, atol=1e-5)
    drops = [s.flops_before - s.flops_after for s in result.report.steps]
    assert [s.rule for s in result.report.steps] == ["conv-weight-sum", "abs-times-abs"]
    assert drops == sorted(drops, reverse=True)


def test_ops_without_properties_cut_the_graph_into_partitions():
    b = GraphBuilder()
    x, y = b.input("x", (6, 8)), b.input("y", (6, 8))
    first = b.op("multiply", b.op("exp", x), b.op("exp", y))
    wall = b.op("nn.layer_norm", first, np.ones(8, "float32"), np.zeros(8, "float32"), axes=-1)
    second = b.op("multiply", b.op("abs", wall), b.op("abs", y))
    graph = b.output(second).build()
    groups = [tuple(op.kind for op in group) for group in partitions(graph)]
    assert groups == [("exp", "exp", "multiply"), ("abs", "abs", "multiply")]
    assert rewrite(graph).report.partitions == 2


def test_an_algebraic_rule_does_not_look_through_a_partition_wall():
    rule = register_rule(Rule("test-through-wall", Family.COMMUTATIVE, "abs(lnot(A))", "lnot(A)"))
    try:
        from tvm_dnnfusion.rewrite.candidate import Finder
        from tvm_dnnfusion.rewrite.work import Work

        b = GraphBuilder()
        y = b.op("abs", b.op("logical_not", b.input("x", (4,), "bool")))
        work = Work(b.output(y).build())
        finder = Finder(work, frozenset({"abs"}))
        assert finder.best(rule, work.ops[y]) is None
        assert "outside of the partition" in finder.misses.best[rule.name][1]
        inside = Finder(work, frozenset({"abs", "logical_not"}))
        assert inside.best(rule, work.ops[y]) is not None
    finally:
        unregister_rule(rule.name)


def _network(depth: int = 6) -> Graph:
    rng = np.random.default_rng(0)
    b = GraphBuilder()
    x = b.input("x", (1, 4, 8, 8))
    for i in range(depth):
        w = b.constant("w", rng.standard_normal((4, 4, 3, 3)).astype("float32"))
        y = b.op("nn.conv2d", x, w, padding=1, origins=(f"conv{i}",))
        stats = [b.constant("s", rng.uniform(0.5, 1, 4).astype("float32")) for _ in range(4)]
        y, _, _ = b.op("nn.batch_norm", y, *stats, training=False, origins=(f"norm{i}",))
        y = b.op("nn.relu", y, origins=(f"relu{i}",))
        gate = b.op("mean", b.op("multiply", y, 0.5), axis=(2, 3), keepdims=True)
        y = b.op("add", b.op("multiply", y, gate), b.op("multiply", y, x), origins=(f"se{i}",))
        x = b.op("permute_dims", b.op("permute_dims", y, axes=(0, 2, 3, 1)), axes=(0, 3, 1, 2))
    return b.output(x).build()


def _permuted(graph: Graph, seed: int) -> Graph:
    """The same graph with its ops in a random topological order."""
    rng = random.Random(seed)
    known = {*graph.inputs, *graph.constants}
    left, ops = list(graph.ops), []
    while left:
        op = rng.choice([op for op in left if known.issuperset(op.inputs)])
        left.remove(op)
        ops.append(op)
        known.update(op.outputs)
    return replace(graph, ops=tuple(ops)).check()


@pytest.mark.parametrize("seed", range(4))
def test_the_result_does_not_depend_on_the_order_of_the_ops(seed):
    graph = _network()
    shuffled = _permuted(graph, seed)
    assert [op.name for op in shuffled.ops] != [op.name for op in graph.ops]
    a, b = rewrite(graph), rewrite(shuffled)
    assert [s.rule for s in a.report.steps] == [s.rule for s in b.report.steps]
    assert {op.name: _without_order(op) for op in a.graph.ops} == {
        op.name: _without_order(op) for op in b.graph.ops
    }


def _without_order(op):
    return replace(op, origins=tuple(sorted(op.origins)), rules=tuple(sorted(op.rules)))


def test_the_result_does_not_depend_on_the_hash_seed():
    code = (
        "from tests.rewrite.test_engine import _network, rewrite\n"
        "r = rewrite(_network())\n"
        "print(r.report.to_dict(), [(o.name, o.args, o.origins, o.rules) for o in r.graph.ops])"
    )
    root = Path(__file__).parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1 and "scale-into-weight" in found.pop()


def test_a_second_run_finds_nothing():
    once = rewrite(_network())
    twice = rewrite(once.graph)
    assert twice.report.steps == ()
    assert twice.graph.ops == once.graph.ops


def test_values_origins_and_totals_of_a_network():
    graph = _network()
    result = rewrite(graph)
    assert_same_values(graph, result.graph, rtol=1e-4, atol=1e-4)
    report = result.report
    assert report.ops_after == len(result.graph.ops) < report.ops_before == len(graph.ops)
    assert report.flops_after < report.flops_before
    assert report.steps[-1].flops_after == report.flops_after
    kept = {name for op in result.graph.ops for name in op.origins}
    assert kept == {f"{part}{i}" for i in range(6) for part in ("conv", "norm", "relu", "se")}
    made = [op for op in result.graph.ops if op.rules]
    assert made and all(set(op.rules) <= set(report.counts) for op in made)


def test_the_number_of_matches_tried_grows_linearly(monkeypatch):
    from tvm_dnnfusion.rewrite import candidate

    def looks(depth):
        seen = []
        original = candidate.Finder.best
        monkeypatch.setattr(
            candidate.Finder,
            "best",
            lambda self, rule, op: seen.append(1) or original(self, rule, op),
        )
        result = rewrite(_network(depth))
        monkeypatch.setattr(candidate.Finder, "best", original)
        return len(seen), len(result.report.steps)

    (few, steps), (many, more) = looks(6), looks(24)
    assert more == 4 * steps
    assert many < 4.5 * few


def test_rules_that_change_rounding_can_be_switched_off():
    b = GraphBuilder()
    x, y, z = (b.input(n, (6, 8)) for n in "xyz")
    graph = b.output(_products(b, x, y, z)).build()
    assert rewrite(graph).report.counts == {"factor-out": 1}
    assert rewrite(graph, RewriteOptions(reassociate=False)).report.counts == {}
    assert all(not r.reassociates for r in selected(RewriteOptions(reassociate=False)))


def test_a_disabled_rule_is_not_applied():
    b = GraphBuilder()
    x, y, z = (b.input(n, (6, 8)) for n in "xyz")
    graph = b.output(_products(b, x, y, z)).build()
    assert rewrite(graph, RewriteOptions(disabled=frozenset({"factor-out"}))).report.counts == {}


def test_max_steps_ends_the_run_and_says_so():
    result = rewrite(_network(), RewriteOptions(max_steps=3))
    assert len(result.report.steps) == 3 and not result.report.complete


def test_nothing_is_rewritten_across_a_barrier():
    b = GraphBuilder()
    x = b.input("x", (4,))
    y = b.op("negative", x)
    b.output(b.op("negative", y))
    graph = b.build()
    ops = tuple(replace(op, barrier="OPAQUE_CALL") if op.name == y else op for op in graph.ops)
    result = rewrite(replace(graph, ops=ops))
    assert kinds(result.graph) == ["negative", "negative"]


def test_a_barrier_is_kept_even_when_nobody_reads_it():
    b = GraphBuilder()
    x = b.input("x", (4,))
    b.op("negative", x)
    b.output(b.op("exp", x))
    graph = b.build()
    ops = tuple(
        replace(op, barrier="OPAQUE_CALL") if op.kind == "negative" else op for op in graph.ops
    )
    assert "negative" in kinds(rewrite(replace(graph, ops=ops)).graph)


def test_a_users_rule_works_like_a_built_in_one():
    register_rule(Rule("test-tanh-of-atanh", Family.CLEANUP, "tanh(atanh(A))", "A"))
    try:
        b = GraphBuilder()
        x = b.op("multiply", b.input("x", (6,)), 0.5)
        result = rewritten(b, b.op("tanh", b.op("atanh", x)))
        assert result.report.counts == {"test-tanh-of-atanh": 1}
        assert kinds(result.graph) == ["multiply"]
        with pytest.raises(ValueError, match="registered already"):
            register_rule(Rule("test-tanh-of-atanh", Family.CLEANUP, "tanh(A)", "A"))
    finally:
        unregister_rule("test-tanh-of-atanh")


@pytest.mark.parametrize("text", ["nonsense(A)", "A +", "A if B else C"])
def test_a_rule_that_does_not_parse_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="pattern"):
        register_rule(Rule("test-bad", Family.CLEANUP, text, "A"))


def test_the_report_is_plain_data():
    import json

    report = rewrite(_network()).report
    data = json.loads(json.dumps(report.to_dict()))
    assert data["counts"] == dict(report.counts)
    assert data["steps"][0]["rule"] == report.steps[0].rule


def test_a_symbolic_shape_is_left_alone():
    b = GraphBuilder()
    x = b.input("x", (4,))
    b.output(b.op("add", b.op("negative", x), 0.0))
    graph = b.build()
    tensors = {
        n: replace(t, shape=("n",)) if t.shape == (4,) else t for n, t in graph.tensors.items()
    }
    ops = tuple(replace(op, barrier="SYMBOLIC_SHAPE") for op in graph.ops)
    assert kinds(rewrite(replace(graph, tensors=tensors, ops=ops)).graph) == ["negative", "add"]
