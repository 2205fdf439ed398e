"""Costs by name. The built-in one registers in the same way as a user's:

@register_cost("mine")
def make(device: DeviceSpec) -> Cost: ...
"""

from __future__ import annotations

from collections.abc import Callable

from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.learned import learned_cost
from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.named import known_as

CostFactory = Callable[[DeviceSpec], Cost]
_COSTS: dict[str, CostFactory] = {}


class CostError(KeyError):
    """No cost of that name; the message lists those that exist."""

    def __str__(self) -> str:
        return str(self.args[0])


def register_cost(name: str) -> Callable[[CostFactory], CostFactory]:
    """Decorator: make a cost known under a name. Raises ValueError when the name is taken."""
    return known_as(_COSTS, "cost", name)


def get_cost(name: str, device: DeviceSpec) -> Cost:
    """The cost of that name for a device. Raises CostError with the names that exist."""
    if name not in _COSTS:
        raise CostError(f"no cost named {name!r}; known: {', '.join(cost_names())}")
    return _COSTS[name](device)


def cost_names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_COSTS))


@register_cost("learned")
def _learned(device: DeviceSpec) -> Cost:
    return learned_cost(device)


@register_cost("analytic")
def _analytic(device: DeviceSpec) -> Cost:
    return AnalyticCost(device)
