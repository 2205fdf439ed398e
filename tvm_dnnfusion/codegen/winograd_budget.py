"""Winograd's choices within a budget: how much memory all weights of a module may take together.

Weights transformed for m = 2, 4, 6 take 1.8, 4 and 7.1 times the memory of the originals (those of
5x5 windows, for m = 2 and 4, 1.4 and 2.6 times); fresh ones, which a kernel transforms itself, take
no more than those. Every convolution first takes what `winograd_choice.py` finds best; while the
sum is above the budget, the step down that costs the least time per byte is taken: to a smaller m,
or to the direct template. Steps that later, larger ones made needless are undone, the last one
first.

Convolutions over one constant share what is packed in one form, and that counts once; those of one
m step down together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tvm_dnnfusion.codegen.conv_shape import ConvShape, shape_of
from tvm_dnnfusion.codegen.stages import NotLowerable
from tvm_dnnfusion.codegen.winograd_choice import (
    best,
    candidates,
    direct_bytes,
    direct_cycles,
    possible,
)
from tvm_dnnfusion.codegen.winograd_matrices import SIZES
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph, Op

WEIGHTS_GROWTH = 2.0
"""How much memory all weights of a module may take, as a multiple of the original ones. Runtimes
that pack weights when they load a model hold both forms while they do so: twice is what running a
convolutional network is known to need, and most of what larger tiles bring fits into it."""

_KINDS = frozenset(("nn.conv1d", "nn.conv2d", "nn.conv3d"))

State = tuple[int, ...]
"""For each convolution over one constant, which of its ways it takes."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the budget allows.

    `limits` holds the m (0: direct) of each convolution that Winograd could compute, by op name;
    `reasons` says of those that the budget changed what they are now, and were. `weights` are the
    bytes of all weights under these choices, `original` those of the graph's constants. `room` says
    that every convolution which the budget left alone could take the largest m there is, and all
    weights would still be within it: a search may then try what the cost model did not choose.
    """

    limits: Mapping[str, int]
    reasons: Mapping[str, str]
    weights: int
    original: int
    room: bool = False


@dataclass(frozen=True, slots=True)
class _Way:
    """F(m, r), or the direct template for m = 0: cycles of one core, bytes of the weights, and
    their form, equal where they are the same constant."""

    m: int
    cycles: float
    size: int
    form: tuple[int, ...] = ()
    window: int = 0


@dataclass(frozen=True, slots=True)
class _Shared:
    """A constant, the convolutions over it, and their ways from the preferred one to the direct.

    `kept`: other ops read the constant as it is.
    """

    size: int
    names: tuple[str, ...]
    ways: tuple[tuple[_Way, ...], ...]
    kept: bool

    def taken(self, state: State) -> list[_Way]:
        """The way of each convolution."""
        return [ways[i] for ways, i in zip(self.ways, state)]

    def bytes_of(self, state: State) -> int:
        """Memory of all forms in which the constant is held."""
        forms = {way.form: way.size for way in self.taken(state)}
        return sum((({(): self.size} if self.kept else {}) | forms).values())

    def step(self, state: State) -> _Step | None:
        """The step down that costs the least time per byte; None where no byte can be saved."""
        now = self.taken(state)
        found: list[_Step] = []
        for m in {way.m for way in now}:
            for limit in (0, *SIZES):
                if limit >= m:
                    continue
                after = tuple(
                    i if way.m != m else next(k for k, w in enumerate(ways) if w.m <= limit)
                    for way, ways, i in zip(now, self.ways, state)
                )
                saved = self.bytes_of(state) - self.bytes_of(after)
                lost = sum(b.cycles - a.cycles for a, b in zip(now, self.taken(after)))
                if saved > 0:
                    found.append(_Step(lost / saved, saved, state, after))
        return min(found, key=lambda s: (s.rate, -s.saved, s.after), default=None)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step down: `rate` in cycles per byte."""

    rate: float
    saved: int
    before: State
    after: State


def check_growth(growth: object) -> None:
    """Raise TypeError or ValueError for what is not a multiple of at least 1 (or infinite)."""
    if isinstance(growth, bool) or not isinstance(growth, (int, float)):
        raise TypeError(f"winograd_memory is {growth!r}; give a number such as {WEIGHTS_GROWTH}")
    if math.isnan(growth) or growth < 1:
        raise ValueError(
            f"winograd_memory is {growth!r}; it multiplies the memory of the original weights, so "
            f"give 1.0 (no more than those) or more, or inf for no limit"
        )


