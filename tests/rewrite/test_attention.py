"""Attention written out becomes one operator, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.rewrite import rewrite

RULE = "attention-written-out"
B, H, S, T, D = 2, 3, 5, 7, 4


def _graph(
    scale: str | None = "multiply", mask: bool = True, axis: int = -1, reuse: str | None = None
) -> Graph:
    """softmax(q k^T * s + mask) v; `reuse` also returns the scores or the weights."""
    b = GraphBuilder()
    q, v = b.input("q", (B, H, S, D)), b.input("v", (B, H, T, D))
    k = b.input("k", (B, H, D, T))
    scores = b.op("matmul", q, k)
    x = b.op(scale, scores, b.constant("s", np.float32(0.5))) if scale else scores
    x = b.op("add", x, b.input("m", (B, 1, 1, T))) if mask else x
    weights = b.op("nn.softmax", x, axis=axis)
    b.output(b.op("matmul", weights, v))
    if reuse is not None:
        b.output({"scores": scores, "weights": weights}[reuse])
    return b.build()


def _inputs(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {t: graph.tensors[t].dims for t in graph.inputs}
    return {t: rng.standard_normal(s).astype("float32") for t, s in shapes.items()}


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("scale", [None, "multiply", "divide"])
def test_each_form_is_recognised_and_keeps_its_values(scale: str | None, mask: bool) -> None:
    before = _graph(scale, mask)
    result = rewrite(before)
    kinds = [op.kind for op in result.graph.ops]
    assert result.report.counts[RULE] == 1
    assert kinds.count("nn.attention_bias" if mask else "nn.attention") == 1
    assert "matmul" not in kinds and "nn.softmax" not in kinds
    data = _inputs(before)
    want = evaluate(before, data, dtype="float64")[before.outputs[0]]
    got = evaluate(result.graph, data, dtype="float64")[result.graph.outputs[0]]
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"axis": 2}, "the softmax must be over the last of four axes"),
        ({"reuse": "weights"}, "another op reads the softmax"),
        ({"reuse": "scores"}, "no product of queries and keys"),
    ],
)
def test_what_is_not_attention_stays(change: dict[str, object], reason: str) -> None:
    result = rewrite(_graph(scale=None, mask=False, **change))  # type: ignore[arg-type]
    assert RULE not in result.report.counts
    assert reason in result.report.near_misses[RULE]


def test_transpositions_around_heads_cancel() -> None:
    b = GraphBuilder()
    x = b.input("x", (B, S, H, D))
    heads = b.op("permute_dims", x, axes=(0, 2, 1, 3))
    keys = b.op("permute_dims", x, axes=(0, 2, 3, 1))
    weights = b.op("nn.softmax", b.op("matmul", heads, keys), axis=-1)
    b.output(b.op("permute_dims", b.op("matmul", weights, heads), axes=(0, 2, 1, 3)))
    assert [op.kind for op in rewrite(b.build()).graph.ops] == ["nn.attention"]
