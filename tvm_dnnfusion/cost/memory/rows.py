"""How far each layer of a group must be ahead of the next, and how many rows wait in its buffer.

A group runs in steps. In each, every map u advances by `delta` rows (or columns) times the step's
height h, so that after step t it holds p_u(t) = delta * h * t + ahead. A consumer v with kernel R,
stride s and padding p needs row (p_v - 1) * s - p + R - 1 of u at the end of a step, and row
p_v(t - 1) * s - p at its beginning. Hence, from the last layers to the first:

    delta(u) = s * delta(v)                                       the same for all readers v
    ahead(u) = max over v of (ahead(v) - 1) * s + R - p           (at least 0)
    rows(u)  = delta(u) * h + keep(u),  keep(u) = ahead(u) + max(0, max over v of p - ahead(v) * s)

Branches of unequal length differ in `ahead`; what a short one keeps waiting is in `keep`. This is
Cocco's consumption-centric derivation (ASPLOS'24) with the waiting added. A map that somebody needs
whole splits the group into stages that run one after the other; it stays in the buffer entirely, as
does a map that two stages read. Cost: linear in the edges of the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd

from tvm_dnnfusion.cost.memory.network import Network, Use, bits

_UNIT = 2**24 * 3**4 * 5**2 * 7**2 * 11
"""A rate that the strides met in practice divide."""


@dataclass(slots=True)
class Node:
    """A map in a group: made by a member, or read from outside.

    `readers` are the members that read it row by row in its stage, with how they do. `keeps_all`:
    it stays in the buffer entirely.
    """

    index: int
    outside: bool
    rows: int
    cols: int
    channels: int
    stage: int = 0
    keeps_all: bool = False
    readers: tuple[tuple[Node, Use], ...] = ()
    delta: int = 0
    ahead: int = 0
    keep: int = 0
    delta_cols: int = 0
    ahead_cols: int = 0
    keep_cols: int = 0

    def waiting(self, height: int) -> int:
        """Rows in the buffer when a step advances by `height`."""
        return self.rows if self.keeps_all else min(self.rows, self.delta * height + self.keep)

    def steps(self, height: int) -> int:
        """Steps of that height in which the map grows."""
        if not self.delta:
            return 1
        return max(1, -((self.ahead - self.rows) // (self.delta * height)))


def nodes_of(network: Network, group: int) -> tuple[Node, ...]:
    """The maps of a group, those from outside first, then its members in order; no rates yet."""
    made: dict[int, Node] = {}
    for source in network.external_inputs(group):
        m = network.map_of(source)
        made[source] = Node(source, True, m.rows, m.cols, m.channels)
    found: dict[int, list[tuple[Node, Use]]] = {index: [] for index in made}
    stages: dict[int, set[int]] = {index: set() for index in made}
    for i in bits(group):
        layer = network.layers[i]
        inner = [u for u in layer.uses if not made[u.source].outside]
        stage = max((made[u.source].stage + u.whole for u in inner), default=0)
        node = made[i] = Node(i, False, layer.rows, layer.cols, layer.channels, stage)
        found[i] = []
        for use in layer.uses:
            source = made[use.source]
            if use.whole or (not source.outside and source.stage < stage):
                source.keeps_all = True
            else:
                found[use.source].append((node, use))
                if source.outside:
                    stages[use.source].add(stage)
    for index, seen in stages.items():
        node = made[index]
        node.keeps_all = node.keeps_all or len(seen) > 1
        node.stage = min(seen, default=0)
    for index, node in made.items():
        # a map from outside that waits whole sets nobody's pace
        node.readers = () if node.outside and node.keeps_all else tuple(found[index])
    return tuple(made.values())


def rated(nodes: tuple[Node, ...], columns: bool = False, delays: bool = True) -> bool:
    """Fill in the rates of rows, and of columns; False where branches do not agree on them.

    `delays=False` leaves out what waits for longer branches, as Cocco does.
    """
    if not _rates(nodes, 0):
        return False
    for node in reversed(nodes):
        node.ahead, node.keep = _lag(node, 0, delays)
    if columns:
        if not _rates(nodes, 1):
            return False
        for node in reversed(nodes):
            node.ahead_cols, node.keep_cols = _lag(node, 1, delays)
    return True


def _rates(nodes: tuple[Node, ...], axis: int) -> bool:
    """Rates within each part that rows join, scaled to the smallest whole numbers."""
    rate: dict[int, int] = {}
    writers: dict[int, list[tuple[Node, int]]] = {}
    for node in nodes:
        for reader, use in node.readers:
            writers.setdefault(reader.index, []).append((node, use.stride[axis]))
    for root in nodes:
        if root.index in rate:
            continue
        part, rate[root.index] = [root], _UNIT
        for node in part:  # grows while it is walked
            here = rate[node.index]
            near = [(r, here, u.stride[axis]) for r, u in node.readers]
            for other, value, stride in near:
                if value % stride:
                    return False
                if not _agree(rate, other, value // stride, part):
                    return False
            for other, stride in writers.get(node.index, ()):
                if not _agree(rate, other, here * stride, part):
                    return False
        common = reduce(gcd, (rate[node.index] for node in part))
        for node in part:
            if axis:
                node.delta_cols = rate[node.index] // common
            else:
                node.delta = rate[node.index] // common
    return True


def _agree(rate: dict[int, int], node: Node, value: int, part: list[Node]) -> bool:
    if node.index not in rate:
        rate[node.index] = value
        part.append(node)
    return rate[node.index] == value


def _lag(node: Node, axis: int, delays: bool) -> tuple[int, int]:
    ahead = 0
    for reader, use in node.readers:
        later = reader.ahead_cols if axis else reader.ahead
        ahead = max(ahead, (later - 1) * use.stride[axis] + use.kernel[axis] - use.padding[axis])
    waiting = 0
    for reader, use in node.readers:
        later = reader.ahead_cols if axis else reader.ahead
        if delays:
            waiting = max(waiting, ahead + use.padding[axis] - later * use.stride[axis])
        else:
            waiting = max(waiting, use.kernel[axis] - use.stride[axis])
    return ahead, max(waiting, ahead if delays else 0)
