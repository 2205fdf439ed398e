"""Optimus' model with every byte charged: row tiles, slices of channels, weights kept or streamed.

A group runs in steps over rows (`rows.py`). Within a step, phases follow one another. In a phase,
layers make slices of a few channels from maps that are there in full, and a convolution that takes
slices keeps its own sums in full: full and sliced maps alternate, which needs less buffer than
keeping every map in full. Of a sliced map the rows that the next step needs stay for all channels:

    full    W * K * rows                      sliced  W * (K * (rows - fresh) + slice * fresh)

Weights stay for the whole run where they fit, else each layer's stream in once per step and take
one slice of buffer. What enters and leaves the group moves once. See docs/memory.md for how this
departs from the published form (`published.py`). Cost: linear in the group's edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm_dnnfusion.cost.memory.energy import buffer_accesses, energy
from tvm_dnnfusion.cost.memory.model import CachedModel
from tvm_dnnfusion.cost.memory.network import Layer, LayerKind, Network, Role, bits
from tvm_dnnfusion.cost.memory.rows import Node, nodes_of, rated
from tvm_dnnfusion.cost.memory.setting import GroupCost, Setting, Why, refused
from tvm_dnnfusion.cost.memory.single import single_layer
from tvm_dnnfusion.devices.accelerators import Accelerator


@dataclass(frozen=True, slots=True)
class Lines:
    """A map's share of the buffer, in words: `rows * full + min(rows, fresh) * sliced`."""

    node: Node
    full: int
    sliced: int

    def words(self, height: int) -> int:
        """Words that it takes when a step advances by `height`."""
        node = self.node
        rows = node.waiting(height)
        fresh = min(rows, node.delta * height)
        return (rows - fresh) * node.cols * node.channels + fresh * self.sliced


@dataclass(frozen=True, slots=True)
class Schedule:
    """One way to run a group: which maps are sliced, and what the buffer holds."""

    lines: tuple[Lines, ...]
    sliced: frozenset[int]

    def words(self, height: int) -> int:
        """Words of all maps when a step advances by `height`."""
        return sum(line.words(height) for line in self.lines)


class BrrModel(CachedModel):
    """Row tiles with alternating full and sliced maps; every node charged."""

    name = "brr"

    def _find_unfusable(self) -> int:
        return sum(1 << v.index for v in self.network.layers if v.kind is LayerKind.WHOLE)

    def _evaluate(self, group: int) -> GroupCost:
        if not group & (group - 1):
            return single_layer(self.network, group.bit_length() - 1, self.setting, self.batch,
                                self._together(group))  # fmt: skip
        if group & self.unfusable():
            return refused(Why.WHOLE)
        return self._together(group)

    def _together(self, group: int) -> GroupCost:
        """The group as row tiles."""
        nodes = nodes_of(self.network, group)
        if not rated(nodes):
            return refused(Why.RATES)
        return choose(self.network, group, nodes, self.setting, self.batch)


def choose(network: Network, group: int, nodes: tuple[Node, ...], setting: Setting, batch: int
           ) -> GroupCost:  # fmt: skip
    """The cheapest schedule of a group: sources full or sliced, weights kept or streamed."""
    layers = [network.layers[i] for i in bits(group)]
    weights = sum(v.weights + v.extras for v in layers)
    staging = max((_staged(v, setting.accelerator) for v in layers), default=0)
    most = max(node.rows for node in nodes)
    traffic = _traffic(network, group)
    found: list[GroupCost] = []
    needs: list[int] = []
    for start in (False, True):
        plan = scheduled(network, nodes, start, setting.accelerator)
        streamed = min(weights, staging)
        needs.append(plan.words(1) + streamed)
        for kept, taken in ((True, weights), (False, streamed)):
            if plan.words(1) + taken < setting.words:
                found.append(_priced(plan, layers, kept, taken, most, traffic, setting, batch))
                break  # weights that stay move once: streaming them cannot be cheaper
    least = min(needs) * setting.word_bytes
    if not found:
        return refused(Why.BUFFER, least)
    best = min(found, key=lambda c: (c.dram_bytes, c.energy))
    return replace(best, buffer_bytes=least)


