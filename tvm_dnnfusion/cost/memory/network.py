"""A network as memory planners see it: layers with maps of rows, and groups of them as bit sets.

A group is a Python int: bit i stands for `layers[i]`. Layers are in topological order, so the
lowest bit of a group is one of its sources. `layers.py` makes a `Network` of a graph.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property


class LayerKind(enum.Enum):
    """What a layer does, as far as memory is concerned."""

    CONV = "convolution"
    DEPTHWISE = "depthwise convolution"
    MATMUL = "matrix product"
    POOL = "pooling"
    ELTWISE = "elementwise"
    CONCAT = "concatenation"
    MIX = "a function of all channels of a pixel"
    WHOLE = "needs or makes whole maps in an order of its own"


class Role(enum.Enum):
    """How a layer uses the channels of its input.

    LOCAL makes a channel of the same channel. SUM adds up over all: it makes slices of channels of
    an input that is there in full, or takes slices and keeps its own sums in full. ALL wants every
    channel of a pixel at once.
    """

    LOCAL = "local"
    SUM = "sum"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A tensor of one image: rows x cols x channels."""

    name: str
    rows: int
    cols: int
    channels: int

    @property
    def elements(self) -> int:
        """Elements of one image."""
        return self.rows * self.cols * self.channels


@dataclass(frozen=True, slots=True)
class Use:
    """How a layer reads a map.

    `source` is the index of the layer that makes it, or `Network.n + k` for the k-th input of the
    network. Row r of the result needs the rows `r * stride - padding` to that plus `kernel - 1`;
    columns alike. `whole`: the whole map is needed before the first row (the scale vector of a
    squeeze-and-excite block, the second operand of a product, a global pooling).
    """

    source: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One node: an operator with the simple ones that were merged into it.

    `rows`, `cols` and `channels` are those of its result, `weights` the elements of its kernel,
    `extras` those of all other constants (biases, scales). `ops` are names of the graph's ops; the
    first is the operator itself.
    """

    index: int
    name: str
    kind: LayerKind
    role: Role
    ops: tuple[str, ...]
    rows: int
    cols: int
    channels: int
    in_channels: int
    groups: int
    weights: int
    extras: int
    macs: int
    uses: tuple[Use, ...]
    is_output: bool

    @property
    def elements(self) -> int:
        """Elements of the result, of one image."""
        return self.rows * self.cols * self.channels

    @property
    def is_conv(self) -> bool:
        """Whether it adds up over channels: a convolution that is not depthwise, a dense layer."""
        return self.role is Role.SUM


@dataclass(frozen=True)
class Network:
    """Layers in topological order, and the network's inputs.

    `images` is the batch that the graph itself has; all figures of layers are for one image.
    """

    layers: tuple[Layer, ...]
    inputs: tuple[FeatureMap, ...]
    images: int = 1
    name: str = ""

    @property
    def n(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def everything(self) -> int:
        """The group of all layers."""
        return (1 << self.n) - 1

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(producer, consumer), each pair once, sorted by consumer."""
        return tuple(
            (source, layer.index)
            for layer in self.layers
            for source in sorted({u.source for u in layer.uses})
            if source < self.n
        )

    @cached_property
    def preds(self) -> tuple[int, ...]:
        """Direct predecessors of each layer."""
        out = [0] * self.n
        for i, j in self.edges:
            out[j] |= 1 << i
        return tuple(out)

    @cached_property
    def succs(self) -> tuple[int, ...]:
        """Direct successors of each layer."""
        out = [0] * self.n
        for i, j in self.edges:
            out[i] |= 1 << j
        return tuple(out)

    @cached_property
    def ancestors(self) -> tuple[int, ...]:
        """All layers from which a path leads to each."""
        out: list[int] = []
        for preds in self.preds:
            found = preds
            for p in bits(preds):
                found |= out[p]
            out.append(found)
        return tuple(out)

    @cached_property
    def descendants(self) -> tuple[int, ...]:
        """All layers to which a path leads from each."""
        out = [0] * self.n
        for i in reversed(range(self.n)):
            for s in bits(self.succs[i]):
                out[i] |= out[s] | 1 << s
        return tuple(out)

    @cached_property
    def readers(self) -> tuple[int, ...]:
        """The layers that read each map: those of layers first, then the network's inputs."""
        out = [0] * (self.n + len(self.inputs))
        for layer in self.layers:
            for use in layer.uses:
                out[use.source] |= 1 << layer.index
        return tuple(out)

    @cached_property
    def outputs(self) -> int:
        """Layers whose results leave the network."""
        return sum(1 << v.index for v in self.layers if v.is_output or not self.succs[v.index])

    @cached_property
    def neighbours(self) -> tuple[int, ...]:
        """Producers and consumers of each layer."""
        return tuple(p | s for p, s in zip(self.preds, self.succs))

    @cached_property
    def siblings(self) -> tuple[int, ...]:
        """Layers that share a map with each: its producers, consumers, and other readers."""
        out = list(self.neighbours)
        for readers in self.readers:
            for i in bits(readers):
                out[i] |= readers & ~(1 << i)
        return tuple(out)

    def map_of(self, index: int) -> FeatureMap:
        """A map by its number."""
        if index >= self.n:
            return self.inputs[index - self.n]
        v = self.layers[index]
        return FeatureMap(v.name, v.rows, v.cols, v.channels)

    def elements(self, index: int) -> int:
        """Elements of a map, of one image."""
        found = self.layers[index] if index < self.n else self.inputs[index - self.n]
        return found.elements

    def members(self, group: int) -> tuple[int, ...]:
        """Indices of a group's layers, ascending."""
        return tuple(bits(group))

    def is_convex(self, group: int) -> bool:
        """Whether no path leaves the group and comes back."""
        before = after = 0
        for i in bits(group):
            before |= self.ancestors[i]
            after |= self.descendants[i]
        return not before & after & ~group

    def is_connected(self, group: int) -> bool:
        """Whether edges inside the group join all of it."""
        return len(self.components(group)) <= 1

    def components(self, group: int) -> tuple[int, ...]:
        """The weakly connected parts of a group, by their lowest layers."""
        return _parts(group, self.neighbours)

    def shares(self, group: int) -> tuple[int, ...]:
        """The parts of a group that share no map, an input from outside included."""
        return _parts(group, self.siblings)

    def external_inputs(self, group: int) -> tuple[int, ...]:
        """Maps from outside that the group reads, each once, in order of their first readers."""
        found: dict[int, None] = {}
        for i in bits(group):
            for use in self.layers[i].uses:
                if use.source >= self.n or not group >> use.source & 1:
                    found[use.source] = None
        return tuple(found)

    def external_outputs(self, group: int) -> int:
        """Members whose results are read outside, or leave the network."""
        found = group & self.outputs
        for i in bits(group & ~found):
            if self.succs[i] & ~group:
                found |= 1 << i
        return found

    def acyclic(self, groups: Sequence[int]) -> bool:
        """Whether the groups of a partition can run one after the other."""
        return self.order(groups) is not None

    def order(self, groups: Sequence[int]) -> tuple[int, ...] | None:
        """The groups in an order in which they can run, lowest layers first; None if none is."""
        home = {i: k for k, g in enumerate(groups) for i in bits(g)}
        needs = [{home[p] for i in bits(g) for p in bits(self.preds[i] & ~g)} for g in groups]
        left = sorted(range(len(groups)), key=lambda k: groups[k] & -groups[k])
        done: set[int] = set()
        out: list[int] = []
        while left:
            k = next((k for k in left if needs[k] <= done), None)
            if k is None:
                return None
            left.remove(k)
            done.add(k)
            out.append(groups[k])
        return tuple(out)


def bits(group: int) -> Iterator[int]:
    """Indices of the bits that are set, ascending."""
    while group:
        low = group & -group
        yield low.bit_length() - 1
        group ^= low


def _parts(group: int, near: Sequence[int]) -> tuple[int, ...]:
    out: list[int] = []
    left = group
    while left:
        part = pending = left & -left
        while pending:
            low = pending & -pending
            fresh = near[low.bit_length() - 1] & group & ~part
            part |= fresh
            pending = pending ^ low | fresh
        out.append(part)
        left &= ~part
    return tuple(out)
