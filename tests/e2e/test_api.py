"""`tvm_dnnfusion.compile`: what comes back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
import tvm_ffi
from tvm import relax

import tvm_dnnfusion
from tests import models
from tests.e2e.conftest import Subject, compiled_subject
from tvm_dnnfusion.devices.registry import DeviceError, host
from tvm_dnnfusion.frontend import InputError
from tvm_dnnfusion.planners import PlanError, PlannerError, save_plan
from tvm_dnnfusion.planners.plan import Reason
from tvm_dnnfusion.report.names import UnknownNameError
from tvm_dnnfusion.report.plan_file import PlanFileError
from tvm_dnnfusion.rewrite import RewriteOptions

NAME = "transformer"


@pytest.fixture(scope="module")
def transformer() -> Subject:
    return compiled_subject(NAME, models.load(NAME))


def run(executable: object, inputs: dict[str, np.ndarray]) -> np.ndarray:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*(tvm.runtime.tensor(a) for a in inputs.values())).numpy()


def test_fields_hold_every_step(transformer: Subject):
    made = transformer.compiled
    kernels = {gv.name_hint for gv, f in made.module.functions.items()
               if isinstance(f, tvm.tirx.PrimFunc)}  # fmt: skip
    assert "main" in {gv.name_hint for gv in made.original.functions}
    assert set(made.fused.lowered.kernel_of.values()) == kernels
    assert len(made.graph.ops) < len(made.source_graph.ops)
    assert {op for b in made.plan.blocks for op in b.ops} == set(made.graph.by_name)
    assert made.rewrite_report is not None and made.rewrite_report.counts
    assert made.device == host() and made.plan.device == host().name
    assert made.target.kind.name == "llvm"


def test_kernels_carry_the_names_of_their_layers(transformer: Subject):
    made = transformer.compiled
    layers = {node.name for node in transformer.model.graph.node}
    for gv, func in made.module.functions.items():
        if isinstance(func, tvm.tirx.PrimFunc):
            origins = set(map(str, func.attrs["dnnfusion.origins"]))
            assert origins and origins <= layers, gv.name_hint


def test_stats_count_what_the_module_has(transformer: Subject):
    made = transformer.compiled
    stats, views = made.stats, list(made.fused.lowered.kinds.values()).count("view")
    assert stats.row("kernels").after == len(made.plan.blocks) - views
    assert stats.row("operators").before == len(made.source_graph.ops)
    assert stats.row("operators").after == len(made.graph.ops)
    assert [row.name for row in stats.rows] == [
        "operators", "kernels", "intermediate_bytes", "flops"
    ]  # fmt: skip


def test_explain_says_why_layers_are_together_or_apart(transformer: Subject):
    made = transformer.compiled
    fused = next(d for d in made.plan.decisions if d.fused)
    apart = next(d for d in made.plan.decisions if not d.fused and d.reason is not Reason.TAKEN)
    for decision in (fused, apart):
        found = made.explain(decision.producer, decision.consumer)
        assert bool(found.together) == decision.fused
        assert decision in found.decisions
        assert decision.producer in found.text and decision.consumer in found.text
    found = made.explain("attn/q/MatMul", "attn/softmax")
    assert found.a.ops and found.b.ops and found.text


def test_explain_refuses_a_name_that_is_not_there(transformer: Subject):
    with pytest.raises(UnknownNameError, match="no_such_layer"):
        transformer.compiled.explain("no_such_layer", "attn/softmax")


def test_progress_is_told_each_step_in_order():
    steps: list[str] = []
    tvm_dnnfusion.compile(models.load("se_block"), progress=steps.append)
    assert steps == ["import", "rewrite", "plan", "lower", "schedule", "build"]


def test_all_ways_to_give_a_model_give_the_same_module(tmp_path: Path):
    model = models.load("se_block")
    onnx.save(model, tmp_path / "se.onnx")
    made = [tvm_dnnfusion.compile(m) for m in (
        model, str(tmp_path / "se.onnx"), tmp_path / "se.onnx",
        tvm_dnnfusion.compile(model).original,
    )]  # fmt: skip
    for other in made[1:]:
        assert tvm_ffi.structural_equal(other.module, made[0].module)


@pytest.mark.parametrize("planner", ["dnnfusion", "tvm", "none"])
@pytest.mark.parametrize("rewrite", [True, False, RewriteOptions(reassociate=False)])
def test_planners_and_rewriting_agree_on_the_numbers(transformer: Subject, planner, rewrite):
    made = tvm_dnnfusion.compile(transformer.model, planner=planner, rewrite=rewrite)
    assert made.plan.planner == planner
    assert (made.rewrite_report is None) == (rewrite is False)
    expected = run(transformer.compiled.executable, transformer.inputs)
    np.testing.assert_allclose(run(made.executable, transformer.inputs), expected, rtol=1e-3,
                               atol=1e-4)  # fmt: skip


def test_planners_are_ordered_by_what_they_fuse(transformer: Subject):
    counts = [tvm_dnnfusion.compile(transformer.model, planner=p, rewrite=False).stats.row(
        "kernels").after for p in ("none", "tvm", "dnnfusion")]  # fmt: skip
    assert counts[0] > counts[1] > counts[2]


def test_a_plan_is_applied_from_its_file(transformer: Subject, tmp_path: Path):
    made = transformer.compiled
    save_plan(made.plan, tmp_path / "plan.json")
    again = tvm_dnnfusion.compile(transformer.model, plan=tmp_path / "plan.json")
    assert again.plan == made.plan
    assert tvm_ffi.structural_equal(again.module, made.module)


def test_a_target_decides_the_device():
    target = {"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 2}
    for given in (target, tvm.target.Target(target)):
        made = tvm_dnnfusion.compile(models.load("se_block"), given)
        assert (made.device.vector_bits, made.device.cores) == (256, 2)
        assert str(made.target.attrs["mcpu"]) == "x86-64-v3"


def test_a_module_for_another_architecture_is_built_too():
    made = tvm_dnnfusion.compile(models.load("se_block"), device="cortex-a72")
    assert made.device.vector_bits == 128
    assert str(made.target.attrs["mtriple"]).startswith("aarch64")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"target": {"kind": "llvm", "mcpu": "no-such-cpu"}}, DeviceError, "no-such-cpu"),
        ({"target": {"kind": "cuda"}}, DeviceError, "cuda"),
        ({"target": "no_such_kind"}, ValueError, "no_such_kind"),
        ({"device": "no-such-device"}, DeviceError, "no-such-device"),
        ({"planner": "no-such-planner"}, PlannerError, "dnnfusion, .*none, .*tvm"),
        ({"plan": "no/such/plan.json"}, PlanFileError, "plan.json"),
        ({"plan": '{"planner": 3}'}, PlanError, "format"),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, text):
    with pytest.raises(error, match=text):
        tvm_dnnfusion.compile(models.load("se_block"), **options)


def test_a_plan_of_another_model_is_refused(transformer: Subject):
    with pytest.raises(PlanError, match="no op"):
        tvm_dnnfusion.compile(models.load("se_block"), plan=transformer.compiled.plan)


@pytest.mark.parametrize(
    ("model", "error"), [("no/such/model.onnx", InputError), (3, TypeError), (b"", TypeError)]
)
def test_what_is_no_model_is_refused(model, error):
    with pytest.raises(error, match="model"):
        tvm_dnnfusion.compile(model)
