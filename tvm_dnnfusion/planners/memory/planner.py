"""Memory planners as planners: a graph in, an ordinary plan out.

    MemoryPlanner("memory", buffer_bytes=128 * 1024).plan(ecg, device) -> Plan

The plan's blocks carry the group's schedule (`BlockMemory`): rows per step, weights that stay, what
waits in which line buffer. `assess` gives the same with the figures of every group, and takes the
names of other planners ("dnnfusion", "tvm", "none"), whose plans it holds to the buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tvm_dnnfusion.cost.memory import (
    Accounting,
    GroupCost,
    MemoryModel,
    Network,
    Setting,
    bits,
    memory_model,
    network_of,
)
from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.accelerators import DEFAULT, Accelerator
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.ledger import Ledger, assemble, draft_of, said_by_all
from tvm_dnnfusion.planners.memory.limited import Limited
from tvm_dnnfusion.planners.memory.reasons import with_figures
from tvm_dnnfusion.planners.memory.search import (
    Budget,
    Partitioner,
    Result,
    get_partitioner,
    partition,
    partitioner_names,
)
from tvm_dnnfusion.planners.plan import Block, BlockMemory, LineBuffer, Plan, PlanMemory, Reason


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one planner made of a network: its groups with their costs, and the plan."""

    planner: str
    model: MemoryModel
    result: Result
    plan: Plan


@dataclass(frozen=True, slots=True)
class MemoryPlanner:
    """A planner that minimises DRAM traffic under a buffer.

    Parameters
    ----------
    name : a partitioner ("memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "exact").
    buffer_bytes, word_bytes, batch, accounting, accelerator : see `cost.memory.Setting`.
    model : the memory model: "brr", "lbdf" or "tiles".
    merge : whether simple ops are merged into layers first.
    seconds : time limit of the search; the best plan so far counts.
    options : of the partitioner.
    """

    name: str = "memory"
    buffer_bytes: int = DEFAULT.buffer_bytes
    word_bytes: int = 2
    batch: int = 1
    accounting: Accounting = Accounting.FULL
    model: str = "brr"
    accelerator: Accelerator = DEFAULT
    merge: bool = True
    seconds: float | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def setting(self) -> Setting:
        """The buffer and how it is charged."""
        return Setting(self.buffer_bytes, self.word_bytes, self.batch, self.accounting,
                       self.accelerator)  # fmt: skip

    def plan(self, ecg: ECG, device: DeviceSpec, cost: Cost | None = None) -> Plan:
        """The plan with the least DRAM traffic that the search finds."""
        return self.assess(ecg, device, Budget(self.seconds), cost).plan

    def assess(self, ecg: ECG, device: DeviceSpec, budget: Budget | None = None,
               cost: Cost | None = None) -> Assessment:  # fmt: skip
        """The plan and the figures behind it.

        Raises
        ------
        NetworkError for a graph without static shapes; PartitionError and PlannerError for planners
        that are not known or do not take the network; MemoryModelError for an unknown model.
        """
        network = network_of(ecg.graph, self.merge)
        model = memory_model(self.model, network, self.setting)
        result = partition(self._partitioner(ecg, device, cost), model, budget)
        return Assessment(self.name, model, result, self._plan(ecg, device, model, result))

    def _partitioner(self, ecg: ECG, device: DeviceSpec, cost: Cost | None) -> Partitioner:
        if self.name in partitioner_names():
            return get_partitioner(self.name, **self.options)
        from tvm_dnnfusion.planners.registry import plan

        return Limited(plan(ecg, self.name, device=device, cost=cost))

    def _plan(self, ecg: ECG, device: DeviceSpec, model: MemoryModel, result: Result) -> Plan:
        facts = Facts(ecg.graph)
        homes = _homes(model.network, result, facts)
        drafts = [draft_of(ops, facts) for ops in homes.values()]
        reason = said_by_all(Reason.FUSED_MEMORY, Reason.MEMORY)
        made = assemble(self.name, drafts, Ledger(facts), device.name, reason)
        of = {op: k for k, ops in homes.items() for op in (o.name for o in ops)}
        blocks = tuple(self._with_memory(b, of[b.ops[0]], model, result) for b in made.blocks)
        about = PlanMemory(self.model, self.accounting.value, self.buffer_bytes, self.word_bytes,
                           self.batch, self.accelerator.name)  # fmt: skip
        decisions = with_figures(made.decisions, model, result.groups)
        return replace(made, blocks=blocks, decisions=decisions, memory=about)

    def _with_memory(self, block: Block, group: int, model: MemoryModel, result: Result) -> Block:
        if group < 0:
            return block
        bits_of, cost = result.groups[group], result.costs[group]
        return replace(block, memory=schedule_of(model, bits_of, cost))


def schedule_of(model: MemoryModel, group: int, cost: GroupCost) -> BlockMemory:
    """A group's schedule as a plan holds it."""
    net, word = model.network, model.setting.word_bytes
    lines = tuple(
        LineBuffer(net.map_of(h.map).name, h.rows, h.slice, h.elements * word)
        for h in (model.held(group) if cost.valid else ())
    )
    return BlockMemory(
        tuple(net.layers[i].name for i in bits(group)), cost.tile_rows, cost.tiles, cost.images,
        cost.resident, cost.used_bytes or cost.buffer_bytes, cost.dram_bytes, cost.energy, lines,
    )  # fmt: skip


def _homes(network: Network, result: Result, facts: Facts) -> dict[int, list[Op]]:
    """Group number -> its ops. Ops of no layer (views, functions of constants) follow what makes
    their operand, or are blocks of their own under negative numbers, as barriers are."""
    place: dict[str, int] = {}
    for k, group in enumerate(result.groups):
        for i in bits(group):
            place.update(dict.fromkeys(network.layers[i].ops, k))
    taken = {place[name] for name in facts.barriers if name in place}
    homes: dict[int, list[Op]] = {}
    alone = 0
    for op in facts.graph.ops:
        home = place.get(op.name)
        if home is None:
            before = [place[p.name] for p in facts.predecessors[op.name] if p.name in place]
            joins = before and len(set(before)) == 1 and op.name not in facts.barriers
            if joins and before[0] not in taken and before[0] >= 0:
                home = before[0]
            else:
                alone -= 1
                home = alone
            place[op.name] = home
        homes.setdefault(home, []).append(op)
    return homes
