"""The steps as passes of their own: each alone, and in sequence."""

import json

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.helpers import run_module
from tests.passes.modules import (
    blocks_called,
    copy_of,
    feed,
    net_module,
    prim_funcs,
    with_others,
)
from tvm_dnnfusion.ecg.fingerprint import fingerprint
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.frontend.to_relax import to_relax
from tvm_dnnfusion.passes import (
    ClassifyPass,
    DNNFusionPass,
    LowerPass,
    PlanPass,
    RewritePass,
    SchedulePass,
)
from tvm_dnnfusion.planners import check_plan, plan_from_json
from tvm_dnnfusion.planners.plan_io import PlanError
from tvm_dnnfusion.rewrite import RewriteOptions, all_rules, rewrite

STEPS = {"classify": ClassifyPass, "rewrite": RewritePass, "plan": PlanPass, "lower": LowerPass,
         "schedule": SchedulePass}  # fmt: skip
ECG, REWRITE, PLAN = "dnnfusion.ecg", "dnnfusion.rewrite", "dnnfusion.plan"


def alone(step):
    return tvm.transform.Sequential([step])


@pytest.fixture(scope="module")
def mod():
    return net_module()


@pytest.fixture(scope="module")
def wanted(mod):
    return run_module(mod, feed())


def same_numbers(mod, wanted):
    for a, b in zip(run_module(mod, feed()), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_alone_keeps_the_numbers(mod, wanted, name):
    same_numbers(alone(STEPS[name]())(mod), wanted)


@pytest.mark.parametrize("name", [*STEPS, "all"])
def test_the_module_that_goes_in_is_not_changed(mod, name):
    before = copy_of(mod)
    (DNNFusionPass if name == "all" else STEPS[name])()(mod)
    tvm.ir.assert_structural_equal(mod, before, map_free_vars=True)


@pytest.mark.parametrize("name", [*STEPS, "all"])
def test_other_functions_and_attributes_of_the_module_are_kept(mod, name):
    given = with_others(mod).with_attr("mine", "kept")
    out = (DNNFusionPass if name == "all" else STEPS[name])()(given)
    names = {gv.name_hint for gv in out.get_global_vars()}
    assert {"main", "other", "kernel_of_others"} <= names
    assert str(out.attrs["mine"]) == "kept"
    assert isinstance(out["other"], relax.Function)


@pytest.mark.parametrize("name", STEPS)
def test_steps_take_the_name_of_the_function(mod, name):
    renamed = tvm.IRModule({"net": mod["main"].with_attr("global_symbol", "net")})
    step = STEPS[name]() if name == "schedule" else STEPS[name](function="net")
    assert "net" in {gv.name_hint for gv in step(renamed).get_global_vars()}
    if name != "schedule":
        with pytest.raises(Exception, match="no Relax function 'main'; it has"):
            STEPS[name]()(renamed)


def test_classify_attaches_the_ecg_and_changes_no_function(mod):
    out = alone(ClassifyPass())(mod)
    tvm.ir.assert_structural_equal(out["main"], mod["main"])
    ecg = json.loads(str(out.attrs[ECG]))
    assert "Many-to-Many" in json.dumps(ecg) or "MANY_TO_MANY" in json.dumps(ecg)


def test_rewrite_attaches_its_report_and_drops_work(mod):
    out = alone(RewritePass())(mod)
    report = json.loads(str(out.attrs[REWRITE]))
    assert report
    before, after = (len(from_relax(m).graph.ops) for m in (mod, out))
    assert after < before  # the scales of constant weights are folded
    assert PLAN not in (out.attrs or {})


def test_rewrite_takes_options(mod):
    off = RewriteOptions(disabled=frozenset(r.name for r in all_rules()))
    out = RewritePass(off)(mod)
    assert [o.kind for o in from_relax(out).graph.ops] == [
        o.kind for o in from_relax(mod).graph.ops
    ]


def test_plan_attaches_a_plan_of_the_function_and_changes_nothing(mod):
    out = alone(PlanPass())(mod)
    tvm.ir.assert_structural_equal(out["main"], mod["main"])
    plan = plan_from_json(str(out.attrs[PLAN]))
    graph = from_relax(out).graph
    assert check_plan(plan, graph).blocks and plan.planner == "dnnfusion"


@pytest.mark.parametrize("planner", ["dnnfusion", "tvm", "none"])
def test_lower_applies_the_attached_plan(mod, planner):
    planned = PlanPass(planner=planner)(mod)
    plan = plan_from_json(str(planned.attrs[PLAN]))
    lowered = LowerPass()(planned)
    assert blocks_called(lowered) <= {b.name for b in plan.blocks}
    if planner == "none":
        assert len(blocks_called(lowered)) > len(blocks_called(LowerPass()(PlanPass()(mod))))


def test_lower_without_a_plan_uses_the_default_planner(mod):
    planned = LowerPass()(PlanPass()(mod))
    tvm.ir.assert_structural_equal(LowerPass()(mod), planned.without_attr(PLAN))


def test_lower_schedules_nothing_and_schedule_everything(mod):
    lowered = LowerPass()(mod)
    assert not any("dnnfusion.schedule" in f.attrs for f in prim_funcs(lowered).values())
    done = prim_funcs(SchedulePass()(lowered))
    assert all(str(f.attrs["dnnfusion.schedule"]) == str(f.attrs["dnnfusion.kind"])
               for f in done.values() if "dnnfusion.kind" in f.attrs)  # fmt: skip
    assert all(bool(f.attrs["tirx.is_scheduled"]) for f in done.values())


def test_schedule_legalises_what_is_left(mod):
    out = SchedulePass()(mod)
    assert "R.nn.conv2d" not in out["main"].script()
    assert all("dnnfusion.schedule" in f.attrs for f in prim_funcs(out).values())


def test_schedule_leaves_scheduled_functions_alone(mod):
    once = SchedulePass()(LowerPass()(mod))
    tvm.ir.assert_structural_equal(SchedulePass()(once), once)


def test_steps_in_sequence_are_the_whole_pass(mod, wanted):
    steps = tvm.transform.Sequential([ClassifyPass(), RewritePass(), PlanPass(), LowerPass(),
                                      SchedulePass()])(mod)  # fmt: skip
    whole = DNNFusionPass()(mod)
    one, other = (plan_from_json(str(m.attrs[PLAN])) for m in (steps, whole))
    assert one == other
    assert blocks_called(steps) == blocks_called(whole)
    same_numbers(steps, wanted)
    for a, b in zip(run_module(steps, feed(1)), run_module(whole, feed(1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_rewritten_graph_keeps_its_fingerprint_on_the_way_through_relax(mod):
    imported = from_relax(mod)
    graph = rewrite(imported.graph).graph
    back = from_relax(to_relax(imported, graph)).graph
    assert set(back.by_name) == set(graph.by_name)
    assert set(back.constants) != set(graph.constants)  # Relax does not keep their names
    assert fingerprint(back) == fingerprint(graph)


def test_passes_of_tvm_may_stand_between_the_steps(mod, wanted):
    between = [PlanPass(), relax.transform.Normalize(), relax.transform.RemoveUnusedOutputs(),
               LowerPass(), SchedulePass()]  # fmt: skip
    same_numbers(tvm.transform.Sequential(between)(mod), wanted)


def test_a_stale_plan_is_refused_as_a_plan_error(mod):
    planned = PlanPass()(mod)
    changed = RewritePass()(planned)
    with pytest.raises(PlanError, match=r"the graph has no op|no block holds op|another graph"):
        LowerPass()(changed)
