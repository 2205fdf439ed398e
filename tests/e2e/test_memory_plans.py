"""Memory plans compile: their groups become kernels whose results are ONNX Runtime's."""

from __future__ import annotations

import pytest

import tvm_dnnfusion
from tests import models
from tvm_dnnfusion.planners import get_planner
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.reference import run_onnx
from tvm_dnnfusion.runtime.signature import signature_of
from tvm_dnnfusion.runtime.tolerance import reduction_length
from tvm_dnnfusion.runtime.verify import verify

pytest.importorskip("onnxruntime")
GET = {"options": {"explainer": "informed", "search": "local", "plans": 20}}


@pytest.mark.parametrize(
    ("planner", "options", "name"),
    [("memory", {}, "se_block"), ("optimus", {"model": "lbdf"}, "se_block"),
     ("get", GET, "se_block")],
)  # fmt: skip
def test_a_memory_plan_compiles_and_verifies(planner: str, options: dict, name: str):
    model, inputs = models.load(name), models.inputs(name)
    made = tvm_dnnfusion.compile(model, planner=get_planner(planner, **options))
    assert made.plan.planner == planner
    assert any(b.memory is not None and len(b.memory.layers) > 1 for b in made.plan.blocks)
    found = verify(
        Module(made.executable, signature_of(made.module)), run_onnx(model, inputs), inputs,
        against="ONNX Runtime", reduction=reduction_length(made.source_graph),
    )  # fmt: skip
    assert found.ok, found
