"""DNNFusionPass: its options, what it attaches, and that plans can be applied again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tvm

import tvm_dnnfusion
from tests.helpers import DEVICE, built, run_module, weights
from tests.passes.modules import blocks_called, feed, net_module, prim_funcs
from tvm_dnnfusion.devices.registry import DeviceError, get
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.frontend.to_relax import graph_to_relax
from tvm_dnnfusion.passes import DNNFusionPass, PlanPass
from tvm_dnnfusion.planners import PlannerError, get_planner, plan_from_json, plan_to_json
from tvm_dnnfusion.planners.plan_io import PlanError, save_plan
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.report.plan_file import PlanFileError
from tvm_dnnfusion.rewrite import RewriteOptions, all_rules

PLAN, REWRITE = "dnnfusion.plan", "dnnfusion.rewrite"


@pytest.fixture(scope="module")
def mod():
    return net_module()


@pytest.fixture(scope="module")
def wanted(mod):
    return run_module(mod, feed())


@pytest.fixture(scope="module")
def fused(mod):
    return DNNFusionPass()(mod)


def same_numbers(mod, wanted):
    for a, b in zip(run_module(mod, feed()), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def plan_of(mod):
    return plan_from_json(str(mod.attrs[PLAN]))


def test_numbers_and_no_operator_left(fused, wanted):
    same_numbers(fused, wanted)
    assert set(blocks_called(fused)) == set(prim_funcs(fused))
    assert len(blocks_called(fused)) < len(from_relax(net_module()).graph.ops) / 2


def test_every_kernel_has_its_own_schedule(fused):
    for func in prim_funcs(fused).values():
        assert str(func.attrs["dnnfusion.schedule"]) == str(func.attrs["dnnfusion.kind"])


def test_it_attaches_plan_and_report(fused):
    plan = plan_of(fused)
    assert plan.planner == "dnnfusion" and {b.name for b in plan.blocks} >= blocks_called(fused)
    assert "scale-into-weight" in json.dumps(json.loads(str(fused.attrs[REWRITE])))


@pytest.mark.parametrize("planner", ["tvm", "none"])
def test_planner_by_name(mod, fused, wanted, planner):
    out = DNNFusionPass(planner=planner)(mod)
    assert plan_of(out).planner == planner
    assert len(blocks_called(out)) > len(blocks_called(fused))
    same_numbers(out, wanted)


def test_planner_as_an_object(mod):
    by_name, by_object = (DNNFusionPass(planner=p)(mod) for p in ("none", get_planner("none")))
    tvm.ir.assert_structural_equal(by_name, by_object)


WRONG = [
    ({"planner": "best"}, PlannerError, "'best'; known: dnnfusion, .*none, .*tvm"),
    ({"planner": 3}, TypeError, "planner is 3; give a name .*dnnfusion, .*none, .*tvm"),
    ({"planner": None}, TypeError, "planner is None; give a name"),
    ({"planner": type(get_planner("none"))}, TypeError, "SingletonPlanner.*; give a name"),
    ({"device": "x86-64-v9"}, DeviceError, "no device named 'x86-64-v9'; did you mean"),
    ({"device": 7}, TypeError, "device is 7; give a DeviceSpec, a name .*cortex-a72.* or None"),
]
REWRITES = [
    ({"rewrite": value}, TypeError, "rewrite is .*; give True, False or RewriteOptions")
    for value in ("yes", 1, None, ["fold"])
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG + REWRITES)
def test_choices_are_checked_when_the_pass_is_made(options, error, words):
    with pytest.raises(error, match=words):
        DNNFusionPass(**options)


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
def test_choices_of_the_planning_step_too(options, error, words):
    with pytest.raises(error, match=words):
        PlanPass(**options)


@pytest.mark.parametrize(("options", "error", "words"), WRONG + REWRITES)
def test_and_by_compile_before_the_model_is_read(options, error, words):
    with pytest.raises(error, match=words):
        tvm_dnnfusion.compile("no/such/model.onnx", **options)


def test_rewriting_can_be_switched_off(mod, fused, wanted):
    out = DNNFusionPass(rewrite=False)(mod)
    assert REWRITE not in out.attrs and REWRITE in fused.attrs
    named = [n for b in plan_of(out).blocks for n in b.ops]
    assert sorted(named) == sorted(op.name for op in from_relax(mod).graph.ops)
    same_numbers(out, wanted)


def test_rewriting_takes_options(mod):
    every = frozenset(rule.name for rule in all_rules())
    out, off = (DNNFusionPass(rewrite=r)(mod) for r in (RewriteOptions(disabled=every), False))
    assert plan_of(out).blocks == plan_of(off).blocks


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3"])
def test_device_by_name_or_as_a_spec(mod, name):
    by_name, by_spec = DNNFusionPass(device=name)(mod), DNNFusionPass(device=get(name))(mod)
    tvm.ir.assert_structural_equal(by_name, by_spec)
    assert plan_of(by_name).device == name


def test_lanes_of_the_device_are_those_of_the_kernels(mod):
    layouts = []
    for bits in (128, 256, 512):
        text = DNNFusionPass(device=replace(DEVICE, vector_bits=bits))(mod)["main"].script()
        layouts.append(f"1, {16 * 32 // bits}, 8, 8, {bits // 32}" in text)
    assert layouts == [True] * 3


@pytest.mark.parametrize("as_path", [True, False])
def test_a_profile_database_answers(mod, wanted, tmp_path, as_path):
    path = tmp_path / "profile.sqlite"
    with ProfileDB(path) as database:
        out = DNNFusionPass(profile=path if as_path else database)(mod)
    same_numbers(out, wanted)


FORMS = {
    "plan": lambda plan, path: plan,
    "text": lambda plan, path: plan_to_json(plan),
    "path": lambda plan, path: path,
    "path as text": lambda plan, path: str(path),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_applied_again_gives_the_same_module(mod, fused, tmp_path, form):
    path = tmp_path / "plan.json"
    save_plan(plan_of(fused), path)
    again = DNNFusionPass(plan=FORMS[form](plan_of(fused), path))(mod)
    tvm.ir.assert_structural_equal(again, fused)


def test_a_plan_overrides_the_planner(mod):
    single = plan_of(DNNFusionPass(planner="none")(mod))
    assert plan_of(DNNFusionPass(planner="dnnfusion", plan=single)(mod)) == single


def test_a_plan_of_another_function_is_refused(fused):
    other = graph_to_relax(built(lambda b: b.op("nn.relu", b.input("x", (4, 8)))))
    with pytest.raises(PlanError, match="the graph has no op"):
        DNNFusionPass(plan=plan_of(fused))(other)


def test_a_plan_of_other_shapes_is_refused():
    def module(width):
        return graph_to_relax(
            built(lambda b: b.op("exp", b.op("nn.relu", b.input("x", (4, width)))))
        )

    plan = plan_of(DNNFusionPass()(module(8)))
    with pytest.raises(PlanError, match="another graph"):
        DNNFusionPass(plan=plan)(module(9))


def test_text_that_is_no_plan_is_refused_before_the_pass_runs(tmp_path):
    with pytest.raises(PlanError, match="not JSON"):
        DNNFusionPass(plan="{ no plan")
    with pytest.raises(PlanFileError, match="no such file"):
        DNNFusionPass(plan=tmp_path / "absent.json")


def test_the_same_twice(mod, fused):
    tvm.ir.assert_structural_equal(DNNFusionPass()(mod), fused)


def test_a_second_pass_over_its_own_result_keeps_the_numbers(fused, wanted):
    again = tvm.transform.Sequential([DNNFusionPass()])(fused)
    same_numbers(again, wanted)
    assert {b.mapping for b in plan_of(again).blocks if b.ops} == {None}  # calls are barriers


def test_a_function_of_another_name():
    def make(b):
        return b.op("add", b.op("matmul", b.input("x", (8, 16)), weights(b, 16, 16)), 1.0)

    source = graph_to_relax(built(make), "forward")
    out = DNNFusionPass(function="forward")(source)
    assert len(prim_funcs(out)) == 1 and "forward" in {g.name_hint for g in out.get_global_vars()}


def test_results_that_are_inputs_or_constants():
    def make(b):
        x, c = b.input("x", (4, 8)), weights(b, 8)
        return x, c, b.op("add", x, c), x

    graph = built(make)
    mod = graph_to_relax(graph)
    data = {"x": np.ones((4, 8), "float32")}
    for a, b in zip(run_module(DNNFusionPass()(mod), data), run_module(mod, data), strict=True):
        np.testing.assert_array_equal(a, b)
