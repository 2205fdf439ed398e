"""Rules that may overflow or underflow where the original does not are left out by default."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.helpers import kinds, only
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.rewrite import RewriteOptions, all_rules, rewrite
from tvm_dnnfusion.rewrite.engine import selected
from tvm_dnnfusion.rewrite.example import example

RISKY = [r for r in all_rules() if r.range_risk]
HALF = np.float16


def test_the_marked_rules_are_on_by_option_only():
    assert {r.name for r in RISKY} == {
        "recip-pair",
        "sqrt-times-sqrt",
        "rsqrt-times-rsqrt",
        "sqrt-over-sqrt",
        "recip-times-recip",
        "log-plus-log",
        "log-minus-log",
        "divide-twice",
    }
    assert not any(r.range_risk for r in selected(RewriteOptions()))
    assert [r for r in selected(RewriteOptions(range_risk=True)) if r.range_risk] == RISKY


def test_of_the_printed_rules_only_the_first_is_off():
    on = {r.printed for r in selected(RewriteOptions()) if r.printed}
    enablers = {r.printed for r in all_rules() if r.printed and r.enabler}
    assert on | enablers == set(range(2, 11))


@pytest.mark.parametrize("rule", RISKY, ids=lambda r: r.name)
def test_a_marked_rule_does_not_apply_to_its_example_by_default(rule):
    graph = example(rule).graph
    assert rule.name not in rewrite(graph).report.counts
    assert rule.name in rewrite(graph, only(rule.name)).report.counts


def _halves(*kinds: str) -> tuple[GraphBuilder, list[str]]:
    """Two inputs of float16 that are known to be positive, under these functions."""
    b = GraphBuilder()
    xs = [b.input(n, (4, 4), "float16") for n in "xy"]
    safe = [b.op("maximum", x, HALF(2.0**-10)) for x in xs]
    return b, [b.op(k, x) for k, x in zip(kinds, safe, strict=True)]


@pytest.mark.parametrize(
    "function, joined", [("log", "add"), ("sqrt", "multiply"), ("rsqrt", "multiply")]
)
def test_a_product_in_float16_stays_finite_by_default_and_overflows_by_option(function, joined):
    b, parts = _halves(function, function)
    graph = b.output(b.op(joined, *parts)).build()
    data = {"x": np.full((4, 4), 3000, HALF), "y": np.full((4, 4), 3000, HALF)}
    expected = evaluate(graph, data)[graph.outputs[0]]
    assert np.isfinite(expected).all() and (expected != 0).all()
    kept, risky = rewrite(graph).graph, rewrite(graph, RewriteOptions(range_risk=True)).graph
    np.testing.assert_array_equal(evaluate(kept, data)[kept.outputs[0]], expected)
    lost = evaluate(risky, data)[risky.outputs[0]]
    assert (~np.isfinite(lost) | (lost == 0)).all()


def test_a_scaled_sum_in_float16_is_scaled_before_it_is_summed():
    b = GraphBuilder()
    x, s = b.input("x", (2, 256), "float16"), b.input("s", (2, 1), "float16")
    graph = b.output(b.op("sum", b.op("multiply", x, s), axis=(1,), keepdims=True)).build()
    report = rewrite(graph).report
    assert "float16" in report.near_misses["sum-of-scaled"]
    assert "sum-of-scaled" not in report.counts


def test_what_a_type_cannot_hold_is_not_known_to_be_positive():
    """1e-4 squared is 0 in float16: log(a * a) may be -inf, and dividing by it is no identity."""
    b = GraphBuilder()
    x, y = b.input("x", (4, 4), "float16"), b.input("y", (4, 4), "float16")
    small = b.op("maximum", x, HALF(1e-4))
    low = b.op("multiply", small, b.op("maximum", y, HALF(1e-4)))
    graph = b.output(b.op("divide", b.op("multiply", y, low), low)).build()
    report = rewrite(graph, only("multiply-then-divide")).report
    assert "must not be zero" in report.near_misses["multiply-then-divide"]


@pytest.mark.parametrize("power", [0.5, -0.5])
def test_a_power_of_a_half_is_a_root_only_of_what_is_not_negative(power):
    """pow(-inf, 0.5) is inf and pow(-0, -0.5) too; the roots are NaN and -inf."""
    b = GraphBuilder()
    x = b.input("x", (2,))
    graph = b.output(b.op("power", x, power), b.op("power", b.op("exp", x), power)).build()
    root = "sqrt" if power > 0 else "rsqrt"
    assert sorted(kinds(rewrite(graph).graph)) == sorted(["power", "exp", root])


@pytest.mark.parametrize("value", [1e-39, 3e38])
def test_a_divisor_whose_inverse_is_no_normal_number_stays_a_divisor(value):
    b = GraphBuilder()
    graph = b.output(b.op("divide", b.input("x", (4,)), np.float32(value))).build()
    report = rewrite(graph).report
    assert "normal number" in report.near_misses["divide-by-constant"]
