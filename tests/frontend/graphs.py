"""Small ONNX models that the frontend's tests read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = OPSET,
    dtype: str = "float32",
) -> onnx.ModelProto:
    """A model with inputs of a dtype and float32 results, whose shapes are inferred."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(n, kind, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def conv_bn_relu() -> onnx.ModelProto:
    """[1, 3, 8, 8] -> Conv "stem/conv" -> BatchNormalization (no name) -> Relu "stem/relu"."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3), np.float32),
        "b": rng.standard_normal(4, np.float32),
        "scale": rng.standard_normal(4, np.float32),
        "shift": rng.standard_normal(4, np.float32),
        "mean": rng.standard_normal(4, np.float32),
        "var": rng.random(4, np.float32) + 0.5,
    }
    nodes = [
        helper.make_node("Conv", ["in.data/0", "w", "b"], ["c"], name="stem/conv", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["out/y"], name="stem/relu"),
    ]
    return model(nodes, {"in.data/0": [1, 3, 8, 8]}, ["out/y"], weights)


def unary(op: str, shape: Sequence[int | str | None], **attrs: object) -> onnx.ModelProto:
    """x -> op "the_op" -> y."""
    return model([helper.make_node(op, ["x"], ["y"], name="the_op", **attrs)], {"x": shape}, ["y"])
