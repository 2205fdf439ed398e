"""From a graph to a `Network`: each op as a layer with maps of rows, simple ops merged.

A map of one image is rows x cols x channels. [N, C, H, W] is H x W x C, [N, S, D] is S x 1 x D (a
sequence; after a one-dimensional convolution L x 1 x C), [N, D] is 1 x 1 x D. Reshapes make no
layer: who reads a map in another shape needs it whole. So does whatever does not go row by row.
Slices of channels are read as the map that they come from. Cost: linear in the ops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from tvm_dnnfusion.cost.memory.network import FeatureMap, Layer, LayerKind, Network, Role, Use
from tvm_dnnfusion.ecg.catalog import barrier_of
from tvm_dnnfusion.ecg.entries import ENTRIES, along_axis, batch_norm, elementwise
from tvm_dnnfusion.ecg.graph import Graph, GraphError, Op

Shape = tuple[int, int, int]
"""Rows, columns, channels."""

_VIEWS = frozenset("reshape flatten squeeze expand_dims nn.batch_flatten nn.dropout".split())
_REDUCTIONS = frozenset("mean sum max min prod".split())
_ALL_CHANNELS = frozenset("nn.softmax nn.log_softmax nn.layer_norm nn.rms_norm".split())
_GLOBAL = frozenset(f"nn.adaptive_{p}_pool{n}d" for p in ("avg", "max") for n in (1, 2, 3))
_CONVS = ("nn.conv1d", "nn.conv2d", "nn.conv3d")


class NetworkError(ValueError):
    """The graph cannot be seen as layers; the message names the op and says why."""

    exit_code = 2


@dataclass
class Draft:
    """A layer while the network is being made; `uses` name maps by key."""

    key: str
    kind: LayerKind
    role: Role
    ops: list[str]
    shape: Shape
    in_channels: int = 0
    groups: int = 1
    weights: int = 0
    extras: int = 0
    macs: int = 0
    uses: list[tuple[str, Use]] = field(default_factory=list[tuple[str, Use]])
    is_output: bool = False
    closed: bool = False
    """A barrier: nothing joins it."""


def network_of(graph: Graph, merge: bool = True, name: str = "") -> Network:
    """The network of a graph.

    Parameters
    ----------
    merge : whether simple ops (one operand besides constants, element by element) join the layer
        that makes their operand, or where that has other readers, the only one that reads theirs.

    Raises
    ------
    NetworkError where a tensor's shape is not static.
    """
    reader = _Reader(graph)
    for op in graph.ops:
        reader.add(op)
    drafts = reader.finish()
    if merge:
        drafts = _merged(drafts)
    return _numbered(drafts, reader, name)


class _Reader:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.drafts: list[Draft] = []
        self.shapes: dict[str, Shape] = {}
        self.home: dict[str, str | None] = {}
        """Tensor -> key of the map that it lies in; None for constants."""
        self.sequences: set[str] = set()
        """Tensors of rank three that hold channels first."""
        dims = [graph.tensors[t].dims for t in graph.inputs if graph.tensors[t].is_static]
        self.images = next((d[0] for d in dims if len(d) >= 3), 1)
        self.inputs: dict[str, FeatureMap] = {}
        for t in graph.constants:
            self.home[t] = None
        for t in graph.inputs:
            self.home[t] = t
            self.shapes[t] = self.shape(t)
            self.inputs[t] = FeatureMap(t, *self.shapes[t])

    def shape(self, tensor: str, channels_first: bool = False) -> Shape:
        """A tensor as rows, columns, channels of one image."""
        record = self.graph.tensors[tensor]
        try:
            dims = record.dims
        except GraphError as error:
            raise NetworkError(f"{error}; give the shapes of the inputs") from error
        batched = bool(dims) and dims[0] == self.images
        inner = dims[1:] if batched else dims
        if len(inner) >= 3:
            return inner[1], prod(inner[2:]), inner[0]
        if len(inner) == 2:
            return (inner[1], 1, inner[0]) if channels_first else (inner[0], 1, inner[1])
        return 1, 1, prod(inner)

    def add(self, op: Op) -> None:
        """Make the layer of an op, or note what it is a view of."""
        sources = [t for t in dict.fromkeys(op.inputs) if self.home[t] is not None]
        if not sources:
            self.home.update(dict.fromkeys(op.outputs, None))
            return
        if op.kind in _VIEWS or self._slices_channels(op):
            self.home.update(dict.fromkeys(op.outputs, self.home[sources[0]]))
            if sources[0] in self.sequences:
                self.sequences.update(op.outputs)
            return
        draft = self._draft(op, sources)
        self.drafts.append(draft)
        self.shapes[draft.key] = draft.shape
        self.home.update(dict.fromkeys(op.outputs, draft.key))

    def finish(self) -> list[Draft]:
        """The drafts, with the network's outputs marked."""
        left = {self.home[t] for t in self.graph.outputs}
        for draft in self.drafts:
            draft.is_output = draft.key in left
        return self.drafts

    def use(self, tensor: str, like: Use | None = None, channels_first: bool = False
            ) -> tuple[str, Use]:  # fmt: skip
        """A use of a tensor: row by row where the map has the tensor's shape, else whole."""
        key = self.home[tensor]
        assert key is not None
        found = like or Use(0)
        first = channels_first or tensor in self.sequences
        shape = self.shape(tensor, first)
        same = self.shapes[key] == shape or (
            # a slice of channels has the rows of its map
            self.shapes[key][:2] == shape[:2] and shape[2] < self.shapes[key][2]
        )
        return key, found if same else Use(0, whole=True)

    def _slices_channels(self, op: Op) -> bool:
        """Whether an op only names parts of the channels, as the halves of a split are."""
        if op.kind not in ("split", "strided_slice"):
            return False
        data = op.inputs[0]
        before = self.shape(data, data in self.sequences)
        return all(self.shape(t, data in self.sequences)[:2] == before[:2] for t in op.outputs)

    def _draft(self, op: Op, sources: list[str]) -> Draft:
        out = op.outputs[0]
        extras = sum(self.graph.tensors[t].elements for t in dict.fromkeys(op.inputs)
                     if self.home[t] is None)  # fmt: skip
        if barrier_of(op, self.graph) is not None:
            total = sum(prod(self.shape(t)) for t in op.outputs if self.graph.tensors[t].is_static)
            draft = self._whole(op, sources, (1, 1, max(1, total)), extras)
            draft.closed = True
            return draft
        for fits, make in self._makers():
            if fits(op):
                return make(op, sources, out, extras)
        return self._whole(op, sources, self.shape(out), extras)

    def _makers(self) -> tuple[tuple[Callable[[Op], bool], Callable[..., Draft]], ...]:
        return (
            (lambda op: op.kind in _CONVS, self._conv),
            (lambda op: op.kind == "matmul", self._matmul),
            (lambda op: op.kind.startswith(("nn.max_pool", "nn.avg_pool")), self._pool),
            (self._is_global, self._global),
            (lambda op: op.kind == "concat", self._concat),
            (self._is_pad, self._pad),
            (lambda op: op.kind in _ALL_CHANNELS, self._mix),
            (_is_elementwise, self._eltwise),
        )

    def _whole(self, op: Op, sources: list[str], shape: Shape, extras: int) -> Draft:
        uses = [(str(self.home[t]), Use(0, whole=True)) for t in sources]
        if op.kind in ("take", "gather_nd", "gather_elements"):
            extras = min(extras, prod(shape))  # only the rows that are taken move
        return Draft(op.name, LayerKind.WHOLE, Role.ALL, [op.name], shape, extras=extras,
                     macs=prod(shape), uses=uses, in_channels=shape[2])  # fmt: skip

    def _conv(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        rank = int(op.kind[-2])
        data, weight = op.inputs[0], op.inputs[1]
        layout = str(op.attr("data_layout") or "")
        constant = self.home[weight] is None
        if (
            self.home[data] is None
            or (layout and not layout.startswith("NC"))
            or (len(layout) > rank + 2)
        ):
            return self._whole(op, sources, self.shape(out), extras)
        if rank == 1:
            self.sequences.add(out)
        dims = self.graph.tensors[weight].dims
        dilation = op.ints("dilation") or (1,) * rank
        kernel = tuple((k - 1) * d + 1 for k, d in zip(dims[2:], dilation))
        window = _window(kernel, op.ints("strides"), op.ints("padding"), self.shape(data))
        shape = self.shape(out, rank == 1)
        groups = int(op.ints("groups")[0])
        channels = self.shape(data, rank == 1)[2]
        local = groups == channels
        elements = self.graph.tensors[weight].elements
        uses = [self.use(data, window, rank == 1)]
        uses += [] if constant else [(str(self.home[weight]), Use(0, whole=True))]
        return Draft(
            op.name, LayerKind.DEPTHWISE if local else LayerKind.CONV,
            Role.LOCAL if local else Role.SUM, [op.name], shape, channels, groups,
            elements if constant else 0, 0, shape[0] * shape[1] * elements, uses,
        )  # fmt: skip

    def _matmul(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        first, second = op.inputs[0], op.inputs[1]
        shape, length = self.shape(out), self.graph.tensors[first].dims[-1]
        if self.home[first] is None:
            return self._whole(op, sources, shape, extras)
        stays = len(self.graph.tensors[first].dims) == len(self.graph.tensors[out].dims)
        like = Use(0) if stays else Use(0, whole=True)
        rows = self.use(first, like)
        macs = prod(shape) * length
        if self.home[second] is None:
            weights = self.graph.tensors[second].elements
            uses = [rows]
            return Draft(op.name, LayerKind.MATMUL, Role.SUM, [op.name], shape, length, 1,
                         weights, 0, macs, uses)  # fmt: skip
        # rank four: heads are channels, a row is all of its columns; the other operand waits whole
        heads = len(self.graph.tensors[out].dims) >= 4
        wide = Use(0, (1, self.shape(first)[1]), (1, 1), (0, 0), rows[1].whole)
        uses = [(rows[0], wide if heads else rows[1]), (str(self.home[second]), Use(0, whole=True))]
        role = Role.LOCAL if heads else Role.SUM
        return Draft(op.name, LayerKind.MATMUL, role, [op.name], shape, length, 1, 0, 0, macs,
                     _distinct(uses))  # fmt: skip

    def _pool(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        data, rank = op.inputs[0], int(op.kind[-2])
        if rank == 1:
            self.sequences.add(out)
        shape, before = self.shape(out, rank == 1), self.shape(data, rank == 1)
        window = _window(op.ints("pool_size"), op.ints("strides"), op.ints("padding"), before)
        taps = window.kernel[0] * window.kernel[1]
        if shape[:2] == (1, 1) and taps >= before[0] * before[1]:
            return self._global(op, sources, out, extras)
        return Draft(op.name, LayerKind.POOL, Role.LOCAL, [op.name], shape, before[2], 1, 0, 0,
                     prod(shape) * taps, [self.use(data, window, rank == 1)])  # fmt: skip

    def _is_global(self, op: Op) -> bool:
        """A pooling or reduction over all rows and columns of a map."""
        if op.kind not in _REDUCTIONS and op.kind not in _GLOBAL:
            return False
        data, out = op.inputs[0], self.graph.tensors[op.outputs[0]]
        rank = len(self.graph.tensors[data].dims)
        if op.kind in _GLOBAL:
            return prod(out.dims[2:]) == 1
        axes = sorted(a % rank for a in (op.ints("axis") or tuple(range(rank))))
        return rank >= 3 and axes == list(range(2, rank))

    def _global(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        data = op.inputs[0]
        rows, cols, channels = self.shape(data, len(self.graph.tensors[data].dims) == 3)
        key = str(self.home[data])
        same = self.shapes[key] == (rows, cols, channels)
        use = Use(0, (rows, cols), (rows, cols), (0, 0), whole=True) if same else Use(0, whole=True)
        return Draft(op.name, LayerKind.POOL, Role.LOCAL, [op.name], (1, 1, channels), channels,
                     1, 0, 0, rows * cols * channels, [(key, use)])  # fmt: skip

    def _concat(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        first = any(t in self.sequences for t in sources)
        shape = self.shape(out, first)
        if any(self.shape(t, first)[:2] != shape[:2] for t in sources):
            return self._whole(op, sources, shape, extras)
        if first:
            self.sequences.add(out)
        return Draft(op.name, LayerKind.CONCAT, Role.LOCAL, [op.name], shape, shape[2], 1, 0,
                     extras, 0, _distinct([self.use(t, None, first) for t in sources]))  # fmt: skip

    def _is_pad(self, op: Op) -> bool:
        if op.kind != "nn.pad" or op.attr("pad_mode", "constant") != "constant":
            return False
        before, after = self.graph.tensors[op.inputs[0]].dims, self.graph.tensors[op.outputs[0]]
        return len(before) == 4 and before[:2] == after.dims[:2]

    def _pad(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        width = op.ints("pad_width")
        shape = self.shape(out)
        window = Use(0, padding=(width[4], width[6])) if len(width) == 8 else Use(0, whole=True)
        return Draft(op.name, LayerKind.ELTWISE, Role.LOCAL, [op.name], shape, shape[2], 1, 0,
                     0, 0, [self.use(op.inputs[0], window)])  # fmt: skip

    def _mix(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        data = op.inputs[0]
        rank = len(self.graph.tensors[data].dims)
        axes = {a % rank for a in (op.ints("axes") or op.ints("axis") or (rank - 1,))}
        shape = self.shape(out)
        if axes != {rank - 1} or data in self.sequences:
            return self._whole(op, sources, shape, extras)
        key, use = self.use(data)
        role = Role.ALL
        if rank >= 4:  # the last axis is that of the columns
            role, use = Role.LOCAL, Use(0, (1, shape[1]), (1, 1), (0, 0), use.whole)
        return Draft(op.name, LayerKind.MIX, role, [op.name], shape, shape[2], 1, 0, extras,
                     4 * prod(shape), [(key, use)])  # fmt: skip

    def _eltwise(self, op: Op, sources: list[str], out: str, extras: int) -> Draft:
        first = any(t in self.sequences for t in sources)
        if first:
            self.sequences.add(out)
        shape = self.shape(out, first)
        uses: list[tuple[str, Use]] = []
        for t in sources:
            key, use = self.use(t, None, first)
            rows, cols, _ = self.shape(t, first)
            uses.append((key, use if (rows, cols) == shape[:2] else Use(0, whole=True)))
        return Draft(op.name, LayerKind.ELTWISE, Role.LOCAL, [op.name], shape, shape[2], 1, 0,
                     extras, prod(shape), _distinct(uses))  # fmt: skip


def _is_elementwise(op: Op) -> bool:
    entry = ENTRIES.get(op.kind)
    return entry is not None and entry.pair in (elementwise, along_axis, batch_norm)


def _distinct(uses: list[tuple[str, Use]]) -> list[tuple[str, Use]]:
    """Each use once; a map that is needed whole is not also read row by row."""
    whole = {key for key, use in uses if use.whole}
    kept = dict.fromkeys((k, Use(0, whole=True) if k in whole else u) for k, u in uses)
    return list(kept)


def _window(kernel: tuple[int, ...], strides: tuple[int, ...], padding: tuple[int, ...],
            data: Shape) -> Use:  # fmt: skip
    """A window as rows and columns; of three dimensions the inner two are one row each.

    A window along the outer dimension alone reads column by column; any other of three dimensions
    is charged whole rows.
    """
    strides = strides or (1,) * len(kernel)
    padding = padding or (0,) * len(kernel)
    if len(kernel) == 1:
        return Use(0, (kernel[0], 1), (strides[0], 1), (padding[0], 0))
    if len(kernel) == 2:
        return Use(0, (kernel[0], kernel[1]), (strides[0], strides[1]), (padding[0], padding[1]))
    pointwise = kernel[1:] == strides[1:] == (1, 1) and not any((*padding[1:3], *padding[4:6]))
    across = 1 if pointwise else data[1]
    return Use(0, (kernel[0], across), (strides[0], 1), (padding[0], 0))


def _merged(drafts: list[Draft]) -> list[Draft]:
    """Join simple drafts to their producers, or to their only readers, until none is left."""
    alive = {d.key: d for d in drafts}
    order = [d.key for d in drafts]
    readers: dict[str, dict[str, None]] = {}
    for d in drafts:
        for key, _ in d.uses:
            readers.setdefault(key, {})[d.key] = None
    pending = list(order)
    while pending:
        key = pending.pop(0)
        v = alive.get(key)
        if v is None or not _is_simple(v, alive):
            continue
        source = v.uses[0][0]
        producer = alive.get(source)
        if (
            producer is not None
            and len(readers[source]) == 1
            and not (producer.is_output or producer.closed)
        ):
            _absorb(v, producer, alive, readers)
            # the producer now stands where v stood, its readers may be simple in turn
            pending = [k for k in readers.get(v.key, {}) if k in alive] + pending
        elif len(readers.get(key, {})) == 1 and not v.is_output:
            target = alive[next(iter(readers[key]))]
            if target.closed or any(k == key and u.whole for k, u in target.uses):
                continue
            _push(v, target, alive, readers)
            pending = [target.key, *pending]
    return [alive[k] for k in order if k in alive]


def _is_simple(v: Draft, alive: dict[str, Draft]) -> bool:
    if v.kind is not LayerKind.ELTWISE or len(v.uses) != 1:
        return False
    key, use = v.uses[0]
    return use == Use(0) and (key not in alive or alive[key].shape == v.shape)


def _absorb(v: Draft, producer: Draft, alive: dict[str, Draft],
            readers: dict[str, dict[str, None]]) -> None:  # fmt: skip
    """v joins the layer before it, which takes over v's readers."""
    producer.ops += v.ops
    producer.extras += v.extras
    producer.macs += v.macs
    producer.is_output = v.is_output
    readers[producer.key] = readers.pop(v.key, {})
    for key in readers[producer.key]:
        alive[key].uses = [(producer.key if k == v.key else k, u) for k, u in alive[key].uses]
    del alive[v.key]


def _push(v: Draft, target: Draft, alive: dict[str, Draft],
          readers: dict[str, dict[str, None]]) -> None:  # fmt: skip
    """v joins its only reader, which reads v's operand instead."""
    source = v.uses[0][0]
    target.ops += v.ops
    target.extras += v.extras
    target.macs += v.macs
    target.uses = _distinct([(source if k == v.key else k, u) for k, u in target.uses])
    del readers[v.key]
    del readers[source][v.key]
    readers[source][target.key] = None
    del alive[v.key]


def _numbered(drafts: list[Draft], reader: _Reader, name: str) -> Network:
    drafts = _sorted(drafts)
    number = {d.key: i for i, d in enumerate(drafts)}
    number.update({key: len(drafts) + k for k, key in enumerate(reader.inputs)})
    place = reader.graph.position
    layers = tuple(
        Layer(
            i, d.key, d.kind, d.role, (d.ops[0], *sorted(d.ops[1:], key=lambda o: place[o])),
            *d.shape, d.in_channels, d.groups, d.weights, d.extras, d.macs,
            tuple(Use(number[k], u.kernel, u.stride, u.padding, u.whole) for k, u in d.uses),
            d.is_output,
        )
        for i, d in enumerate(drafts)
    )  # fmt: skip
    return Network(layers, tuple(reader.inputs.values()), reader.images, name)


def _sorted(drafts: list[Draft]) -> list[Draft]:
    """Topological order, stable: merging may have moved a layer behind its readers."""
    made = {d.key: d for d in drafts}
    out: dict[str, Draft] = {}
    for root in drafts:
        stack = [root]
        while stack:
            d = stack[-1]
            wanted = [made[k] for k, _ in d.uses if k in made and k not in out]
            if d.key in out or not wanted:
                out.setdefault(d.key, d)
                stack.pop()
            else:
                stack.append(wanted[0])
    return list(out.values())
