"""Every rule of the tables, on its own example: it applies, it is exact, it saves, it stops."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.rewrite import Family, RewriteOptions, all_rules, rewrite
from tvm_dnnfusion.rewrite.canonical import canonical
from tvm_dnnfusion.rewrite.example import example
from tvm_dnnfusion.rewrite.rule import Rule

RULES = [r for r in all_rules() if r.program is None and not r.enabler]
GUARDED = [r for r in RULES if r.guards]


def _name(rule: Rule) -> str:
    return rule.name


def only(*rules: Rule, fold: bool = True) -> RewriteOptions:
    """Options under which nothing but these rules applies."""
    kept = {r.name for r in rules}
    others = frozenset(r.name for r in all_rules() if r.name not in kept)
    return RewriteOptions(disabled=others, fold=fold, range_risk=True)


def _shapes_match(case, graph):
    return {n: s.shape for n, s in case.inputs.items()} == {
        n: graph.tensors[n].shape for n in graph.inputs
    }


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_a_rule_applies_to_its_example_and_gives_what_it_says(rule):
    case = example(rule)
    result = rewrite(case.graph, only(rule))
    assert result.report.counts.get(rule.name, 0) >= 1, result.report.near_misses
    if rule.derive is None:
        expected = rewrite(example(rule, after=True).graph, only(_folding()))
        # what the result shares with itself is computed once on both sides
        assert canonical(result.graph) == canonical(expected.graph)


def _folding() -> Rule:
    return next(r for r in all_rules() if r.name == "fold-constants")


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_a_rule_keeps_the_values(rule):
    case = example(rule)
    after = rewrite(case.graph, only(rule)).graph
    for seed in range(3):
        data = case.data(seed)
        exact = evaluate(case.graph, data, "float64")[case.graph.outputs[0]]
        double = evaluate(after, data, "float64")[after.outputs[0]]
        single = evaluate(after, data, "float32")[after.outputs[0]]
        assert np.isfinite(np.asarray(exact, "float64")).all()
        np.testing.assert_allclose(double, exact, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(single, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", [r for r in RULES if not r.reassociates], ids=_name)
def test_a_rule_that_claims_not_to_change_rounding_is_exact_in_float32(rule):
    case = example(rule)
    after = rewrite(case.graph, only(rule)).graph
    data = case.data(7)
    old = evaluate(case.graph, data)[case.graph.outputs[0]]
    new = evaluate(after, data)[after.outputs[0]]
    np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("rule", [r for r in RULES if not r.always], ids=_name)
def test_a_ranked_rule_saves_flops_then_loads_then_ops(rule):
    report = rewrite(example(rule).graph, only(rule)).report
    before = (report.flops_before, report.bytes_read_before, report.ops_before)
    assert (report.flops_after, report.bytes_read_after, report.ops_after) < before


@pytest.mark.parametrize("rule", GUARDED, ids=_name)
def test_a_guarded_rule_stops_at_its_near_miss_and_says_why(rule):
    assert rule.near_miss is not None, "a guarded rule needs a near miss"
    case = example(rule, near_miss=True)
    report = rewrite(case.graph, only(rule)).report
    assert rule.name not in report.counts
    assert any(g.reason in report.near_misses[rule.name] for g in rule.guards)


@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_rewriting_twice_changes_nothing_more(rule):
    once = rewrite(example(rule).graph, only(rule))
    twice = rewrite(once.graph, only(rule))
    assert twice.report.counts == {}
    assert canonical(twice.graph) == canonical(once.graph)


@pytest.mark.parametrize("range_risk", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=_name)
def test_all_rules_together_keep_the_values_and_end(rule, range_risk):
    case = example(rule)
    options = RewriteOptions(range_risk=range_risk)
    result = rewrite(case.graph, options)
    assert result.report.complete
    data = case.data(11)
    exact = evaluate(case.graph, data, "float64")[case.graph.outputs[0]]
    got = evaluate(result.graph, data, "float64")[result.graph.outputs[0]]
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-6)
    assert rewrite(result.graph, options).report.counts == {}


def test_the_families_have_the_sizes_that_the_paper_counts():
    sizes = {f: sum(r.family is f for r in all_rules()) for f in Family}
    assert sizes[Family.ASSOCIATIVE] == 45
    assert sizes[Family.DISTRIBUTIVE] == 38
    assert sizes[Family.COMMUTATIVE] == 66


def test_the_ten_printed_rules_are_there_with_the_misprint_corrected():
    printed = {r.printed: (r.before, r.after) for r in all_rules() if r.printed}
    assert printed == {
        1: ("recip(A) * recip(A * B)", "square(recip(A)) * recip(B)"),
        2: ("(A * sqrt(B)) * (sqrt(B) * C)", "A * B * C"),
        3: ("abs(A) * B * abs(C)", "abs(A * C) * B"),
        4: ("(A * sum(B, **r)) * (sum(B, **r) * C)", "A * square(sum(B, **r)) * C"),
        5: ("A * C + A * B", "A * (B + C)"),
        6: ("A + A * B", "A * (B + 1)"),
        7: ("square(A + B) - (A + B) * C", "(A + B) * (A + B - C)"),
        8: ("A * B", "B * A"),
        9: ("sum(A << K, **r)", "sum(A, **r) << K"),
        10: ("prod(exp(A), **r)", "exp(sum(A, **r))"),
    }


def test_no_two_rules_are_the_same():
    texts = [(r.before, r.after) for r in all_rules()]
    assert len(set(texts)) == len(texts)