def allowed(
    graph: Graph, device: DeviceSpec, limit: int, growth: float = WEIGHTS_GROWTH
) -> Allowed:
    """The largest m for each convolution of a graph, all weights within `growth` times theirs.

    Parameters
    ----------
    limit : the largest m anywhere; 0 forbids Winograd.
    growth : at least 1, as `check_growth` holds; inf for no limit.
    """
    shared, rest = _weights(graph, device, limit)
    states: list[State] = [(0,) * len(s.names) for s in shared]
    original = rest + sum(s.size for s in shared)
    held = rest + sum(s.bytes_of(state) for s, state in zip(shared, states))
    held = _reduce(shared, states, held, original * growth)
    limits: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for s, state in zip(shared, states):
        for name, ways, way in zip(s.names, s.ways, s.taken(state)):
            limits[name] = way.m
            if way.m < ways[0].m:
                reasons[name] = f"{_named(way)} instead of {_named(ways[0])}: weights"
    largest = sum(_largest(op, graph, device, limit) for op in graph.ops if op.name not in reasons)
    return Allowed(limits, reasons, held, original, held + largest <= original * growth)


def _reduce(shared: list[_Shared], states: list[State], held: int, budget: float) -> int:
    """Take steps in `states` until the bytes held fit; returns these."""
    steps = [s.step(state) for s, state in zip(shared, states)] if held > budget else []
    done: list[tuple[int, _Step]] = []
    while held > budget:
        open_steps = [(step.rate, k, step) for k, step in enumerate(steps) if step is not None]
        if not open_steps:
            break  # nothing but direct convolutions: `growth` below 1
        _, k, step = min(open_steps, key=lambda s: s[:2])
        held -= step.saved
        states[k] = step.after
        steps[k] = shared[k].step(step.after)
        done.append((k, step))
    for k, step in reversed(done):
        if states[k] == step.after and held + step.saved <= budget:
            states[k] = step.before
            held += step.saved
    return held


def _weights(graph: Graph, device: DeviceSpec, limit: int) -> tuple[list[_Shared], int]:
    """The constants that Winograd may transform, and the bytes of all others."""
    found: dict[str, list[tuple[Op, ConvShape]]] = {}
    kept: set[str] = set()
    for op in graph.ops:
        sizes = _possible(op, graph, device)
        if sizes is not None:
            found.setdefault(op.inputs[1], []).append((op, sizes))
        read = op.inputs if sizes is None else (op.inputs[0], *op.inputs[2:])
        kept.update(t for t in read if t in graph.constants)
    known: dict[ConvShape, tuple[_Way, ...]] = {}
    shared: list[_Shared] = []
    for name, convs in found.items():
        size = graph.constants[name].nbytes
        for _, sizes in convs:
            if sizes not in known:
                known[sizes] = _ways(sizes, device, limit)
        names = tuple(op.name for op, _ in convs)
        shared.append(_Shared(size, names, tuple(known[s] for _, s in convs), name in kept))
    return shared, sum(graph.constants[t].nbytes for t in kept if t not in found)


def _possible(op: Op, graph: Graph, device: DeviceSpec) -> ConvShape | None:
    """The sizes of a convolution that Winograd can compute."""
    if op.kind not in _KINDS or op.inputs[1] not in graph.constants:
        return None
    if graph.tensors[op.inputs[0]].dtype != "float32":
        return None
    try:
        sizes = shape_of(op, graph)
    except NotLowerable:
        return None
    return sizes if possible(sizes, device) else None


def _largest(op: Op, graph: Graph, device: DeviceSpec, limit: int) -> int:
    """Bytes of a convolution's weights under the largest m; 0 for what Winograd cannot compute."""
    sizes = _possible(op, graph, device)
    found = list(candidates(sizes, device, limit)) if sizes is not None and limit else []
    return max((4 * math.prod(c.tiling.weight_shape) for c in found), default=0)


def _ways(sizes: ConvShape, device: DeviceSpec, limit: int) -> tuple[_Way, ...]:
    """What the cost model takes under smaller and smaller limits."""
    ways: list[_Way] = []
    for m in sorted(SIZES, reverse=True):
        choice = best(sizes, device, m) if m <= limit else None
        if choice is not None and all(way.m != choice.tiling.m for way in ways):
            t = choice.tiling
            form = (0 if t.fresh else t.m, *t.weight_shape)
            ways.append(_Way(t.m, choice.cycles, 4 * math.prod(t.weight_shape), form, t.window))
    return (*ways, _Way(0, direct_cycles(sizes, device), direct_bytes(sizes, device)))


def _named(way: _Way) -> str:
    return f"F({way.m}, {way.window})" if way.m else "direct"
