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
    scale: str | None = "multiply",
    mask: bool = True,
    axis: int = -1,
    reuse: str | None = None,
    dtype: str = "float32",
) -> Graph:
    """softmax(q k^T * s + mask) v; `reuse` also returns the scores or the weights."""
    b = GraphBuilder()
    q, v = b.input("q", (B, H, S, D), dtype), b.input("v", (B, H, T, D), dtype)
    k = b.input("k", (B, H, D, T), dtype)
    scores = b.op("matmul", q, k)
    x = b.op(scale, scores, b.constant("s", np.full((), 0.5, dtype))) if scale else scores
    x = b.op("add", x, b.input("m", (B, 1, 1, T), dtype)) if mask else x
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


def test_attention_in_float16_is_recognised() -> None:
    """The block computes it in float32, where the three operators would round in between."""
    assert rewrite(_graph(dtype="float16")).report.counts[RULE] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "float64"}, "the operands must be float32, or all float16"),
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


@pytest.mark.parametrize("shape", [(S, T), (T,), (H, S, T), (B, 1, S, T)])
def test_masks_of_fewer_axes_are_masks_of_four(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    q, k, v = b.input("q", (B, H, S, D)), b.input("k", (B, H, D, T)), b.input("v", (B, H, T, D))
    scores = b.op("add", b.op("matmul", q, k), b.input("m", shape))
    b.output(b.op("matmul", b.op("nn.softmax", scores, axis=-1), v))
    _same_values(b.build(), ["nn.attention_bias"])


def _guarded(reader: str | None = None) -> Graph:
    """Attention with a boolean mask as PyTorch exports it; `reader` also returns that tensor."""
    b = GraphBuilder()
    q, k, v = b.input("q", (B, H, S, D)), b.input("k", (B, H, D, T)), b.input("v", (B, H, T, D))
    zero, never = b.constant("zero", np.float32(0)), b.constant("never", np.float32(-np.inf))
    mask = b.op("where", b.input("m", (1, 1, S, T), "bool"), zero, never)
    p = b.op("nn.softmax", b.op("add", b.op("matmul", q, k), mask), axis=-1)
    test = b.op("isnan", p)
    b.output(b.op("matmul", b.op("where", test, zero, p), v))
    if reader is not None:
        b.output({"softmax": p, "test": test}[reader])
    return b.build()


def test_rows_without_a_key_are_zero_behind_the_guard() -> None:
    graph = _guarded()
    data = _inputs(graph)
    data["m"] = np.random.default_rng(1).uniform(size=(1, 1, S, T)) < 0.5
    data["m"][:, :, 1] = False
    out = _same_values(graph, ["nn.attention_bias", "isnan"], data)
    assert not out[:, :, 1].any() and out[:, :, 0].any()


@pytest.mark.parametrize("reader", ["softmax", "test"])
def test_a_guard_that_others_read_stays(reader: str) -> None:
    assert RULE not in rewrite(_guarded(reader)).report.counts


def _same_values(
    graph: Graph, kinds: list[str], data: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """The result in double precision, the same before and after; the ops of `kinds` are there."""
    data = data or _inputs(graph)
    result = rewrite(graph)
    found = [op.kind for op in result.graph.ops]
    assert set(kinds) <= set(found) and "matmul" not in found
    with np.errstate(invalid="ignore"):
        want = evaluate(graph, data, dtype="float64")[graph.outputs[0]]
        got = evaluate(result.graph, data, dtype="float64")[result.graph.outputs[0]]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    return got
