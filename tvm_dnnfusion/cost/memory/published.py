"""Optimus' model as published (LCTES'21), with what it leaves out, to compare with printed tables.

    DRAM(group) = T * sum of weights + maps that enter + maps that leave              [words]

    rows(last) = s_h(last), rows(v) = max over readers of min((rows - 1) * stride + kernel, H(v))
    need       = sum of channels * rows * W,    line = sum of channels * s_h * W
    T          = 1 where weights + need fit, else ceil(H * N / (b * h)), h = (S - need) / line + 1

Convolutions alternate between all channels and one slice; other layers take no buffer. A pooling,
addition or depthwise layer alone costs nothing and starts no group; depthwise weights are free;
streamed weights take no buffer. Layers alone: `published_single.py`. The baselines it compares with
differ by flags: Efficient-S and DNNVM keep every map in full and need the weights to fit; DNNVM
takes no layer with two inputs or readers; all run single layers output-stationary, and rank groups
by energy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, lcm

from tvm_dnnfusion.cost.memory.model import CachedModel
from tvm_dnnfusion.cost.memory.network import Layer, LayerKind, Network, bits
from tvm_dnnfusion.cost.memory.published_single import (
    single_dram,
    single_energy,
    single_stationary,
)
from tvm_dnnfusion.cost.memory.setting import GroupCost, Setting, Why, refused


@dataclass(frozen=True, slots=True)
class Flags:
    """What a method allows: alternation, streamed weights, branches, fusion at all, all ways of
    running a single layer (else output-stationary), and whether it ranks groups by energy."""

    alternates: bool = True
    streams: bool = True
    branches: bool = True
    fuses: bool = True
    any_single: bool = True
    by_energy: bool = False


OPTIMUS = Flags()
EFFICIENT_S = Flags(alternates=False, streams=False, any_single=False, by_energy=True)
DNNVM = replace(EFFICIENT_S, branches=False)
NO_FUSION = replace(EFFICIENT_S, fuses=False)


@dataclass(slots=True)
class _Need:
    least: float
    line: float
    full: dict[int, bool]


class PublishedModel(CachedModel):
    """The cost model in `paper` accounting."""

    name = "brr"

    def __init__(self, network: Network, setting: Setting, flags: Flags = OPTIMUS) -> None:
        super().__init__(network, setting)
        self.flags = flags

    def _find_unfusable(self) -> int:
        return sum(1 << v.index for v in self.network.layers if v.kind is LayerKind.WHOLE)

    def _evaluate(self, group: int) -> GroupCost:
        if not group & (group - 1):
            return self._alone(self.network.layers[group.bit_length() - 1])
        why = self._forbidden(group)
        if why is not None:
            return refused(why)
        pace = self._pace(group)
        if pace is None:
            return refused(Why.RATES)
        rows, scale = pace
        needs = [self._need(group, rows, scale, start) for start in (True, False)]
        needs = needs if self.flags.alternates else [self._need(group, rows, scale, None)]
        words = self.setting.words
        fits = [n for n in needs if n.least < words]
        if not fits:
            least = int(min(n.least for n in needs)) * self.setting.word_bytes
            return refused(Why.BUFFER, least)
        return self._cost(group, min(fits, key=lambda n: n.line / (words - n.least)), scale)

    def _alone(self, v: Layer) -> GroupCost:
        if not v.is_conv:
            return GroupCost(True, 0, 0.0, 0.0, tile_rows=v.rows, tiles=1)
        dram, used = single_dram(v, self.setting, self.batch)
        spent = dram * self.setting.accelerator.dram_energy
        if self.flags.by_energy:
            dram, spent = single_energy(v, self.setting, self.batch)
        elif not self.flags.any_single:
            dram = single_stationary(v, self.setting, self.batch)
            spent = dram * self.setting.accelerator.dram_energy
        word = self.setting.word_bytes
        written = v.elements * self.batch
        return GroupCost(
            True, used * word, float(dram * word), spent, used * word, v.rows, 1,
            input_bytes=float((dram - written) * word), output_bytes=float(written * word),
        )  # fmt: skip

    def _forbidden(self, group: int) -> Why | None:
        if not self.flags.fuses:
            return Why.ALONE
        if group & self.unfusable():
            return Why.WHOLE
        net = self.network
        for i in bits(group):
            v = net.layers[i]
            if not v.is_conv and not net.preds[i] & group:
                return Why.SOURCE
            readers = net.readers[i]
            if not self.flags.branches and (len({u.source for u in v.uses}) > 1
                                            or readers & (readers - 1)):  # fmt: skip
                return Why.BRANCHES
        return None

    def _pace(self, group: int) -> tuple[dict[int, int], dict[int, int]] | None:
        """Least rows of each member, and rows per row of the group's tile."""
        net = self.network
        reach: dict[int, int] = {}
        for i in bits(group):
            before = [reach[p] for p in bits(net.preds[i] & group)]
            reach[i] = max(before, default=1) * _stride(net.layers[i])
        lasts = [i for i in bits(group) if not net.succs[i] & group]
        common = lcm(*(reach[i] for i in lasts))
        rows: dict[int, int] = {}
        scale: dict[int, int] = {}
        for i in reversed(net.members(group)):
            v = net.layers[i]
            if not net.succs[i] & group:
                scale[i] = rows[i] = common // reach[i]
                continue
            readers = [net.layers[j] for j in bits(net.succs[i] & group)]
            paces = {scale[r.index] * _stride(r) for r in readers}
            if len(paces) > 1:
                return None
            scale[i] = paces.pop()
            rows[i] = max(
                min((rows[r.index] - 1) * _stride(r) + _kernel(r), v.rows) for r in readers
            )
        return rows, scale

    def _need(self, group: int, rows: dict[int, int], scale: dict[int, int], start: bool | None
              ) -> _Need:  # fmt: skip
        """Buffer of the least tile, and of each further row; `start`: the first map is full."""
        net, spec = self.network, self.setting.accelerator
        full: dict[int, bool] = {}
        need = _Need(0, 0, full)
        loaded: dict[int, tuple[int, int]] = {}
        for i in bits(group):
            v = net.layers[i]
            before = [full[p] for p in bits(net.preds[i] & group)]
            if start is None:
                full[i] = True
            elif not before:
                full[i] = start
            else:
                full[i] = not before[-1] if v.is_conv else any(before)
            if not before and not full[i]:
                self._load(v, rows[i], scale[i], loaded)
            if v.is_conv:
                channels = v.channels if full[i] else spec.slice_of(v.channels)
                need.least += channels * rows[i] * v.cols
                need.line += channels * scale[i] * v.cols
        need.least += sum(least for least, _ in loaded.values())
        need.line += sum(line for _, line in loaded.values())
        return need

    def _load(self, v: Layer, rows: int, scale: int, loaded: dict[int, tuple[int, int]]) -> None:
        """A sliced first layer needs all channels of its operand; of several the widest counts."""
        for use in v.uses:
            m = self.network.map_of(use.source)
            width = (v.cols - 1) * use.stride[1] + use.kernel[1]
            least = m.channels * min((rows - 1) * _stride(v) + _kernel(v), m.rows) * width
            line = m.channels * scale * _stride(v) * width
            loaded[use.source] = max(loaded.get(use.source, (0, 0)), (least, line))

    def _cost(self, group: int, need: _Need, scale: dict[int, int]) -> GroupCost:
        net, setting = self.network, self.setting
        layers = [net.layers[i] for i in bits(group)]
        weights = sum(v.weights for v in layers if v.is_conv)
        lasts = [v.rows for v in layers if not net.succs[v.index] & group]
        top = min([m.rows for m in net.inputs] + lasts)
        resident = setting.words >= weights + need.least
        if not resident and not self.flags.streams:
            return refused(Why.WEIGHTS, int(weights + need.least) * setting.word_bytes)
        room = setting.words - (weights if resident else 0)
        height, images = int((room - need.least) // need.line) + 1, 1
        if height > top:
            whole = (top - 1) * need.line + need.least
            height, images = top, max(1, min(int(room // whole), self.batch))
        tiles = 1 if resident else -(-top * self.batch // (images * height))
        read = sum(net.elements(m) for m in net.external_inputs(group)) * self.batch
        written = sum(net.elements(i) for i in bits(net.external_outputs(group))) * self.batch
        dram, word = weights * tiles + read + written, setting.word_bytes
        used = need.least + (height - 1) * need.line + (weights if resident else 0)
        return GroupCost(
            True, int(need.least) * word, float(dram * word),
            self._energy(layers, weights * tiles, weights, self._share(layers, need, top, height),
                         read + written),
            int(used) * word, height, tiles, images, resident,
            self._passes(group, need, scale, height, images, resident) * word,
            float(read * word), float(written * word),
        )  # fmt: skip

    def _passes(self, group: int, need: _Need, scale: dict[int, int], height: int, images: int,
                resident: bool) -> float:  # fmt: skip
        """Words of weights as the authors' final report counts them: each layer by its own tiles,
        halos included, and once where neither its channels nor its operand's are in slices."""
        net, spec = self.network, self.setting.accelerator
        rows: dict[int, int] = {}
        total = 0.0
        for i in reversed(net.members(group)):
            v = net.layers[i]
            readers = [net.layers[j] for j in bits(net.succs[i] & group)]
            tall = [min((rows[r.index] - 1) * _stride(r) + _kernel(r), v.rows) for r in readers]
            rows[i] = max(tall, default=scale[i] * height)
            if not v.is_conv:
                continue
            whole = need.full[i] or spec.slice_of(v.channels) == v.channels
            thin = spec.slice_of(v.in_channels) < v.in_channels
            sliced = thin and whole and not any(need.full[p] for p in bits(net.preds[i] & group))
            once = resident or (whole and not sliced)
            total += v.weights * (1 if once else v.rows * self.batch / (images * rows[i]))
        return total

    def _share(self, layers: list[Layer], need: _Need, top: int, height: int) -> float:
        """Tiles of one image in the energy objective, whose tiles may fill the whole buffer."""
        words = self.setting.words
        if height >= top and self.batch > 1:
            whole = sum(v.elements for v in layers if v.is_conv)
            return 1 / ceil(min(self.batch, max(1.0, words / whole)))
        return top / ceil(min(top, (words - need.least) / need.line + 1))

    def _energy(self, layers: list[Layer], passes: int, weights: int, share: float, maps: int
                ) -> float:  # fmt: skip
        """The published objective; the baselines charge weights once per tile even where they stay
        (share * batch passes), as their authors' comparison does."""
        spec = self.setting.accelerator
        if self.flags.by_energy:
            passes = int(weights * share * self.batch)
        moved = sum(v.elements + v.in_channels * v.rows * v.cols * _area(v)
                    for v in layers if v.is_conv) * self.batch  # fmt: skip
        return (
            passes * (spec.dram_energy + spec.buffer_energy)
            + maps * spec.dram_energy
            + moved * spec.buffer_energy
        )


def _stride(v: Layer) -> int:
    return v.uses[0].stride[0]


def _kernel(v: Layer) -> int:
    return v.uses[0].kernel[0]


def _area(v: Layer) -> int:
    return v.uses[0].stride[0] * v.uses[0].stride[1]
