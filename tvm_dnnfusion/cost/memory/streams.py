"""Depth-first models with resident weights: LBDF (lines, pixel by pixel) and tiles (Cocco).

LBDF keeps all weights of a group and, of each map, the pixels between the newest one made and the
oldest one still needed: (kernel rows - 1) * W + kernel columns before a window, more where a short
branch waits for a long one. The tile model computes squares instead of single pixels: of each map
it holds the tile (MAIN) and, over the full width, the rows that the next row of tiles needs (SIDE);
results take MAIN only. Both move every map that enters or leaves once, and weights once:

    DRAM = weights + enter + leave,    need = weights + sum of what each map holds

`paper` accounting is the derivation from GET and Cocco: LBDF gives each reader lines of its own and
one pixel to each result, and counts convolutions' weights alone; tiles do not wait for unequal
branches. `full` shares the lines of a map among its readers, counts every constant, and waits. In
`full`, a layer whose weights do not fit is charged what it costs layer by layer.
"""

from __future__ import annotations

from tvm_dnnfusion.cost.memory.brr import BrrModel
from tvm_dnnfusion.cost.memory.energy import buffer_accesses, energy
from tvm_dnnfusion.cost.memory.model import CachedModel
from tvm_dnnfusion.cost.memory.network import LayerKind, Network, bits
from tvm_dnnfusion.cost.memory.rows import Frame
from tvm_dnnfusion.cost.memory.setting import Accounting, GroupCost, Held, Setting, Why, refused


class StreamModel(CachedModel):
    """What both share: weights that stay, traffic, layers alone."""

    def __init__(self, network: Network, setting: Setting) -> None:
        super().__init__(network, setting)
        self._alone = BrrModel(network, setting)
        self._paper = setting.accounting is Accounting.PAPER
        self._kept = [self.weights(v.index) for v in network.layers]
        self._accesses = [buffer_accesses(v, False, setting.accelerator) for v in network.layers]

    def weights(self, index: int) -> int:
        """Words of a layer's constants that stay in the buffer."""
        v = self.network.layers[index]
        return v.weights + (0 if self._paper else v.extras)

    def _find_unfusable(self) -> int:
        return sum(
            1 << v.index
            for v in self.network.layers
            if v.kind is LayerKind.WHOLE or self.weights(v.index) >= self.setting.words
        )

    def _evaluate(self, group: int) -> GroupCost:
        single = not group & (group - 1)
        if group & self.unfusable():
            whole = not single and any(
                self.network.layers[i].kind is LayerKind.WHOLE for i in bits(group)
            )
            found = refused(Why.WHOLE if whole else Why.WEIGHTS, self._least(group))
        else:
            found = self._streamed(group)
        if single and not (self._paper and found.valid):
            alone = self._alone.evaluate(group)
            return alone if alone.dram_bytes < found.dram_bytes or not found.valid else found
        return found

    def _least(self, group: int) -> int:
        return sum([self._kept[i] for i in bits(group)]) * self.setting.word_bytes

    def _streamed(self, group: int) -> GroupCost:
        word, net = self.setting.word_bytes, self.network
        kept = sum([self._kept[i] for i in bits(group)])
        if kept >= self.setting.words:  # most of what a search proposes; lines need no look
            return refused(Why.WEIGHTS, kept * word)
        frame = self._alone.paces.frame(group, delays=not self._paper)
        held = None if frame is None else self._held(frame)
        if frame is None or held is None:
            return refused(Why.RATES, kept * word)
        need = kept + sum(held)
        if need >= self.setting.words:
            return refused(Why.BUFFER, need * word)
        read = sum(net.elements(m) for m in frame.maps[: frame.outside]) * self.batch
        written = sum(net.elements(i) for i in bits(net.external_outputs(group))) * self.batch
        dram = kept + read + written
        accesses = sum(self._accesses[i] for i in bits(group)) * self.batch
        macs = sum(net.layers[i].macs for i in bits(group)) * self.batch
        return GroupCost(
            True, need * word, float(dram * word),
            energy(self.setting.accelerator, dram, accesses + dram, macs),
            need * word, 1, frame.rows[-1] * self.batch, 1, True,
            float(kept * word), float(read * word), float(written * word),
        )  # fmt: skip

    def held(self, group: int) -> tuple[Held, ...]:
        """The buffers of a group's maps."""
        frame = self._alone.paces.frame(group, delays=not self._paper)
        if frame is None or group & self.unfusable():
            return self._alone.held(group)
        sizes = zip(frame.maps, self._held(frame) or (), frame.cols, frame.channels)
        return tuple(Held(m, -(-words // (cols * c)), c, words) for m, words, cols, c in sizes)

    def _held(self, frame: Frame) -> list[int] | None:
        """Words of each map that wait in the buffer; None where rates do not agree."""
        raise NotImplementedError


class LbdfModel(StreamModel):
    """Line-buffered depth-first execution, pixel by pixel."""

    name = "lbdf"

    def _held(self, frame: Frame) -> list[int] | None:
        """Of each map, the pixels between its newest and the oldest that a reader still needs.

        `rows.lags` with steps of one pixel: the newest pixel of a window lies kernel - 1 - padding
        after its first, wherever the reader's own lead puts that.
        """
        lead = [(0, 0)] * len(frame.maps)
        held = [0] * len(frame.maps)
        for k in range(len(frame.maps) - 1, -1, -1):
            wide, size = frame.cols[k], frame.rows[k] * frame.cols[k]
            best = (0, 0)
            for j, (_, kr, sr, pr, kc, sc, pc) in frame.readers[k]:
                found = lead[j][0] * sr + kr - 1 - pr, lead[j][1] * sc + kc - 1 - pc
                if found[0] * wide + found[1] > best[0] * wide + best[1]:
                    best = found
            lead[k] = best
            spans = [1]
            for j, (_, _, sr, pr, _, sc, pc) in frame.readers[k]:
                rows = best[0] - lead[j][0] * sr + pr
                cols = best[1] - lead[j][1] * sc + pc
                spans.append(min(size, max(1, rows * wide + cols + 1)))
            pixels = max(spans)
            if self._paper and frame.readers[k]:
                pixels = sum(spans[1:])
            held[k] = (size if frame.whole[k] else pixels) * frame.channels[k]
        return held


class TileModel(StreamModel):
    """Consumption-centric tiles of the least size: one pixel of the slowest result."""

    name = "tiles"

    def _held(self, frame: Frame) -> list[int] | None:
        columns = self._alone.paces.columns(frame, not self._paper)
        if columns is None:
            return None
        held: list[int] = []
        for k, channels in enumerate(frame.channels):
            rows, cols = frame.rows[k], frame.cols[k]
            tall = min(rows, frame.delta[k] + frame.keep[k])
            wide = min(cols, columns[0][k] + columns[1][k])
            side = min(tall, frame.keep[k]) * (cols - wide) if frame.readers[k] else 0
            held.append((rows * cols if frame.whole[k] else tall * wide + side) * channels)
        return held
