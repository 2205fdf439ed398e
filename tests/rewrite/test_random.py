"""Random graphs over the operators that rules know: rewriting keeps values, ends, and saves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

UNARY = ["exp", "abs", "square", "negative", "nn.relu", "tanh", "sigmoid", "cos", "erf"]
GUARDED = ["sqrt", "rsqrt", "log"]  # of something that is positive
BINARY = ["add", "subtract", "multiply", "maximum", "minimum"]
REDUCE = ["sum", "mean", "max", "min"]
SHAPES = [(4, 6), (4, 1), (1, 6), (6,), ()]


class _Maker:
    """Grows a graph by choices that hypothesis makes."""

    def __init__(self, draw):
        self.draw = draw
        self.b = GraphBuilder()
        self.pool = [self.b.input(f"x{i}", s) for i, s in enumerate([(4, 6), (4, 6), (4, 1)])]
        self.pool += [self.b.constant("k", np.float32(v)) for v in (0.0, 1.0, -2.0, 0.5)]
        self.pool.append(self.b.constant("row", np.linspace(0.5, 2, 6, dtype="float32")))

    def pick(self):
        # mostly recent tensors, so that deep expressions grow
        last = self.pool[-6:] if self.draw(st.booleans()) else self.pool
        return self.draw(st.sampled_from(last))

    def positive(self, x):
        return self.b.op("add", self.b.op("abs", x), 0.5)

    def step(self):
        b, draw = self.b, self.draw
        kind = draw(
            st.sampled_from(
                ["unary", "guarded", "binary", "binary", "divide", "reduce", "movement", "again"]
            )
        )
        x = self.pick()
        shape = b.tensors[x].dims
        if kind == "unary":
            safe = b.op("tanh", x) if (op := draw(st.sampled_from(UNARY))) == "exp" else x
            self.pool.append(b.op(op, safe))
        elif kind == "guarded":
            self.pool.append(b.op(draw(st.sampled_from(GUARDED)), self.positive(x)))
        elif kind == "binary":
            self.pool.append(b.op(draw(st.sampled_from(BINARY)), x, self.pick()))
        elif kind == "divide":
            self.pool.append(b.op("divide", x, self.positive(self.pick())))
        elif kind == "reduce" and shape:
            axis = draw(st.integers(0, len(shape) - 1))
            op = draw(st.sampled_from(REDUCE))
            self.pool.append(b.op(op, x, axis=axis, keepdims=True))
        elif kind == "movement" and len(shape) == 2:
            t = b.op(
                "permute_dims",
                b.op(draw(st.sampled_from(UNARY[1:])), b.op("permute_dims", x, axes=(1, 0))),
                axes=(1, 0),
            )
            self.pool.append(b.op("reshape", b.op("flatten", t), shape))
        elif kind == "again":  # the shapes of factoring out
            y, z = self.pick(), self.pick()
            self.pool.append(b.op("add", b.op("multiply", x, y), b.op("multiply", z, x)))


@st.composite
def graphs(draw) -> Graph:
    maker = _Maker(draw)
    for _ in range(draw(st.integers(3, 14))):
        maker.step()
    made = [op.output for op in maker.b.ops]
    outputs = made[-1:] + draw(st.lists(st.sampled_from(made), max_size=2)) if made else []
    return maker.b.output(*outputs).build()


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(graph=graphs(), reassociate=st.booleans(), range_risk=st.booleans())
def test_random_graphs_keep_their_values(graph, reassociate, range_risk):
    result = rewrite(graph, RewriteOptions(reassociate=reassociate, range_risk=range_risk))
    report = result.report
    assert report.complete
    rng = np.random.default_rng(1)
    data = {n: rng.uniform(-1, 1, graph.tensors[n].dims).astype("float32") for n in graph.inputs}
    before, after = evaluate(graph, data, "float64"), evaluate(result.graph, data, "float64")
    for old, new in zip(graph.outputs, result.graph.outputs, strict=True):
        a, b = before[old], after[new]
        if not np.isfinite(a).all() or np.abs(a).max(initial=0) > 1e12:
            continue  # overflow: which terms overflow first is a matter of grouping
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * scale)


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(graph=graphs())
def test_a_second_run_on_a_random_graph_finds_nothing(graph):
    once = rewrite(graph)
    assert rewrite(once.graph).report.counts == {}
    assert once.report.ops_after == len(once.graph.ops)


@pytest.mark.parametrize("kind", ["sqrt", "log"])
def test_a_rule_does_not_widen_the_domain(kind):
    """sqrt(x)^2 and log(x) + log(y) stay NaN where they were NaN."""
    b = GraphBuilder()
    x, y = b.input("x", (4,)), b.input("y", (4,))
    out = b.op("multiply" if kind == "sqrt" else "add", b.op(kind, x), b.op(kind, y))
    graph = b.output(out).build()
    after = rewrite(graph)
    data = {"x": np.float32([-1, 1, -2, 2]), "y": np.float32([-1, 1, 2, -2])}
    old = evaluate(graph, data)[graph.outputs[0]]
    new = evaluate(after.graph, data)[after.graph.outputs[0]]
    np.testing.assert_array_equal(np.isnan(new), np.isnan(old))
