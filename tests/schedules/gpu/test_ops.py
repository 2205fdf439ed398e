"""Operators that have no template of their own, as whole modules for GPUs, against onnx's own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tvm import relax

import tvm_dnnfusion
from tests.schedules.gpu.kernels import opencl
from tvm_dnnfusion.schedules.dispatch import ScheduleWarning

FAMILIES = ("mali", "adreno")


def model(kind: str, shape: tuple[int, ...], *operands: Any, outputs: int = 1, **attrs: Any) -> Any:
    """One node on a float32 input `x`; the other operands are constants."""
    names = [f"c{i}" for i in range(len(operands))]
    outs = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *names], outs, **attrs)],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in zip(names, operands, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def compiled(proto: Any, family: str) -> Any:
    """The module for a GPU; a fallback to another schedule is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScheduleWarning)
        return tvm_dnnfusion.compile(proto, {"kind": "opencl", "device": family})


def check(proto: Any, family: str, x: np.ndarray | None = None, rtol: float = 1e-5) -> None:
    """Run it on the OpenCL device, twice: what a race spoils need not be spoilt each time."""
    device = opencl()
    dims = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    if x is None:
        x = np.random.default_rng(3).uniform(-1, 1, dims).astype("float32")
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})
    target = tvm.target.Target({"kind": "opencl", "device": family}, host={"kind": "llvm"})
    made = tvm_dnnfusion.compile(proto, target=target)
    machine = relax.VirtualMachine(made.executable, [device, tvm.cpu()])
    for _ in range(2):
        found = machine["main"](tvm.runtime.tensor(x, device))
        found = [found] if hasattr(found, "numpy") else list(found)
        for value, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value.numpy(), want, rtol=rtol, atol=1e-5)


PADS = np.int64([0, 0, 1, 2, 0, 0, 2, 1])


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
def test_padding(mode: str) -> None:
    """TVM's own reflecting pad has indices of int64 where ours are of int32."""
    proto = model("Pad", (1, 2, 6, 8), PADS, mode=mode)
    for family in FAMILIES:
        compiled(proto, family)
    check(proto, "mali")
