"""The planner of DNNFusion (PLDI'21, section 4.3, listing 1, figure 3).

Seeds are One-to-One ops, the smallest intermediate result first. A block grows from its seed to the
successors, then to the predecessors; `judge` says whether a pair may be fused, and where table 3 is
yellow the cost decides. Each edge is looked at a bounded number of times: apart from cost, the time
is near-linear in the graph.

Where the listing is silent or loose, and what is done here:

- It checks pairs; its worked example uses the type of the whole block so far. So does this.
- It mentions no cycles; joins are kept convex over blocks (`contraction.py`).
- It ends when no One-to-One op is left; the rest is planned in the same way, seeds being first
  Reorganize and Shuffle, then One-to-Many, then Many-to-Many, each by smallest result.
- `prefer_epilogue` (default): a step that would make elementwise ops the prologue of a heavy op, or
  the input of an expansion, is refused with BETTER_AS_EPILOGUE while a heavy op behind them could
  take them at its end (`epilogue.py`). Step III then visits the predecessors of every op of the
  block, not of the seed alone, and what was refused going forward is tried once more when the block
  has its heavy op. `prefer_epilogue=False` is the listing to the letter.
- `extensions` (default): two kinds of pairs beyond table 3 (`extension.py`).
- `in_place` (default): concats whose parts come out of different kernels are joined in place and
  stay out of the search (`places.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tvm_dnnfusion.cost.analytic import AnalyticCost
from tvm_dnnfusion.cost.protocol import Cost, compare
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Op
from tvm_dnnfusion.ecg.info import ECG
from tvm_dnnfusion.ecg.mapping import MappingType
from tvm_dnnfusion.planners.contraction import Contraction
from tvm_dnnfusion.planners.epilogue import heavy_before, parts_read_in_place
from tvm_dnnfusion.planners.facts import Facts
from tvm_dnnfusion.planners.ledger import Draft, Ledger, assemble
from tvm_dnnfusion.planners.legality import Answer, Part, Verdict, judge
from tvm_dnnfusion.planners.limits import Limits
from tvm_dnnfusion.planners.places import copied, find_places, is_joined
from tvm_dnnfusion.planners.plan import Plan, Reason

_SEED_ORDER = (
    (MappingType.ONE_TO_ONE,),
    (MappingType.REORGANIZE, MappingType.SHUFFLE),
    (MappingType.ONE_TO_MANY,),
    (MappingType.MANY_TO_MANY,),
)
_TRY_AGAIN = (Reason.BETTER_AS_EPILOGUE, Reason.RED)


@dataclass(frozen=True, slots=True)
class DNNFusionPlanner:
    """Listing 1 with the options of the module's docstring."""

    prefer_epilogue: bool = True
    extensions: bool = True
    in_place: bool = True
    name: str = "dnnfusion"

    def plan(self, ecg: ECG, device: DeviceSpec, cost: Cost | None = None) -> Plan:
        """A partition of the graph's ops into blocks.

        Parameters
        ----------
        ecg : the extended graph.
        device : its limits are the constraint check of step 2.2.
        cost : decides the yellow cells of table 3; None: the analytic cost of the device.
        """
        search = Search(self, ecg, device, cost or AnalyticCost(device))
        made = assemble(self.name, search.run(), search.ledger, device.name)
        return replace(made, places=tuple(search.places.values()))


@dataclass
class _Growing:
    """The block that is being grown."""

    seed: Op
    ops: dict[str, Op]
    mapping: MappingType
    again: bool = False
    refused: dict[str, Op] = field(default_factory=dict)


