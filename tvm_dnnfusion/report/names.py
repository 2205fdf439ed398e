"""Finding ops by what people call them: a layer, an op of the plan, a kernel, or a prefix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.report.summary import GraphSummary

CLOSE_MATCHES = 5
"""Names that an error offers."""


class UnknownNameError(LookupError):
    """No op goes by that name, or several do; `matches` are the names that were meant, perhaps."""

    def __init__(self, message: str, matches: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.matches = matches


def resolve(graph: GraphSummary, name: str, plan: Plan | None = None) -> tuple[str, ...]:
    """Op names that `name` stands for, in topological order.

    Tried in this order: an op's name, a source layer (all ops made from it), a kernel of the plan
    (all ops in it), then the only one of these names that starts with `name`.

    Raises
    ------
    UnknownNameError
        When nothing, or more than one thing, goes by the name; the message offers close matches.
    """
    groups = _groups(graph, plan)
    if name in groups:
        return groups[name]
    if name in graph.removed:
        raise UnknownNameError(
            f"{name} is a layer of the model, but the optimised graph has no op of it: it was "
            f"folded, cancelled or unused (see the rewriting rules in the report)"
        )
    starting = [other for other in groups if name and other.startswith(name)]
    if len({groups[other] for other in starting}) == 1:
        return groups[starting[0]]
    if starting:
        raise UnknownNameError(_ambiguous(name, starting), tuple(starting))
    close = close_names(name, [*groups, *graph.removed])
    hint = f"; did you mean {', '.join(close)}?" if close else "; `dnnfusion inspect` lists them"
    raise UnknownNameError(f"no layer, op or kernel is named {name!r}{hint}", close)


def close_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Names like `name`: by spelling, whatever the case, then those that contain it."""
    names = tuple(dict.fromkeys(known))
    lowered: dict[str, str] = {}
    for other in names:
        lowered.setdefault(other.lower(), other)
    alike = difflib.get_close_matches(name.lower(), list(lowered), n=CLOSE_MATCHES, cutoff=0.6)
    found = [lowered[other] for other in alike]
    found += [other for other in names if len(name) > 2 and name.lower() in other.lower()]
    return tuple(dict.fromkeys(found))[:CLOSE_MATCHES]


def _groups(graph: GraphSummary, plan: Plan | None) -> Mapping[str, tuple[str, ...]]:
    """Every name that can be given -> its ops; op names win over layers, layers over kernels."""
    layers: dict[str, list[str]] = {}
    for op in graph.ops:
        for layer in dict.fromkeys(op.origins):
            layers.setdefault(layer, []).append(op.name)
    out: dict[str, tuple[str, ...]] = {op.name: (op.name,) for op in graph.ops}
    for layer, ops in layers.items():
        out.setdefault(layer, tuple(ops))
    for block in () if plan is None else plan.blocks:
        out.setdefault(block.name, block.ops)
    return out


def _ambiguous(name: str, starting: list[str]) -> str:
    shown = ", ".join(starting[:CLOSE_MATCHES])
    more = len(starting) - CLOSE_MATCHES
    rest = f" and {more} more" if more > 0 else ""
    return f"{name!r} could be {shown}{rest}: give more of the name"
