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
from tvm_dnnfusion.cost.memory.setting import GroupCost, Held, Setting, Why, refused
from tvm_dnnfusion.cost.memory.single import single_layer
from tvm_dnnfusion.devices.accelerators import Accelerator


@dataclass(frozen=True, slots=True)
class Schedule:
    """One way to run a group: which maps are sliced, and their widths.

    `lines` holds of each map (rows, delta, keep, words of a row of all channels, words of a row as
    it is made), `whole` the words of maps that stay entirely. `phases` says in which phase a member
    is computed, `thin` which are made slice by slice, whether or not the slices are kept.
    """

    frame: Frame
    sliced: frozenset[int]
    lines: tuple[tuple[int, int, int, int, int], ...]
    whole: int
    phases: dict[int, int]
    thin: frozenset[int]

    def words(self, height: int) -> int:
        """Words of all maps when a step advances by `height`."""
        total = self.whole
        for rows, delta, keep, full, fresh in self.lines:
            new = delta * height
            if new + keep < rows:
                total += keep * full + new * fresh
            elif new < rows:  # all are made: what readers still need stays for all channels
                total += max(min(keep, rows) * full, (rows - new) * full + new * fresh)
            else:
                total += rows * fresh
        return total

    def height(self, room: int) -> int:
        """The greatest height of a step whose maps take less than `room` words."""
        high = max((-(-line[0] // line[1]) for line in self.lines), default=1)
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
        maps = [network.map_of(k) for k in range(network.n + len(network.inputs))]
        self._full = [m.channels * m.cols for m in maps]
        self._thin = [spec.slice_of(m.channels) * m.cols for m in maps]
        self._sources = [tuple({u.source for u in v.uses}) for v in network.layers]
        self._roles = [v.role for v in network.layers]
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
        plans, needs = self._plans(frame)
        least = min(needs) * self.setting.word_bytes
        found = [self._priced(group, *plan) for plan in plans]
        if not found:
            return refused(Why.BUFFER, least)
        return replace(min(found, key=_rank), buffer_bytes=least)

    def held(self, group: int) -> tuple[Held, ...]:
        """The buffers of a group's maps in its cheapest schedule."""
        frame = self.paces.frame(group)
        plans = self._plans(frame)[0] if frame is not None else []
        if frame is None or not plans:
            return ()
        plan, taken, _ = min(plans, key=lambda p: _rank(self._priced(group, *p)))
        height = plan.height(self.setting.words - taken)
        out: list[Held] = []
        lines = iter(plan.lines)
        for k, m in enumerate(frame.maps):
            spec, channels = self.setting.accelerator, frame.channels[k]
            part = spec.slice_of(channels) if m in plan.sliced else channels
            words = frame.rows[k] * self._full[m]
            if not frame.whole[k]:
                words = replace(plan, lines=(next(lines),), whole=0).words(height)
            out.append(Held(m, frame.waiting(k, height), part, words))
        return tuple(out)

    def _plans(self, frame: Frame) -> tuple[list[tuple[Schedule, int, bool]], list[int]]:
        """The schedules that fit, with the words that weights take and whether they stay; and the
        least buffer of every schedule."""
        members = frame.maps[frame.outside :]
        weights = sum([self._weights[i] for i in members])
        streamed = min(weights, max([self._staged[i] for i in members]))
        limit = self.setting.words
        plans: list[tuple[Schedule, int, bool]] = []
        needs: list[int] = []
        for start in (False, True):
            plan = self.scheduled(frame, start)
            least = plan.words(1)
            needs.append(least + streamed)
            if least + weights < limit:  # weights that stay move once: nothing is cheaper
                plans.append((plan, weights, True))
            elif least + streamed < limit:
                plans.append((plan, streamed, False))
        return plans, needs

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
            accesses += self._accesses[i][i in plan.sliced]
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

    def scheduled(self, frame: Frame, start: bool) -> Schedule:
        """Which maps are sliced when those from outside are kept in full (`start`) or sliced.

        A convolution of a sliced map sums up in full, one of a full map makes slices; other layers
        follow their operands. A sliced map that is read in another phase than it is made, or in
        two phases, is kept in full.
        """
        outside, maps, whole = frame.outside, frame.maps, frame.whole
        ready = dict.fromkeys(maps, 0)
        phases: dict[int, int] = {}
        made_thin: set[int] = set()
        sliced = set() if start else {m for m, stays in zip(maps[:outside], whole) if not stays}
        read: dict[int, int] = {}
        for k in range(outside, len(maps)):
            m = maps[k]
            sources, role = self._sources[m], self._roles[m]
            if role is Role.ALL:
                sliced.difference_update(sources)
            now = max([ready[s] for s in sources])
            thin = [s for s in sources if s in sliced]
            for s in thin:
                if s in phases and ready[s] != now:
                    sliced.discard(s)
                    ready[s] += 1  # its slices are complete when the phase ends
                elif read.setdefault(s, now) != now:
                    sliced.discard(s)
            left = [s for s in thin if s in sliced]
            if role is Role.LOCAL:
                makes = len(left) == len(sources)
            else:
                makes = role is Role.SUM and not thin
            phases[m] = now
            if makes:
                made_thin.add(m)
            if makes and not whole[k]:
                sliced.add(m)
                ready[m] = now
            else:
                ready[m] = now + 1 if left or makes else now
        full, fresh = self._full, self._thin
        lines = tuple(
            (rows, delta, keep, full[m], fresh[m] if m in sliced else full[m])
            for m, rows, delta, keep, stays in zip(
                maps, frame.rows, frame.delta, frame.keep, whole)
            if not stays
        )  # fmt: skip
        kept = sum(frame.rows[k] * full[m] for k, m in enumerate(maps) if whole[k])
        return Schedule(frame, frozenset(sliced), lines, kept, phases, frozenset(made_thin))


def _staged(layer: Layer, spec: Accelerator) -> int:
    """Words that streaming a layer's weights takes: one slice of each side."""
    if not layer.weights:
        return min(layer.extras, 2 * spec.slice_of(layer.channels))
    deep = max(1, layer.in_channels // layer.groups)
    taps = layer.weights // max(1, layer.channels * deep)
    return spec.slice_of(layer.channels) * spec.slice_of(deep) * max(1, taps)


def _rank(cost: GroupCost) -> tuple[float, float]:
    return cost.dram_bytes, cost.energy