class Search:
    """One run of the planner; `checks` counts the calls of `judge`."""

    def __init__(self, options: DNNFusionPlanner, ecg: ECG, device: DeviceSpec, cost: Cost) -> None:
        self.options, self.ecg, self.cost = options, ecg, cost
        self.facts = Facts(ecg.graph)
        self.limits = Limits.of(device)
        self.ledger = Ledger(self.facts)
        self.contraction = Contraction(self.facts)
        self.unfused = {op.name: op for op in self.facts.sorted(ecg.graph.ops)}
        self.places = find_places(self.facts, device) if options.in_place else {}
        self.checks = 0

    def run(self) -> list[Draft]:
        """All blocks, in the order in which they were made."""
        drafts = [Draft((op,), None, None) for op in self._take_barriers()]
        drafts += [Draft((op,), self.facts.types[op.name], None) for op in self._take_joined()]
        for seed in self._seeds():
            if seed.name in self.unfused:
                drafts.append(self._grow(seed))
        for draft in drafts:
            self._one_part_each(draft)
        return drafts

    def _take_barriers(self) -> list[Op]:
        found = [op for op in self.unfused.values() if op.name in self.facts.barriers]
        for op in found:
            del self.unfused[op.name]
        return found

    def _take_joined(self) -> list[Op]:
        """The concats that are joined in place: no kernel, so no block takes them in."""
        graph = self.ecg.graph
        found = [op for op in self.unfused.values() if is_joined(op, graph, self.places)]
        for op in found:
            del self.unfused[op.name]
            copies = {p.tensor for p in copied(op, graph, self.places)}
            for p in self.facts.predecessors[op.name]:
                moved = copies.intersection(p.outputs)
                self.ledger.refuse((p,), (op,), Reason.COPIED if moved else Reason.IN_PLACE)
            self.ledger.refuse((op,), self.facts.successors[op.name], Reason.IN_PLACE)
        return found

    def _one_part_each(self, draft: Draft) -> None:
        """A kernel writes one part of a joined tensor in place; others that it makes are copied."""
        used: set[str] = set()
        for op in draft.ops:
            for t in op.outputs:
                place = self.places.get(t)
                if place is not None and place.buffer in used:
                    del self.places[t]
                    readers = [c for c in self.facts.graph.consumers[t] if c.kind == "concat"]
                    self.ledger.refuse((op,), readers, Reason.COPIED)
                elif place is not None:
                    used.add(place.buffer)

    def _seeds(self) -> Iterator[Op]:
        """Seeds in order: One-to-One by smallest IRS, then what the listing leaves over."""
        for types in _SEED_ORDER:
            group = [op for op in self.unfused.values() if self.facts.types[op.name] in types]
            yield from sorted(group, key=lambda op: (self._irs(op), self.facts.order[op.name]))

    def _irs(self, op: Op) -> int:
        return self.ecg.info[op.name].irs_bytes

    def _grow(self, seed: Op) -> Draft:
        block = _Growing(seed, {seed.name: seed}, self.facts.intrinsic(seed))
        del self.unfused[seed.name]
        self._successors(block, seed)
        self._predecessors(block)
        if self.options.prefer_epilogue:
            self._again(block)
        ops = self.facts.sorted(block.ops.values())
        return Draft(ops, block.mapping if len(ops) > 1 else self.facts.types[seed.name], seed.name)

    def _successors(self, block: _Growing, start: Op) -> None:
        """Step II: fuse forward from an op, depth first, along every path that keeps fusing."""
        stack = [iter(self.facts.successors[start.name])]
        while stack:
            op = next(stack[-1], None)
            if op is None:
                stack.pop()
            elif op.name not in block.ops and self._join(block, op, forward=True):
                stack.append(iter(self.facts.successors[op.name]))

    def _predecessors(self, block: _Growing) -> None:
        """Step III, its mirror image: the seed's predecessors first, then those of the others."""
        starts = [block.seed]
        if self.options.prefer_epilogue:
            starts += [op for op in block.ops.values() if op.name != block.seed.name]
        for start in starts:
            stack = [iter(self.facts.predecessors[start.name])]
            while stack:
                op = next(stack[-1], None)
                if op is None:
                    stack.pop()
                elif op.name not in block.ops and self._join(block, op, forward=False):
                    stack.append(iter(self.facts.predecessors[op.name]))

    def _again(self, block: _Growing) -> None:
        """What was refused going forward, now that the block has what stood behind it."""
        block.again = True
        before = tuple(block.ops.values())
        for op in tuple(block.refused.values()):
            if op.name in self.unfused and self._join(block, op, forward=True):
                self._successors(block, op)
        if len(block.ops) > len(before):
            self._predecessors(block)

    def _join(self, block: _Growing, op: Op, forward: bool) -> bool:
        """Try to take an op into the block, and record the outcome for the edges between them."""
        members = tuple(block.ops.values())
        sides = (members, (op,)) if forward else ((op,), members)
        if op.name not in self.unfused:
            barrier = op.name in self.facts.barriers
            self.ledger.refuse(*sides, Reason.BARRIER if barrier else Reason.TAKEN)
            return False
        verdict, source = self._decide(block, op, forward)
        if verdict.answer is Answer.NO:
            self._refuse(block, sides, op, verdict, source, forward)
            return False
        self.ledger.fuse(members, (op,), verdict.reason, verdict.numbers, source)
        self.ledger.fuse((op,), members, verdict.reason, verdict.numbers, source)
        self.contraction.join(block.seed, op)
        block.ops[op.name] = op
        block.mapping = verdict.mapping or block.mapping
        del self.unfused[op.name]
        return True

    def _refuse(self, block: _Growing, sides: tuple[tuple[Op, ...], tuple[Op, ...]], op: Op,
                verdict: Verdict, source: str, forward: bool) -> None:  # fmt: skip
        self.ledger.refuse(*sides, verdict.reason, verdict.numbers, source)
        if forward and verdict.reason in _TRY_AGAIN and not block.again:
            block.refused[op.name] = op

    def _decide(self, block: _Growing, op: Op, forward: bool) -> tuple[Verdict, str]:
        """Legality, then the better place, then profit where the table leaves it open."""
        self.checks += 1
        members = self.facts.sorted(block.ops.values())
        mine, other = Part(members, block.mapping), Part.single(op, self.facts)
        first, second = (mine, other) if forward else (other, mine)
        verdict = judge(first, second, self.facts, self.limits,
                        lambda: self.contraction.can_join(block.seed, op),
                        self.options.extensions)  # fmt: skip
        if verdict.answer is Answer.NO:
            return verdict, "table"
        if self.options.prefer_epilogue and self._better_elsewhere(block, op, forward):
            return Verdict(Answer.NO, Reason.BETTER_AS_EPILOGUE), "table"
        if self.options.prefer_epilogue and forward and parts_read_in_place(op, self.facts):
            return Verdict(Answer.NO, Reason.BETTER_AS_PROLOGUE), "table"
        if verdict.answer is Answer.PROFILE:
            return self._profit(members, op, verdict)
        return verdict, "table"

    def _better_elsewhere(self, block: _Growing, op: Op, forward: bool) -> bool:
        """Whether the light side of this step could be the epilogue of a heavy op not in it."""
        members = self.facts.sorted(block.ops.values())
        has_heavy = any(self.facts.is_heavy(m) for m in members)
        sides = (members, (op,)) if forward else ((op,), members)
        grows = self.facts.entry(*sides) is MappingType.ONE_TO_MANY
        if forward:
            idle = has_heavy or block.again or not (self.facts.is_heavy(op) or grows)
        else:
            idle = self.facts.is_heavy(op) or not (has_heavy or grows)
        if idle:
            return False
        found = heavy_before(members if forward else (op,), self.facts, self.contraction,
                             lambda p: p.name in self.unfused or p.name in block.ops)  # fmt: skip
        if found is None or found[0].name in block.ops:
            return False
        return forward or not self._comes_along(block, found)

    def _comes_along(self, block: _Growing, found: tuple[Op, ...]) -> bool:
        """Whether the heavy op behind can join the block with its epilogue: an extension."""
        members = self.facts.sorted(block.ops.values())
        verdict = judge(Part(found, MappingType.MANY_TO_MANY), Part(members, block.mapping),
                        self.facts, self.limits,
                        lambda: self.contraction.is_convex((*found, *members)),
                        self.options.extensions)  # fmt: skip
        return verdict.reason is Reason.FUSED_EXTENSION

    def _profit(self, members: tuple[Op, ...], op: Op, verdict: Verdict) -> tuple[Verdict, str]:
        """Step 2.3: keep the fusion unless it is slower than the two kernels, beyond doubt.

        What stays open (a latency model that is not sure, and nothing to measure with) is fused, as
        the listing does where it does not ask: one kernel less is a call and a tensor less.
        """
        joined = self.facts.sorted((*members, op))
        found = compare(self.cost, joined, (members, (op,)), self.ecg.graph)
        if found.fused.us > found.apart_us and not found.is_open:
            return Verdict(Answer.NO, Reason.NO_PROFIT, found.numbers), found.source
        verdict = Verdict(Answer.FUSE, Reason.FUSED_PROFIT, found.numbers, verdict.mapping)
        return verdict, found.source