def scheduled(network: Network, nodes: Sequence[Node], start: bool, spec: Accelerator) -> Schedule:
    """Which maps are sliced when those from outside are kept in full (`start`) or sliced.

    A convolution of a sliced map sums up in full, one of a full map makes slices; other layers
    follow their operands. A sliced map that is read in another phase than it is made is kept full.
    """
    sliced: set[int] = set()
    phase: dict[int, int] = {}
    read: dict[int, int] = {}
    for node in nodes:
        if node.outside:
            phase[node.index] = 0
            if not start and not node.keeps_all:
                sliced.add(node.index)
            continue
        layer = network.layers[node.index]
        sources = {u.source for u in layer.uses}
        if layer.role is Role.ALL:
            sliced -= sources
        thin = [s for s in sources if s in sliced]
        now = max((phase[s] for s in sources), default=0)
        for s in thin:
            late = s < network.n and phase[s] != now
            if late or read.setdefault(s, now) != now:
                sliced.discard(s)
        some = any(s in sliced for s in sources)
        if layer.role is Role.LOCAL:
            makes_slices = bool(sources) and all(s in sliced for s in sources)
        else:
            makes_slices = layer.role is Role.SUM and not thin
        phase[node.index] = now if makes_slices or not some else now + 1
        if makes_slices and not node.keeps_all:
            sliced.add(node.index)
    lines = tuple(
        Lines(n, n.cols * n.channels,
              n.cols * (spec.slice_of(n.channels) if n.index in sliced else n.channels))
        for n in nodes
    )  # fmt: skip
    return Schedule(lines, frozenset(sliced))


def _staged(layer: Layer, spec: Accelerator) -> int:
    """Words that streaming a layer's weights takes: one slice of each side."""
    if not layer.weights:
        return min(layer.extras, 2 * spec.slice_of(layer.channels))
    each = layer.weights // max(1, layer.channels * max(1, layer.in_channels // layer.groups))
    deep = spec.slice_of(max(1, layer.in_channels // layer.groups))
    return spec.slice_of(layer.channels) * deep * max(1, each)


def _traffic(network: Network, group: int) -> tuple[int, int]:
    read = sum(network.elements(m) for m in network.external_inputs(group))
    written = sum(network.elements(i) for i in bits(network.external_outputs(group)))
    return read, written


def _priced(plan: Schedule, layers: Sequence[Layer], kept: bool, taken: int, most: int,
            traffic: tuple[int, int], setting: Setting, batch: int) -> GroupCost:  # fmt: skip
    room = setting.words - taken
    height = _height(plan, most, room)
    nodes = {line.node.index: line.node for line in plan.lines}
    steps = {v.index: nodes[v.index].steps(height) for v in layers}
    together = 1
    if max(steps.values()) == 1:
        together = max(1, min(batch, (room - 1) // max(1, plan.words(height))))
    runs = -(-batch // together)
    passes = 0
    for v in layers:
        passes += (v.weights + v.extras) * (1 if kept else steps[v.index] * runs)
    word = setting.word_bytes
    read, written = (t * batch for t in traffic)
    dram = passes + read + written
    accesses = buffer_accesses(layers, plan.sliced, setting.accelerator) * batch + passes
    last = nodes[layers[-1].index]
    return GroupCost(
        True, 0, float(dram * word),
        energy(setting.accelerator, dram, accesses + read + written,
               sum(v.macs for v in layers) * batch),
        used_bytes=(plan.words(height) * together + taken) * word,
        tile_rows=min(last.rows, last.delta * height), tiles=max(steps.values()) * runs,
        images=together, resident=kept, weight_bytes=float(passes * word),
        input_bytes=float(read * word), output_bytes=float(written * word),
    )  # fmt: skip


def _height(plan: Schedule, most: int, room: int) -> int:
    """The greatest height of a step whose maps take less than `room` words."""
    low, high = 1, most
    if plan.words(high) < room:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if plan.words(middle) < room:
            low = middle
        else:
            high = middle
    return low
