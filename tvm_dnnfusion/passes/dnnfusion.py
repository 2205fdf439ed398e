"""DNNFusionPass: the whole way as one pass of a TVM pipeline.

with tvm.target.Target({"kind": "llvm", "mcpu": "znver4"}):
    mod = tvm.transform.Sequential([DNNFusionPass()])(mod)
ex = tvm.compile(mod, target)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.codegen.winograd_budget import WEIGHTS_GROWTH
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.passes import attrs
from tvm_dnnfusion.pipeline import Options, check_choices, cost_for, device_for, fuse, tuned_by
from tvm_dnnfusion.planners import plan_from_json, plan_to_json
from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.report.plan_file import read_plan
from tvm_dnnfusion.rewrite import RewriteOptions


@tvm.transform.module_pass(opt_level=0, name="DNNFusionPass")
class DNNFusionPass:
    """Rewrite, plan, lower and schedule a Relax function.

    Parameters
    ----------
    planner : "dnnfusion", "tvm" (the groups of FuseOps), "none", or an object with `plan`.
    rewrite : True, False, or RewriteOptions.
    device : a DeviceSpec or the name of one; else that of the current target; else the host.
    profile : a profile database, or its path, that answers for the yellow cells; None: estimates.
    plan : a plan to apply instead of planning: a Plan, its JSON text, or the path of its file.
    function : the Relax function.
    winograd : largest m of Winograd's F(m, r) for 3x3 and 5x5 convolutions: 6, 4, 2, or 0 for none.
    winograd_memory : how many times their memory all weights together may take for it: at least 1.
    tuning_records : records of `dnnfusion tune`, or their file; None: the templates' own choices.

    The resulting module carries the plan and the rewriting report as the attributes
    "dnnfusion.plan" and "dnnfusion.rewrite". An IRModule goes in and a new one comes out; functions
    that are not called from the fused one are kept.

    Raises
    ------
    PlannerError, DeviceError, TypeError or ValueError, when the pass is made, for choices that do
    not exist.
    """

    def __init__(
        self,
        planner: Any = "dnnfusion",
        rewrite: bool | RewriteOptions = True,
        device: DeviceSpec | str | None = None,
        profile: ProfileDB | str | Path | None = None,
        plan: Plan | str | Path | None = None,
        function: str = "main",
        winograd: int = MAX_TILE,
        winograd_memory: float = WEIGHTS_GROWTH,
        tuning_records: TuningDB | str | Path | None = None,
    ):
        check_choices(planner, device, rewrite, winograd, winograd_memory)
        self.winograd, self.winograd_memory = winograd, winograd_memory
        self.planner, self.device, self.profile, self.function = planner, device, profile, function
        self.rewriting = rewrite_options(rewrite)
        self.given = load_plan(plan)
        self.records = tuning_records

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Fuse the function."""
        device = device_for(device=self.device)
        variants = Variants(device, self.winograd, self.winograd_memory)
        options = Options(
            self.planner,
            self.rewriting,
            device,
            cost_for(self.profile, device, variants=variants),
            self.given,
            self.function,
            self.winograd,
            self.winograd_memory,
            tuned_by(self.records, device),
        )
        fused = fuse(mod, options)
        out = fused.module.with_attr(attrs.PLAN, plan_to_json(fused.plan))
        if fused.rewriting is not None:
            out = attrs.put(out, attrs.REWRITE, fused.rewriting.report.to_dict())
        return out


def rewrite_options(choice: bool | RewriteOptions) -> RewriteOptions | None:
    """True, False or options, as options or None."""
    if isinstance(choice, RewriteOptions):
        return choice
    return RewriteOptions() if choice else None


def load_plan(plan: Plan | str | Path | None) -> Plan | None:
    """A plan from what users give for one."""
    if plan is None or isinstance(plan, Plan):
        return plan
    if isinstance(plan, str) and plan.lstrip().startswith("{"):
        return plan_from_json(plan)
    return read_plan(Path(plan))
