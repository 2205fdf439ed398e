"""Blocks back from their canonical form."""

from __future__ import annotations

import pytest

from tests.profile.graphs import conv_add_relu
from tvm_dnnfusion.ecg.graph import Graph, Lit, Op, Ref, Tensor, attrs
from tvm_dnnfusion.profile.blocks import block_graph
from tvm_dnnfusion.profile.keys import canonical_block
from tvm_dnnfusion.profile.store import ProfileFileError


def test_a_block_comes_back_as_it_was() -> None:
    graph = conv_add_relu()
    for ops in (graph.ops, graph.ops[:3], graph.ops[3:], graph.ops[:1]):
        text = canonical_block(ops, graph)
        back, around = block_graph(text)
        assert canonical_block(back, around) == text


def test_constants_come_back_as_constants_of_their_shape_without_memory() -> None:
    graph = conv_add_relu(kernel=(8, 8, 3, 3))
    _, around = block_graph(canonical_block(graph.ops, graph))
    (weights,) = around.constants.values()
    assert weights.shape == (8, 8, 3, 3) and weights.dtype == "float32"
    assert weights.base is not None and 0 in weights.strides
    assert len(set(weights.reshape(-1).tolist())) == 8


def test_tuples_of_tensors_and_several_results_come_back() -> None:
    tensors = {n: Tensor(n, (2, 4), "float32") for n in ("x", "y", "a", "b")}
    tensors |= {"j": Tensor("j", (4, 4), "float32")}
    join = Op("join", "concat", ((Ref("x"), Ref("y")), Lit("none", None)), ("j",), attrs(axis=0))
    split = Op("split", "split", (Ref("j"),), ("a", "b"), attrs(indices_or_sections=2, axis=0))
    graph = Graph(tensors, (join, split), ("x", "y"), ("a", "b")).check()
    text = canonical_block(graph.ops, graph)
    back, around = block_graph(text)
    assert canonical_block(back, around) == text
    assert back[0].args == ((Ref("in1"), Ref("in2")), Lit("none", None))


@pytest.mark.parametrize("text", ["", "{}", '{"n": 1}', '{"in": [], "ops": [["add"]], "out": []}'])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ProfileFileError, match="canonical form"):
        block_graph(text)
