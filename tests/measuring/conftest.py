"""A small model as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """Two products with a transposition and additions: pairs that table 3 leaves open."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], "first"),
        helper.make_node("Transpose", ["p"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("Relu", ["t"], ["r"], "relu"),
        helper.make_node("Add", ["r", "p"], ["a"], "add"),
        helper.make_node("MatMul", ["a", "w"], ["q"], "second"),
        helper.make_node("Softmax", ["q"], ["y"], "softmax"),
    ]
    weight = np.random.default_rng(0).normal(0, 0.2, (24, 24)).astype("float32")
    kind, shape = onnx.TensorProto.FLOAT, [24, 24]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    path = tmp_path / "small.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path
