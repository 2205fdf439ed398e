"""PlanPass: which ops share a kernel, as a module attribute that LowerPass applies."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.passes import attrs
from tvm_dnnfusion.pipeline import check_choices, cost_for, device_for
from tvm_dnnfusion.planners import plan, plan_to_json


@tvm.transform.module_pass(opt_level=0, name="DNNFusionPlan")
class PlanPass:
    """Attach a fusion plan to the module (attribute "dnnfusion.plan", JSON).

    The functions are not changed; a pass that changes the planned function makes the plan stale,
    which LowerPass refuses. Source: DNNFusion (PLDI'21), section 4.3.

    Raises PlannerError, DeviceError or TypeError, when it is made, for choices that do not exist.
    """

    def __init__(
        self,
        planner: Any = "dnnfusion",
        device: DeviceSpec | str | None = None,
        cost: Cost | None = None,
        function: str = "main",
    ):
        check_choices(planner, device)
        self.planner, self.device, self.cost, self.function = planner, device, cost, function

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Plan the function."""
        graph = from_relax(mod, self.function).graph
        device = device_for(device=self.device)
        cost = self.cost or cost_for(None, device)
        made = plan(extend(graph), planner=self.planner, device=device, cost=cost)
        return mod.with_attr(attrs.PLAN, plan_to_json(made))
