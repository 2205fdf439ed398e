"""Who is fused with whom: planners, legality, and plans as data.

    plan(ecg, planner="dnnfusion", device=spec) -> Plan

Facts (`facts`, `matrix`, `limits`) and legality (`legality`, `extension`) are apart from the search
(`dnnfusion`) and from profit (`tvm_dnnfusion.cost`). Nothing here imports TVM, except the baseline
planner "tvm" while it runs.
"""

from tvm_dnnfusion.planners.check import check_plan, ir_removable
from tvm_dnnfusion.planners.dnnfusion import DNNFusionPlanner
from tvm_dnnfusion.planners.plan_io import (
    PlanError,
    load_plan,
    plan_from_json,
    plan_to_json,
    save_plan,
)
from tvm_dnnfusion.planners.registry import (
    Planner,
    PlannerError,
    get_planner,
    plan,
    planner_names,
    register_planner,
)

__all__ = [
    "DNNFusionPlanner", "PlanError", "Planner", "PlannerError", "check_plan", "get_planner",
    "ir_removable", "load_plan", "plan", "plan_from_json", "plan_to_json", "planner_names",
    "register_planner", "save_plan",
]  # fmt: skip
