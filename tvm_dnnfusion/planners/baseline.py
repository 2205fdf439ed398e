"""Planners to compare with: no fusion, and the groups that TVM's own FuseOps makes.

Both give plans of the same form, so that the same schedules can run all three.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.ledger import Ledger, assemble, draft_of, said_by_all
from tvm_dnnfusion.planners.plan import Plan, Reason


@dataclass(frozen=True, slots=True)
class SingletonPlanner:
    """One kernel per op."""

    name: str = "none"

    def plan(self, ecg: ECG, device: DeviceSpec, cost: Cost | None = None) -> Plan:
        """A block for every op; every edge says BASELINE, or BARRIER."""
        facts = Facts(ecg.graph)
        return _baseline(self.name, [(op,) for op in ecg.graph.ops], facts, device)


@dataclass(frozen=True, slots=True)
class FuseOpsPlanner:
    """The groups of `relax.transform.FuseOps`, mapped back to the graph's ops. Needs TVM."""

    name: str = "tvm"

    def plan(self, ecg: ECG, device: DeviceSpec, cost: Cost | None = None) -> Plan:
        """TVM's groups; barriers stay alone, and what lies behind one is a parameter to FuseOps."""
        from tvm_dnnfusion.frontend.fuseops import fuseops_groups

        facts = Facts(ecg.graph)
        return _baseline(self.name, fuseops_groups(ecg.graph), facts, device)


def _baseline(name: str, groups: list[tuple[Op, ...]], facts: Facts, device: DeviceSpec) -> Plan:
    drafts = [draft_of(group, facts) for group in groups]
    reason = said_by_all(Reason.FUSED_GREEN, Reason.BASELINE)
    return assemble(name, drafts, Ledger(facts), device.name, reason)
