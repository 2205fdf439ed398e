"""What a group of ops would cost as one kernel: asked by planners, never by legality."""

from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.protocol import Cost, Estimate
from tvm_dnnfusion.cost.registry import CostError, cost_names, get_cost, register_cost

__all__ = [
    "AnalyticCost", "Cost", "CostError", "Estimate", "cost_names", "get_cost", "register_cost",
]  # fmt: skip
