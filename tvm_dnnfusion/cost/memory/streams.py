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
from tvm_dnnfusion.cost.memory.rows import Node, nodes_of, rated
from tvm_dnnfusion.cost.memory.setting import Accounting, GroupCost, Setting, Why, refused


class StreamModel(CachedModel):
    """What both share: weights that stay, traffic, layers alone."""

    def __init__(self, network: Network, setting: Setting) -> None:
        super().__init__(network, setting)
        self._alone = BrrModel(network, setting)
        self._paper = setting.accounting is Accounting.PAPER

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
        return sum(self.weights(i) for i in bits(group)) * self.setting.word_bytes

    def _streamed(self, group: int) -> GroupCost:
        nodes = nodes_of(self.network, group)
        if not self._rated(nodes):
            return refused(Why.RATES, self._least(group))
        word, net = self.setting.word_bytes, self.network
        kept = sum(self.weights(i) for i in bits(group))
        need = kept + sum(self._held(node) for node in nodes)
        if need >= self.setting.words:
            why = Why.WEIGHTS if kept >= self.setting.words else Why.BUFFER
            return refused(why, need * word)
        read = sum(net.elements(m) for m in net.external_inputs(group)) * self.batch
        written = sum(net.elements(i) for i in bits(net.external_outputs(group))) * self.batch
        layers = [net.layers[i] for i in bits(group)]
        dram = kept + read + written
        accesses = buffer_accesses(layers, (), self.setting.accelerator) * self.batch
        return GroupCost(
            True, need * word, float(dram * word),
            energy(self.setting.accelerator, dram, accesses + dram,
                   sum(v.macs for v in layers) * self.batch),
            need * word, 1, nodes[-1].rows * self.batch, 1, True,
            float(kept * word), float(read * word), float(written * word),
        )  # fmt: skip

    def _rated(self, nodes: tuple[Node, ...]) -> bool:
        raise NotImplementedError

    def _held(self, node: Node) -> int:
        """Words of a map that wait in the buffer."""
        raise NotImplementedError


class LbdfModel(StreamModel):
    """Line-buffered depth-first execution, pixel by pixel."""

    name = "lbdf"

    def _rated(self, nodes: tuple[Node, ...]) -> bool:
        if not rated(nodes):
            return False
        for node in reversed(nodes):
            _lead(node)
        return True

    def _held(self, node: Node) -> int:
        size = node.rows * node.cols
        if node.keeps_all:
            return size * node.channels
        if not node.readers:
            return node.channels
        spans = []
        for reader, use in node.readers:
            rows = node.ahead - reader.ahead * use.stride[0] + use.padding[0]
            cols = node.ahead_cols - reader.ahead_cols * use.stride[1] + use.padding[1]
            spans.append(min(size, max(1, rows * node.cols + cols + 1)))
        return (sum(spans) if self._paper else max(spans)) * node.channels


def _lead(node: Node) -> None:
    """How many rows and columns a map is ahead of its readers, pixel by pixel.

    As `rows._lag` with steps of one pixel: the newest pixel of a window lies kernel - 1 - padding
    behind its first, wherever the reader's own lead puts that.
    """
    best = (0, 0)
    for reader, use in node.readers:
        rows = reader.ahead * use.stride[0] + use.kernel[0] - 1 - use.padding[0]
        cols = reader.ahead_cols * use.stride[1] + use.kernel[1] - 1 - use.padding[1]
        best = max(best, (rows, cols), key=lambda p: p[0] * node.cols + p[1])
    node.ahead, node.ahead_cols = best


class TileModel(StreamModel):
    """Consumption-centric tiles of the least size: one pixel of the slowest result."""

    name = "tiles"

    def _rated(self, nodes: tuple[Node, ...]) -> bool:
        return rated(nodes, columns=True, delays=not self._paper)

    def _held(self, node: Node) -> int:
        if node.keeps_all:
            return node.rows * node.cols * node.channels
        tall = min(node.rows, node.delta + node.keep)
        wide = min(node.cols, node.delta_cols + node.keep_cols)
        main = tall * wide
        side = max(0, min(tall, node.keep)) * (node.cols - wide) if node.readers else 0
        return (main + side) * node.channels
