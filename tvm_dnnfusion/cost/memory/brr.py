"""Optimus' model with every byte charged: row tiles, slices of channels, weights kept or streamed.

A group runs in steps over rows (`rows.py`). Within a step, phases follow one another. In a phase,
layers make slices of a few channels from maps that are there in full, and a convolution that takes
slices keeps its own sums in full: full and sliced maps alternate, which needs less buffer than
keeping every map in full. Of a sliced map the rows that the next step needs stay for all channels:

    full    W * K * rows                      sliced  W * (K * (rows - fresh) + slice * fresh)

Weights stay for the whole run where they fit, else each layer's stream in once per step and take
one slice of buffer. What enters and leaves the group moves once. How this departs from the
published form stands in `published.py`. Cost: linear in the group's edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm_dnnfusion.cost.memory.energy import buffer_accesses, energy
from tvm_dnnfusion.cost.memory.model import CachedModel
from tvm_dnnfusion.cost.memory.network import Layer, LayerKind, Network, Role, bits
from tvm_dnnfusion.cost.memory.rows import Frame, Paces
from tvm_dnnfusion.cost.memory.setting import GroupCost, Setting, Why, refused
from tvm_dnnfusion.cost.memory.single import single_layer
from tvm_dnnfusion.devices.accelerators import Accelerator


@dataclass(frozen=True, slots=True)
class Schedule:
    """One way to run a group: which maps (by place in the frame) are sliced, and their widths.

    `full` is a row of all channels in words, `fresh` a row as it is made: of a slice or of all.
    """

    frame: Frame
    sliced: frozenset[int]
    full: tuple[int, ...]
    fresh: tuple[int, ...]

    def words(self, height: int) -> int:
        """Words of all maps when a step advances by `height`."""
        f, total = self.frame, 0
        for k, (full, fresh) in enumerate(zip(self.full, self.fresh)):
            rows = f.rows[k]
            if f.whole[k]:
                total += rows * full
                continue
            new = f.delta[k] * height
            rows = min(rows, new + f.keep[k])
            new = min(rows, new)
            total += (rows - new) * full + new * fresh
        return total

    def height(self, room: int) -> int:
        """The greatest height of a step whose maps take less than `room` words."""
        f = self.frame
        high = max(-(-(f.rows[k]) // f.delta[k]) for k in range(len(f.maps)))
        if self.words(high) < room:
            return high
        low = 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.words(middle) < room:
                low = middle
            else:
                high = middle
        return low


class BrrModel(CachedModel):
    """Row tiles with alternating full and sliced maps; every node charged."""

    name = "brr"

    def __init__(self, network: Network, setting: Setting) -> None:
        super().__init__(network, setting)
        self.paces = Paces(network)
        spec = setting.accelerator
        self._weights = [v.weights + v.extras for v in network.layers]
        self._staged = [_staged(v, spec) for v in network.layers]
        self._accesses = [
            (buffer_accesses(v, False, spec), buffer_accesses(v, True, spec))
            for v in network.layers
        ]

    def _find_unfusable(self) -> int:
        return sum(1 << v.index for v in self.network.layers if v.kind is LayerKind.WHOLE)

    def _evaluate(self, group: int) -> GroupCost:
        if not group & (group - 1):
            index = group.bit_length() - 1
            return single_layer(self.network, index, self.setting, self.batch, self.rows(group))
        if group & self.unfusable():
            return refused(Why.WHOLE)
        return self.rows(group)

    def rows(self, group: int) -> GroupCost:
        """The group as row tiles, whether or not one layer alone has a better way."""
        frame = self.paces.frame(group)
        if frame is None:
            return refused(Why.RATES)
        members = frame.maps[frame.outside :]
        weights = sum(self._weights[i] for i in members)
        streamed = min(weights, max(self._staged[i] for i in members))
        limit, word = self.setting.words, self.setting.word_bytes
        found: list[GroupCost] = []
        needs: list[int] = []
        for start in (False, True):
            plan = scheduled(self.network, frame, start, self.setting.accelerator)
            least = plan.words(1)
            needs.append(least + streamed)
            if least + weights < limit:  # weights that stay move once: nothing is cheaper
                found.append(self._priced(group, plan, weights, True))
            elif least + streamed < limit:
                found.append(self._priced(group, plan, streamed, False))
        if not found:
            return refused(Why.BUFFER, min(needs) * word)
        best = min(found, key=lambda c: (c.dram_bytes, c.energy))
        return replace(best, buffer_bytes=min(needs) * word)

    def _priced(self, group: int, plan: Schedule, taken: int, kept: bool) -> GroupCost:
        """The cost of a schedule whose weights take so many words."""
        net, frame, batch = self.network, plan.frame, self.batch
        word, room = self.setting.word_bytes, self.setting.words - taken
        height = plan.height(room)
        used = plan.words(height)
        runs, together, passes, macs, accesses = batch, 1, 0, 0, 0
        members = range(frame.outside, len(frame.maps))
        steps = [frame.steps_of(k, height) for k in members]
        most = max(steps)
        if most == 1:
            together = max(1, min(batch, (room - 1) // max(1, used)))
            runs = -(-batch // together)
        for k, count in zip(members, steps):
            i = frame.maps[k]
            passes += self._weights[i] * (1 if kept else count * runs)
            macs += net.layers[i].macs
            accesses += self._accesses[i][k in plan.sliced]
        read = sum(net.elements(m) for m in frame.maps[: frame.outside]) * batch
        written = sum(net.elements(i) for i in bits(net.external_outputs(group))) * batch
        dram = passes + read + written
        return GroupCost(
            True, 0, float(dram * word),
            energy(self.setting.accelerator, dram, accesses * batch + dram, macs * batch),
            used_bytes=(used * together + taken) * word,
            tile_rows=min(frame.rows[-1], frame.delta[-1] * height), tiles=most * runs,
            images=together, resident=kept, weight_bytes=float(passes * word),
            input_bytes=float(read * word), output_bytes=float(written * word),
        )  # fmt: skip


def scheduled(network: Network, frame: Frame, start: bool, spec: Accelerator) -> Schedule:
    """Which maps are sliced when those from outside are kept in full (`start`) or sliced.

    A convolution of a sliced map sums up in full, one of a full map makes slices; other layers
    follow their operands. A sliced map that is read in another phase than it is made is kept full.
    """
    place = {m: k for k, m in enumerate(frame.maps)}
    sliced: set[int] = set()
    phase = [0] * len(frame.maps)
    read: dict[int, int] = {}
    for k, m in enumerate(frame.maps):
        if k < frame.outside:
            if not start and not frame.whole[k]:
                sliced.add(k)
            continue
        layer = network.layers[m]
        sources = {place[u.source] for u in layer.uses}
        if layer.role is Role.ALL:
            sliced -= sources
        thin = sources & sliced
        now = max(phase[s] for s in sources)
        for s in thin:
            late = s >= frame.outside and phase[s] != now
            if late or read.setdefault(s, now) != now:
                sliced.discard(s)
        some = not sliced.isdisjoint(sources)
        if layer.role is Role.LOCAL:
            makes = sources <= sliced
        else:
            makes = layer.role is Role.SUM and not thin
        phase[k] = now if makes or not some else now + 1
        if makes and not frame.whole[k]:
            sliced.add(k)
    full = tuple(c * w for c, w in zip(frame.channels, frame.cols))
    fresh = tuple(
        frame.cols[k] * spec.slice_of(frame.channels[k]) if k in sliced else words
        for k, words in enumerate(full)
    )
    return Schedule(frame, frozenset(sliced), full, fresh)


def _staged(layer: Layer, spec: Accelerator) -> int:
    """Words that streaming a layer's weights takes: one slice of each side."""
    if not layer.weights:
        return min(layer.extras, 2 * spec.slice_of(layer.channels))
    deep = max(1, layer.in_channels // layer.groups)
    taps = layer.weights // max(1, layer.channels * deep)
    return spec.slice_of(layer.channels) * spec.slice_of(deep) * max(1, taps)
