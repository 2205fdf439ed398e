"""Whole models for GPUs, built. Their outputs: `tests/opencl/test_models.py`."""

from __future__ import annotations

import pytest
import tvm

import tvm_dnnfusion
from tests import models


@pytest.mark.parametrize("family", ["mali", "adreno"])
def test_a_target_alone_is_enough(family: str):
    made = tvm_dnnfusion.compile(models.load("se_block"), {"kind": "opencl", "device": family})
    assert made.device.gpu is not None
    assert made.device.gpu.family == family
    kernels = [f for f in made.module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    assert {str(f.attrs["dnnfusion.schedule"]) for f in kernels} >= {"conv"}
