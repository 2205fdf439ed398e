"""Small spaces and memory models with figures that can be checked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tvm_dnnfusion.cost.memory import Accounting, MemoryModel, Setting, memory_model, network_of
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.planners.get.blocks import Blocks
from tvm_dnnfusion.planners.get.partition import is_legal
from tvm_dnnfusion.planners.get.space import Mask, Space, members

KIB = 1024


@dataclass(frozen=True)
class Figures:
    """Of one group."""

    valid: bool
    buffer_bytes: int
    dram_bytes: float


@dataclass
class SumModel:
    """A group needs the sum of its nodes' weights, below `cap`; traffic is maps in and out."""

    space: Space
    weights: list[int]
    cap: int
    asked: list[Mask] = field(default_factory=list)

    def evaluate(self, group: Mask) -> Figures:
        self.asked.append(group)
        need = sum(self.weights[v] for v in members(group))
        read = 0
        for v in members(group):
            read |= self.space.before[v] & ~group
        out = [v for v in members(group) if self.space.after[v] & ~group or not self.space.after[v]]
        valid = need < self.cap or not group & (group - 1)
        return Figures(valid, need, read.bit_count() + len(out) if valid else math.inf)


def chain(length: int) -> Space:
    """0 -> 1 -> 2 ..."""
    return Space(length, [(v, v + 1) for v in range(length - 1)])


def residual() -> Space:
    """The paper's example: add -> conv -> relu -> add' and the skip around."""
    return Space(4, [(0, 1), (1, 2), (2, 3), (0, 3)])


def squeeze_excite() -> Space:
    """0 -> conv 1 -> mean 2 -> conv 3 -> multiply 4 (reads 1 too) -> conv 5 -> add 6 (reads 0)."""
    return Space(7, [(0, 1), (1, 2), (2, 3), (3, 4), (1, 4), (4, 5), (0, 6), (5, 6)])


def random_space(rng: Random, size: int) -> Space:
    """A random connected DAG."""
    edges = [(rng.randrange(v), v) for v in range(1, size)]
    edges += [tuple(sorted(rng.sample(range(size), 2))) for _ in range(size // 3)]  # type: ignore[misc]
    return Space(size, edges)


@dataclass
class Keeper:
    """A budget of proposals that checks every plan offered to it.

    `history` is the best cost after each proposal.
    """

    space: Space
    interrupt_at: int | None = None
    stop_at: int | None = None
    proposed: int = 0
    best: tuple[float, tuple[Mask, ...]] | None = None
    history: list[float] = field(default_factory=list)

    def spent(self) -> bool:
        return self.proposed == self.stop_at

    def propose(self, count: int = 1) -> None:
        self.proposed += count

    def offer(self, groups: Sequence[Mask], cost: float) -> bool:
        assert is_legal(self.space, groups)
        assert math.isfinite(cost)
        assert self.best is None or cost < self.best[0]
        self.best = (cost, tuple(groups))
        return True

    def report(self, phase: str, done: int, total: int | None = None) -> None:
        assert (phase, done) == ("search", self.proposed)
        assert self.best is not None
        self.history.append(self.best[0])
        if self.interrupt_at == self.proposed:
            raise KeyboardInterrupt


def mobile_graph(blocks: int = 6, size: int = 56) -> Graph:
    """Inverted residuals with squeeze-and-excite, as in EfficientNet."""
    net = Blocks()
    x = net.conv_act(net.image(size), 16, 3, 2, "swish")
    for k in range(blocks):
        wide = 4 * net.channels(x)
        x = net.inverted(x, wide, 16 + 8 * (k // 3), 3, 1, "swish", squeeze=8)
    return net.graph(x)


def lbdf(graph: Graph, kib: int) -> MemoryModel:
    """The LBDF model of a graph with every primitive operator as a node."""
    setting = Setting(kib * KIB, accounting=Accounting.PAPER)
    return memory_model("lbdf", network_of(graph, merge=False), setting)
