"""Rules on integers: they wrap, and their division truncates, so the algebra of reals is barred."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rewrite.helpers import only
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph, GraphError
from tvm_dnnfusion.rewrite import Family, RewriteOptions, all_rules, rewrite
from tvm_dnnfusion.rewrite.candidate import INTEGERS
from tvm_dnnfusion.rewrite.example import Example, example
from tvm_dnnfusion.rewrite.pattern import nodes, variables
from tvm_dnnfusion.rewrite.rule import Rule, Spec

RULES = [r for r in all_rules() if r.program is None]
ALL = RewriteOptions(range_risk=True)

FLOATING_ONLY = ("argmax-of-log-softmax", "argmax-of-softmax")
"""Marked as sound since positions are integers; the values they order must be floating."""


def _cast(value, v, dtype: str):
    """A value of an example, of an integer type: negatives too, and constants small enough."""
    if isinstance(value, Spec) or value is None:
        spec = value or Spec()
        if spec.dtype == "bool":
            return spec
        low, high = (-128, 128) if dtype == "int8" else (-6, 7)
        return Spec(spec.shape, dtype, low, high)
    if isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind == "f":
        return np.ceil(np.abs(value) * 2).astype(dtype)
    if isinstance(value, (np.ndarray, np.generic)) and v is not None:
        return np.asarray(value).astype(dtype)
    return value


def integer_example(rule: Rule, dtype: str) -> Example:
    """The rule's example with integers in place of floats."""
    names = {v.name: v for v in variables(rule.pattern)}
    values = {k: _cast(v, names.get(k), dtype) for k, v in rule.example.items()}
    for name, v in names.items():
        if name not in values:
            values[name] = np.asarray(2, dtype) if v.constant else _cast(None, v, dtype)
    for text in [t for t in values.values() if isinstance(t, str)]:
        for v in _names_in(text):
            values.setdefault(v, _cast(None, None, dtype))
    return example(replace(rule, example=values))


def _names_in(text: str) -> list[str]:
    return [c for c in "BCD" if f"({c}" in text]


def _values(graph: Graph, data) -> np.ndarray:
    return evaluate(graph, data)[graph.outputs[0]]


def _assert_equal_if_fired(rule: Rule, dtype: str) -> bool:
    """Whether the rule fired; the values must be the same, otherwise a reason must be given."""
    case = integer_example(rule, dtype)
    result = rewrite(case.graph, only(rule.name))
    fired = rule.name in result.report.counts
    if fired:
        for seed in range(5):
            data = case.data(seed)
            np.testing.assert_array_equal(_values(result.graph, data), _values(case.graph, data))
    elif not rule.enabler and "0.5" not in rule.before:  # a number that integers do not have
        assert result.report.near_misses[rule.name]
    return fired


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_every_rule_on_integers_is_exact_or_does_not_fire(rule):
    try:
        fired = _assert_equal_if_fired(rule, "int32")
    except (GraphError, TypeError) as error:
        pytest.skip(f"no such operator on integers: {error}")
    if fired:
        assert rule.integers or rule.family is Family.CLEANUP


SOUND = [
    r for r in RULES if (r.integers or r.family is Family.CLEANUP) and not (r.enabler or r.guards)
]


@pytest.mark.parametrize("rule", SOUND, ids=lambda r: r.name)
def test_a_rule_that_takes_integers_is_exact_where_they_wrap(rule):
    assert _assert_equal_if_fired(rule, "int8")


@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.integers and r.guards], ids=lambda r: r.name
)
def test_a_guarded_rule_marked_for_integers_is_exact_where_they_wrap(rule):
    assert _assert_equal_if_fired(rule, "int8") != (rule.name in FLOATING_ONLY)


@pytest.mark.parametrize("kind", ["abs", "sign", "nn.relu"])
def test_an_idempotent_function_of_integers_is_applied_once(kind):
    b = GraphBuilder()
    graph = b.output(b.op(kind, b.op(kind, b.input("x", (256,), "int8")))).build()
    result = rewrite(graph)
    assert result.report.counts == {"idempotent": 1} or kind == "nn.relu"
    data = {"x": np.arange(-128, 128).astype("int8")}
    np.testing.assert_array_equal(_values(result.graph, data), _values(graph, data))


def _is_bitwise(rule: Rule) -> bool:
    return any("shift" in k or "bitwise" in k for n in nodes(rule.pattern) for k in n.kinds[:1])


def test_rules_of_shifts_and_bits_are_marked():
    found = [r for r in RULES if _is_bitwise(r) and r.family is not Family.CLEANUP]
    assert {"sum-of-shift", "shift-twice", "shift-sum"} <= {r.name for r in found}
    assert [r.name for r in found if not r.integers] == []


