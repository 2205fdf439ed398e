"""Every genuine module loads and computes what TVM 0.14 did, plain and through DNNFusionPass."""

from __future__ import annotations

import pytest
import tvm

from tests.relay.cases import ARCHIVED, OUTSIDE, case, close
from tests.relay.twins import twin
from tvm_dnnfusion import DNNFusionPass, relay
from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.planners import plan_from_json

NAMES = [*ARCHIVED, *OUTSIDE]
MODELS = [name for name in NAMES if name.startswith("model_")]
CPU = {"kind": "llvm"}


def test_the_archive_holds_the_cases():
    assert len(ARCHIVED) == 148
    assert {"model_mlp", "model_resnet8", "model_bert_mini"} <= set(ARCHIVED)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_those_recorded(name: str):
    found = case(name)
    close(found.run(found.load()), found.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_those_recorded_after_fusion(name: str):
    found = case(name)
    with tvm.target.Target(CPU):
        fused = relay.transform.Sequential([DNNFusionPass()])(found.load())
    assert "dnnfusion.plan" in fused.attrs
    close(found.run(fused), found.outputs)


def _kernels(mod: tvm.IRModule, planner: str = "dnnfusion") -> int:
    with tvm.target.Target(CPU):
        fused = tvm.transform.Sequential([DNNFusionPass(planner=planner)])(mod)
    return len(plan_from_json(str(fused.attrs["dnnfusion.plan"])).blocks)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_no_more_kernels_than_from_onnx(name: str):
    found = case(name)
    mod = found.load()
    other = compile_model(twin(found.text, found.params), CPU)
    close(found.run(other.original), found.outputs)
    assert len(from_relax(other.original).graph.ops) > len(other.plan.blocks)
    assert _kernels(mod) <= len(other.plan.blocks)
    assert _kernels(mod) < _kernels(mod, "tvm")
