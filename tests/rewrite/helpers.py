"""What the tests of rewriting share."""

from __future__ import annotations

import numpy as np

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite import RewriteOptions, RewriteResult, all_rules, rewrite


def only(*names: str) -> RewriteOptions:
    """Options under which nothing but these rules applies."""
    others = frozenset(r.name for r in all_rules() if r.name not in names)
    return RewriteOptions(disabled=others, range_risk=True)


def inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for every input."""
    rng = np.random.default_rng(seed)
    out = {}
    for name in graph.inputs:
        t = graph.tensors[name]
        out[name] = (
            rng.uniform(-1, 1, t.dims).astype("float32")
            if t.dtype == "float32"
            else rng.integers(0, 3, t.dims).astype(t.dtype)
        )
    return out


def assert_same_values(before: Graph, after: Graph, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Both graphs give the same outputs, computed in double (constants may have been rounded)."""
    data = inputs(before)
    a, b = evaluate(before, data, "float64"), evaluate(after, data, "float64")
    for old, new in zip(before.outputs, after.outputs, strict=True):
        np.testing.assert_allclose(b[new], a[old], rtol=rtol, atol=atol)


def rewritten(
    b: GraphBuilder, *outputs: str, options: RewriteOptions | None = None, atol: float = 1e-6
) -> RewriteResult:
    """Build, rewrite, and check the values."""
    graph = b.output(*outputs).build()
    result = rewrite(graph, options)
    assert_same_values(graph, result.graph, atol=atol)
    return result


def kinds(graph: Graph) -> list[str]:
    """Kinds of the ops, in order."""
    return [op.kind for op in graph.ops]
