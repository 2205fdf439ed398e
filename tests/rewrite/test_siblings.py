"""Products of one operand by several constants become one; others stay apart."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rewrite.helpers import only, rewritten
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.rewrite import rewrite

RULE = "products-side-by-side"
S, K, H = 6, 8, 2


def _weight(b: GraphBuilder, *dims: int, seed: int = 0, dtype: str = "float32") -> str:
    data = np.random.default_rng([seed, *dims]).integers(-4, 5, dims)
    return b.constant(f"w{seed}", data.astype(dtype))


def _product(
    b: GraphBuilder, x: str, columns: int, seed: int, bias: bool = True, dtype: str = "float32"
) -> str:
    y = b.op("matmul", x, _weight(b, K, columns, seed=seed, dtype=dtype))
    return b.op("add", y, _weight(b, columns, seed=seed + 9, dtype=dtype)) if bias else y


def _moved(b: GraphBuilder, tensor: str) -> str:
    return b.op("permute_dims", tensor, axes=(1, 0))


@pytest.mark.parametrize("biases", [(True, True, True), (True, False, True), (False,) * 3])
def test_products_of_one_operand_become_one(biases: tuple[bool, ...]) -> None:
    b = GraphBuilder()
    x = b.input("x", (S, K))
    parts = [_product(b, x, n, n, bias) for n, bias in zip((4, 5, 3), biases)]
    result = rewritten(b, *(_moved(b, p) for p in parts), options=only(RULE))
    kinds = [op.kind for op in result.graph.ops]
    assert result.report.counts == {RULE: 1}
    assert kinds.count("matmul") == 1 and kinds.count("split") == 1
    assert kinds.count("add") == any(biases)
    product = next(op for op in result.graph.ops if op.kind == "matmul")
    assert result.graph.constants[product.inputs[1]].shape == (K, 12)


def test_batches_and_integers_are_exact() -> None:
    b = GraphBuilder()
    x = b.input("x", (2, S, K), "int32")
    parts = [_product(b, x, 4, seed, dtype="int32") for seed in (1, 2)]
    graph = b.output(*(b.op("permute_dims", p, axes=(0, 2, 1)) for p in parts)).build()
    result = rewrite(graph, only(RULE))
    assert result.report.counts == {RULE: 1}
    data = {"x": np.random.default_rng(0).integers(-(2**30), 2**30, (2, S, K)).astype("int32")}
    before, after = evaluate(graph, data, "int32"), evaluate(result.graph, data, "int32")
    for old, new in zip(graph.outputs, result.graph.outputs, strict=True):
        np.testing.assert_array_equal(after[new], before[old])


def _apart(case: str) -> GraphBuilder:
    b = GraphBuilder()
    x, y = b.input("x", (S, K)), b.input("y", (S, K))
    if case == "another operand":
        parts = [_product(b, x, 4, 1), _product(b, y, 4, 2)]
    elif case == "a weight that is no constant":
        parts = [_product(b, x, 4, 1), b.op("matmul", x, b.input("w", (K, 4)))]
    elif case == "weights in batches":
        parts = [b.op("matmul", x, _weight(b, 3, K, 4, seed=s)) for s in (1, 2)]
        return b.output(*(b.op("permute_dims", p, axes=(0, 2, 1)) for p in parts))
    else:
        parts = [_product(b, x, 4, seed) for seed in (1, 2)]
        if case == "an activation":
            parts[0] = b.op("nn.relu", parts[0])
        elif case == "a gate":
            parts = [b.op("multiply", *parts)]
        elif case == "an output":
            return b.output(*parts)
    return b.output(*(_moved(b, p) for p in parts))


@pytest.mark.parametrize(
    "case",
    ["another operand", "a weight that is no constant", "weights in batches", "an activation",
     "a gate", "an output"],
)  # fmt: skip
def test_what_has_no_common_operand_or_an_epilogue_stays(case: str) -> None:
    result = rewrite(_apart(case).build(), only(RULE))
    assert RULE not in result.report.counts


def test_a_bias_of_another_extent_stays_behind() -> None:
    b = GraphBuilder()
    x = b.input("x", (S, K))
    parts = [
        b.op("add", _product(b, x, 1, s, bias=False), _weight(b, S, 1, seed=s)) for s in (3, 4)
    ]
    result = rewrite(b.output(*(_moved(b, p) for p in parts)).build(), only(RULE))
    assert RULE not in result.report.counts
    assert "elementwise" in result.report.near_misses[RULE]


def test_the_scale_of_the_queries_moves_into_their_weights_first() -> None:
    b = GraphBuilder()
    x = b.input("x", (1, S, K))
    query, key, value = (_product(b, x, K, seed) for seed in (1, 2, 3))
    query = b.op("reshape", query, (1, S, H, K // H))
    query = b.op("multiply", query, b.constant("s", np.float32(0.5)))
    key, value = (b.op("reshape", t, (1, S, H, K // H)) for t in (key, value))
    out = b.op("nn.attention", query, key, value, scale=1.0)
    result = rewritten(b, out)
    kinds = [op.kind for op in result.graph.ops]
    assert result.report.counts[RULE] == 1
    assert kinds.count("matmul") == 1 and "multiply" not in kinds


def test_a_bias_without_axes_is_one_column() -> None:
    b = GraphBuilder()
    x = b.input("x", (S, K))
    parts = [
        b.op("add", _product(b, x, 1, s, bias=False), b.constant(f"c{s}", np.float32(s)))
        for s in (1, 2)
    ]
    result = rewritten(b, *(_moved(b, p) for p in parts), options=only(RULE))
    assert result.report.counts == {RULE: 1}
