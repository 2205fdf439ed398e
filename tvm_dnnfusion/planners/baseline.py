"""Planners to compare with: no fusion, and the groups that TVM's own FuseOps makes.

Both give plans of the same form, so that the same schedules can run all three.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.ledger import Draft, Ledger, assemble
from tvm_dnnfusion.planners.matrix import cell
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
    drafts = [Draft(facts.sorted(g), _mapping(facts.sorted(g), facts), None) for g in groups]
    return assemble(name, drafts, Ledger(facts), device.name, _reason)


def _mapping(ops: tuple[Op, ...], facts: Facts) -> MappingType | None:
    """The accumulated type by table 3; the most complex where a baseline joins a red pair."""
    if ops[0].name in facts.barriers:
        return None
    found = facts.types[ops[0].name]
    for op in ops[1:]:
        joined = cell(found, facts.types[op.name]).mapping
        found = joined or MappingType.MANY_TO_MANY
    return found


def _reason(producer: Op, consumer: Op, together: bool, facts: Facts) -> Reason:
    if together:
        return Reason.FUSED_GREEN
    barrier = producer.name in facts.barriers or consumer.name in facts.barriers
    return Reason.BARRIER if barrier else Reason.BASELINE
