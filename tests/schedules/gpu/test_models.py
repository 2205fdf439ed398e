"""Whole models on an OpenCL device, through the ordinary VM, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

import tvm_dnnfusion
from tests import models
from tests.schedules.gpu.kernels import DEVICES, device, opencl, target_of
from tvm_dnnfusion.runtime.reference import run_onnx
from tvm_dnnfusion.runtime.signature import flatten

SMALL = ("attention", "se_block", "transformer")
"""Those whose kernels PoCL compiles in seconds."""


@pytest.mark.parametrize("name", SMALL)
def test_outputs_equal_those_of_onnx_runtime(name: str):
    pytest.importorskip("onnxruntime")
    machine, spec = opencl(), device(DEVICES[SMALL.index(name) % 2])
    model, inputs = models.load(name), models.inputs(name)
    made = tvm_dnnfusion.compile(model, target_of(spec), device=spec)
    vm = relax.VirtualMachine(made.executable, machine)
    found = flatten(vm["main"](*[tvm.runtime.tensor(a, machine) for a in inputs.values()]))
    wanted = list(run_onnx(model, inputs).values())
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mali", "adreno"])
def test_a_target_alone_is_enough(family: str):
    made = tvm_dnnfusion.compile(models.load("se_block"), {"kind": "opencl", "device": family})
    assert made.device.gpu is not None
    assert made.device.gpu.family == family
    kernels = [f for f in made.module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    assert {str(f.attrs["dnnfusion.schedule"]) for f in kernels} >= {"conv"}
