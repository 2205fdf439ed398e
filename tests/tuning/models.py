"""A small net with four different blocks, and runners that need no time."""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.helpers import DEVICE
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.pipeline import Fused, Options, fuse
from tvm_dnnfusion.tuning.runner import Outcome
from tvm_dnnfusion.tuning.tasks import Task, tasks_of


def small() -> onnx.ModelProto:
    """Two equal convolutions, one of another form, a mean, a product."""
    rng = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 0.2, shape).astype("float32"), name)

    def conv(source, name, kernel):
        pads = [kernel // 2] * 4
        made = helper.make_node("Conv", [source, f"w_{name}"], [f"c_{name}"], name, pads=pads)
        return [made, helper.make_node("Relu", [f"c_{name}"], [name], f"{name}_relu")]

    nodes = [*conv("x", "a", 3), *conv("a", "b", 1), *conv("b", "c", 1)]
    nodes += [
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w_g"], ["y"], "gemm"),
    ]
    weights = [weight("w_a", 32, 16, 3, 3), weight("w_b", 32, 32, 1, 1)]
    weights += [weight("w_c", 32, 32, 1, 1), weight("w_g", 32, 10)]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", float32, [1, 16, 14, 14])],
        [helper.make_tensor_value_info("y", float32, [1, 10])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@functools.cache
def fused(memory: float = 2.0) -> Fused:
    """The small net, planned and lowered, its weights taking `memory` times theirs at most."""
    return fuse(load(small(), None), Options(device=DEVICE, winograd_memory=memory))


def tasks(memory: float = 2.0) -> tuple[Task, ...]:
    """The blocks of the small net."""
    return tasks_of(fused(memory))


class Counting:
    """A runner whose costs follow from the code: how long its text is, in microseconds."""

    unit = "us"

    def __init__(self, fails=lambda text: False):
        self.measured = []
        self._fails = fails

    def measure(self, func):
        text = func.script(show_meta=False)
        self.measured.append(text)
        if self._fails(text):
            return Outcome(None, message="it was told to fail")
        return Outcome(float(len(text)), 0.01, 7)

    def close(self):
        pass
