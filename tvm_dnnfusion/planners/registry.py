"""Planners by name, and the one call that runs them.

The built-in planners register in the same way as a user's:

    @register_planner("mine")
    def make(**options) -> Planner: ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, Union, runtime_checkable

from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.named import known_as
from tvm_dnnfusion.planners.baseline import FuseOpsPlanner, SingletonPlanner
from tvm_dnnfusion.planners.dnnfusion import DNNFusionPlanner
from tvm_dnnfusion.planners.memory import MemoryPlanner
from tvm_dnnfusion.planners.plan import Plan


@runtime_checkable
class Planner(Protocol):
    """What a planner is: ECG and device in, plan out."""

    def plan(self, ecg: ECG, device: DeviceSpec, cost: Cost | None = None) -> Plan:
        """A partition of the graph's ops into blocks, with a decision for every edge."""
        ...


PlannerFactory = Callable[..., Planner]
_PLANNERS: dict[str, PlannerFactory] = {}


class PlannerError(KeyError):
    """No planner of that name; the message lists those that exist."""

    def __str__(self) -> str:
        return str(self.args[0])


def register_planner(name: str) -> Callable[[PlannerFactory], PlannerFactory]:
    """Decorator: make a planner known under a name. Raises ValueError when the name is taken."""
    return known_as(_PLANNERS, "planner", name)


def planner_names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_PLANNERS))


def get_planner(name: str, **options: Any) -> Planner:
    """A planner with its options. Raises PlannerError with the names that exist."""
    if name not in _PLANNERS:
        raise PlannerError(f"no planner named {name!r}; known: {', '.join(planner_names())}")
    return _PLANNERS[name](**options)


def plan(ecg: ECG, planner: Union[str, Planner] = "dnnfusion", *, device: DeviceSpec,
         cost: Cost | None = None, **options: Any) -> Plan:  # fmt: skip
    """Plan a graph.

    Parameters
    ----------
    ecg : the extended graph.
    planner : a registered name, or a planner.
    device : limits and, where `cost` is None, the figures of the analytic cost.
    cost : decides where table 3 is yellow.
    options : of the planner, when it is given by name.

    Raises
    ------
    PlannerError for an unknown name.
    """
    chosen = get_planner(planner, **options) if isinstance(planner, str) else planner
    return chosen.plan(ecg, device, cost)


register_planner("dnnfusion")(DNNFusionPlanner)
register_planner("none")(SingletonPlanner)
register_planner("tvm")(FuseOpsPlanner)
for _name in ("memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "get"):
    register_planner(_name)(partial(MemoryPlanner, _name))
