"""Partitions: where the three families of rules may look (DNNFusion, section 4.2).

Matching modulo associativity and commutativity is NP-complete, so the graph is cut at every op that
has none of the mathematical properties; a rule of the three families matches inside one partition
only. An op has a property when the catalogue says so, or when a rule of the tables names its kind.
"""

from __future__ import annotations

from functools import cache

from tvm_dnnfusion.ecg.catalog import ENTRIES
from tvm_dnnfusion.ecg.graph import Graph, Op
from tvm_dnnfusion.ecg.mapping import Property
from tvm_dnnfusion.rewrite.pattern import nodes
from tvm_dnnfusion.rewrite.rule import all_rules, registry_version


@cache
def _kinds(version: int) -> frozenset[str]:
    """Kinds with properties (`version` of the register, for the cache)."""
    named = {
        kind
        for rule in all_rules()
        if rule.family.algebraic and rule.pattern is not None
        for node in nodes(rule.pattern)
        for kind in node.kinds
    }
    listed = {kind for kind, entry in ENTRIES.items() if entry.properties is not Property.NONE}
    return frozenset(named | listed)


def kinds_with_properties() -> frozenset[str]:
    """Kinds of op that rules of the three families may match."""
    return _kinds(registry_version())


def has_properties(op: Op) -> bool:
    """Whether rules of the three families may match the op."""
    return op.barrier is None and op.kind in kinds_with_properties()


def partitions(graph: Graph) -> tuple[tuple[Op, ...], ...]:
    """The ops with properties, as connected groups in topological order.

    Near-linear: union-find over the edges between such ops.
    """
    kept = [op for op in graph.ops if has_properties(op)]
    parent = {op.name: op.name for op in kept}

    def find(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for op in kept:
        for p in graph.predecessors(op):
            if p.name in parent:
                parent[find(op.name)] = find(p.name)
    groups: dict[str, list[Op]] = {}
    for op in kept:
        groups.setdefault(find(op.name), []).append(op)
    return tuple(map(tuple, groups.values()))