def _quotients(b, kind, dtype):
    x, y, c = (b.input(n, (40,), dtype) for n in "xyc")
    four, one, two = (b.constant("k", np.asarray(v, dtype)) for v in (4, 1, 2))
    if kind == "remainder":
        return b.op("subtract", x, b.op("multiply", b.op("divide", x, four), four))
    if kind == "sum":
        return b.op("add", b.op("divide", x, c), b.op("divide", y, c))
    if kind == "halves":
        return b.op("multiply", b.op("divide", x, two), two)
    return b.op("multiply", x, b.op("divide", one, c))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("kind", ["remainder", "sum", "halves", "times inverse"])
def test_integer_division_stays_truncated(kind, dtype):
    b = GraphBuilder()
    graph = b.output(_quotients(b, kind, dtype)).build()
    result = rewrite(graph, ALL)
    rng = np.random.default_rng(2)
    low = 0 if dtype == "uint8" else -20
    data = {n: rng.integers(low, 20, (40,)).astype(dtype) for n in graph.inputs}
    if "c" in data:
        data["c"] = np.resize(np.asarray([1, 2, 3, 7], dtype), 40)
    expected = _values(graph, data)
    assert np.unique(expected).size > 1
    np.testing.assert_array_equal(evaluate(result.graph, data)[result.graph.outputs[0]], expected)


def test_the_inverse_of_an_integer_inverse_is_not_taken_away():
    b = GraphBuilder()
    inverse = b.op("divide", np.int32(1), b.input("x", (4,), "int32"))
    report = rewrite(b.output(b.op("divide", np.int32(1), inverse)).build()).report
    assert report.counts == {}
    assert INTEGERS in report.near_misses["recip-of-recip"]


def _wrapping(b, kind):
    x = b.input("x", (3, 16), "int8")
    k = b.constant("k", np.int8(100))
    inner = {
        "shifted": lambda: b.op("add", x, k),
        "scaled": lambda: b.op("multiply", x, k),
        "negated": lambda: b.op("negative", x),
    }[kind]()
    return b.op("max", inner, axis=(1,), keepdims=True)


@pytest.mark.parametrize("kind", ["shifted", "scaled", "negated"])
def test_the_maximum_of_what_wraps_is_taken_after_it_wrapped(kind):
    b = GraphBuilder()
    graph = b.output(_wrapping(b, kind)).build()
    result = rewrite(graph, ALL)
    misses = result.report.near_misses
    assert INTEGERS in misses[f"max-of-{kind}"]
    rng = np.random.default_rng(3)
    data = {"x": rng.integers(-128, 128, (3, 16)).astype("int8")}
    data["x"][0, 0], data["x"][1, 1] = -128, 127
    np.testing.assert_array_equal(_values(result.graph, data), _values(graph, data))


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("nn.relu", b.op("multiply", x, x)),
        lambda b, x: b.op("abs", b.op("square", x)),
        lambda b, x: b.op("abs", b.op("add", b.op("nn.relu", x), b.op("nn.relu", x))),
        lambda b, x: b.op("nn.relu", b.op("abs", x)),
        lambda b, x: b.op("nn.relu", b.op("sum", b.op("nn.relu", x), axis=(0,))),
        lambda b, x: b.op("nn.relu", b.op("negative", b.op("minimum", x, np.int8(0)))),
        lambda b, x: b.op(
            "nn.relu",
            b.op("astype", b.op("nn.relu", b.op("astype", x, dtype="uint8")), dtype="int8"),
        ),
    ],
)
def test_nothing_is_concluded_from_integer_arithmetic_that_wraps(make):
    b = GraphBuilder()
    graph = b.output(make(b, b.input("x", (256,), "int8"))).build()
    result = rewrite(graph, ALL)
    data = {"x": np.arange(-128, 128).astype("int8")}
    np.testing.assert_array_equal(_values(result.graph, data), _values(graph, data))


def test_integers_that_were_only_moved_or_compared_keep_their_sign():
    b = GraphBuilder()
    x = b.op("reshape", b.op("maximum", b.input("x", (4, 4), "int8"), np.int8(3)), (16,))
    graph = b.output(b.op("abs", x)).build()
    assert "abs-of-nonnegative" in rewrite(graph).report.counts


def test_the_scale_of_an_integer_product_stays_out_of_its_weight():
    """An int8 weight does not hold what the int32 product does."""
    b = GraphBuilder()
    w = b.constant("w", np.full((8, 4), 100, "int8"))
    y = b.op("matmul", b.input("x", (2, 8), "int8"), w, out_dtype="int32")
    graph = b.output(b.op("multiply", y, b.constant("s", np.int32(3)))).build()
    result = rewrite(graph)
    assert INTEGERS in result.report.near_misses["scale-into-weight"]
    data = {"x": np.ones((2, 8), "int8")}
    np.testing.assert_array_equal(_values(result.graph, data), _values(graph, data))
