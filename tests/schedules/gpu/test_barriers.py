"""Barriers on GPUs: every work-item of a group reaches every barrier, or none does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

import tvm_dnnfusion
from tests import models
from tests.schedules.gpu.kernels import (
    DEVICES,
    device,
    divergent_barriers,
    opencl,
    source_of,
    target_of,
)
from tvm_dnnfusion.devices.registry import get, target_dict

KERNEL = """
__kernel void k(__global float* restrict x_ptr) {
  for (int i = 0; i < 4; ++i) {
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  if (%s < 4) {
    x_ptr[0] = 0.0f;
  } else {
    x_ptr[0] = 1.0f;
%s  }
}
"""
LOCAL = "(convert_int(get_local_id(0)))"


def test_a_barrier_in_a_branch_is_found():
    assert not divergent_barriers(KERNEL % (LOCAL, ""))
    assert divergent_barriers(KERNEL % (LOCAL, "    barrier(CLK_LOCAL_MEM_FENCE);\n"))
    assert divergent_barriers(f"for (int i = 0; i < {LOCAL}; ++i) {{\n barrier(0);\n}}")


def folds(kind: str, shape: tuple[int, ...], axis: int) -> Any:
    """One fold of a float32 input, whose result for ArgMax and ArgMin is of int64."""
    arg = kind.startswith("Arg")
    given = {"axis": axis} if arg else {}
    axes = [] if arg else [numpy_helper.from_array(np.array([axis]), "axes")]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *(a.name for a in axes)], ["y"], keepdims=0, **given)],
        "fold",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT64 if arg else TensorProto.FLOAT, None)],
        axes,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def targets() -> dict[str, Any]:
    """GPUs by name, and a target that says how wide its waves are."""
    wave = {"kind": "opencl", "device": "adreno", "thread_warp_size": 64}
    return {**{n: target_of(device(n)) for n in DEVICES}, "wave": tvm.target.Target(wave, "llvm")}


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("where", [*DEVICES, "wave"])
def test_all_work_items_of_tvms_own_rules_meet(where: str, kind: str):
    """With warps of 8 or 64, TVM folded the last items of a group in a branch, with barriers."""
    x = np.random.default_rng(0).permutation(6000).reshape(2, 3000).astype("float32")
    made = tvm_dnnfusion.compile(folds(kind, x.shape, 1), targets()[where])
    assert not divergent_barriers(source_of(made.executable))
    gpu = opencl()
    machine = relax.VirtualMachine(made.executable, [gpu, tvm.cpu()])
    wanted = x.argmax(1) if kind == "ArgMax" else x.argmin(1)
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(x, gpu)).numpy(), wanted)


@pytest.mark.parametrize("name", DEVICES)
def test_a_sum_of_nothing_is_zero(name: str):
    """onnx's empty axis is of unknown length for TVM: its rules fold it, which hung."""
    made = tvm_dnnfusion.compile(folds("ReduceSum", (5, 0), 1), target_of(device(name)))
    assert not divergent_barriers(source_of(made.executable))
    gpu = opencl()
    machine = relax.VirtualMachine(made.executable, [gpu, tvm.cpu()])
    found = machine["main"](tvm.runtime.tensor(np.zeros((5, 0), "float32"), gpu))
    np.testing.assert_array_equal(found.numpy(), np.zeros(5))


@pytest.mark.parametrize("model", ["se_block", "attention"])
@pytest.mark.parametrize("name", DEVICES)
def test_those_of_whole_models(name: str, model: str):
    made = tvm_dnnfusion.compile(models.load(model), tvm.target.Target(target_dict(get(name))))
    assert not divergent_barriers(source_of(made.executable))
