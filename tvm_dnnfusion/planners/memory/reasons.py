"""Why two groups of a memory plan stayed apart: figures for every edge between them.

Where the two together do not fit the buffer, the decision names the operators at fault: the core
that is left when layers are taken off either end for as long as the rest does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm_dnnfusion.cost.memory import MemoryModel
from tvm_dnnfusion.planners.plan import EdgeDecision, Reason


def explain_invalid(model: MemoryModel, group: int) -> tuple[str, ...]:
    """The operators that make a group invalid together; none where it is valid.

    Taking the first or the last of them away leaves a group that fits.
    """
    if model.evaluate(group).valid:
        return ()
    net = model.network
    core = list(net.members(group))
    shrunk = True
    while shrunk and len(core) > 1:
        shrunk = False
        for rest in (core[1:], core[:-1]):
            if not model.evaluate(sum(1 << i for i in rest)).valid:
                core, shrunk = rest, True
                break
    return tuple(net.layers[i].ops[0] for i in core)


def with_figures(decisions: Sequence[EdgeDecision], model: MemoryModel, groups: Sequence[int]
                 ) -> tuple[EdgeDecision, ...]:  # fmt: skip
    """The decisions, those of reason MEMORY with what the two groups would cost together."""
    home = {
        op: g
        for g in groups
        for i in model.network.members(g)
        for op in model.network.layers[i].ops
    }
    known: dict[tuple[int, int], EdgeDecision] = {}
    out: list[EdgeDecision] = []
    for d in decisions:
        a, b = home.get(d.producer, 0), home.get(d.consumer, 0)
        if d.reason is not Reason.MEMORY or not a or not b or a == b:
            out.append(d)
            continue
        if (a, b) not in known:
            known[a, b] = _decided(d, model, a, b)
        found = known[a, b]
        fresh = replace(d, reason=found.reason, numbers=found.numbers, ops=found.ops)
        out.append(replace(fresh, source=found.source))
    return tuple(out)


def _decided(d: EdgeDecision, model: MemoryModel, a: int, b: int) -> EdgeDecision:
    joined = a | b
    if not model.network.is_convex(joined):
        return replace(d, reason=Reason.NOT_CONVEX)
    apart = model.evaluate(a).dram_bytes + model.evaluate(b).dram_bytes
    cost = model.evaluate(joined)
    if cost.valid:
        numbers = (("together_bytes", cost.dram_bytes), ("apart_bytes", apart))
        return replace(d, numbers=numbers, source="model")
    numbers = (
        ("needed_bytes", float(cost.buffer_bytes)),
        ("buffer_bytes", float(model.setting.buffer_bytes)),
    )
    return replace(d, numbers=numbers, source="model", ops=explain_invalid(model, joined))
