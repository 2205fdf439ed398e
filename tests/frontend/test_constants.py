"""Constants keep their types: without one, relax.const makes int32 of int64."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.running import run_tvm
from tvm_dnnfusion.frontend.onnx import load_onnx

LARGE = 2**40


def test_folded_and_reshaped_int64_constants_stay_int64():
    weights = [
        numpy_helper.from_array(np.array([1, LARGE]), "a"),
        numpy_helper.from_array(np.array([1, 2]), "b"),
        numpy_helper.from_array(np.array([1, 2]), "shape"),
    ]
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, 2]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    mod = load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    (found,) = run_tvm(mod, np.array([[10, 20]]))
    assert found.dtype == np.int64
    assert found.tolist() == [[12, LARGE + 22]]
