"""LowerPass: one PrimFunc per block of the plan, not scheduled yet."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_dnnfusion.codegen.lower import lower
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.passes import attrs
from tvm_dnnfusion.pipeline import device_for
from tvm_dnnfusion.planners import check_plan, plan, plan_from_json


@tvm.transform.module_pass(opt_level=0, name="DNNFusionLower")
class LowerPass:
    """Apply the plan that PlanPass attached, or the default planner's where there is none.

    Source: DNNFusion (PLDI'21), section 4.4. Raises PlanError for a plan of another function.
    """

    def __init__(self, device: DeviceSpec | str | None = None, function: str = "main"):
        self.device, self.function = device, function

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Lower the function."""
        device = device_for(device=self.device)
        imported = from_relax(mod, self.function)
        text = (mod.attrs or {}).get(attrs.PLAN)
        if text is None:
            chosen = plan(extend(imported.graph), device=device)
        else:
            chosen = check_plan(plan_from_json(str(text)), imported.graph)
        return lower(imported, imported.graph, chosen, device).module
