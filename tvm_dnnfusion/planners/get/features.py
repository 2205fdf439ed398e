"""Nodes of a group as numbers for the validity classifier (features of section A.3).

Per node: kind of operator, shape of input and output, size of its weights, and the buffer, which is
the same for all nodes. Sizes appear as logarithms and as shares of the buffer: the classifier adds
up nodes, and what it has to find is whether the sum of such shares passes one. Buffers of any size
are then alike. What a node's operands keep waiting is told as the whole network has it: where a
long branch and a short one meet, four layers of messages do not reach back to the fork.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np

from tvm_dnnfusion.cost.memory.network import Layer, LayerKind, Network, Role, Use
from tvm_dnnfusion.cost.memory.setting import Setting
from tvm_dnnfusion.gnn.records import GroupGraph
from tvm_dnnfusion.planners.get.space import Mask, Space, members

_KINDS = tuple(LayerKind)
_ROLES = tuple(Role)
PIXEL_SCHEMES = ("lbdf", "tiles")
"""Memory models in which a short branch waits for a long one; "brr" leaves that out, as published.
Their nodes have one share more: what the operands keep waiting."""
LARGEST_SHARE = 2.0
"""Shares of the buffer are cut here: a map or weight beyond decides by itself."""


def node_features(network: Network, setting: Setting, scheme: str) -> np.ndarray:
    """One row per layer of the network for a memory model, [layers, features], float32."""
    waiting = _waiting(network) if scheme in PIXEL_SCHEMES else ()
    rows = [_row(v, network, setting, waiting[v.index : v.index + 1]) for v in network.layers]
    return np.array(rows, dtype=np.float32)


def feature_count(scheme: str) -> int:
    """Numbers per node."""
    waits = scheme in PIXEL_SCHEMES
    return len(_KINDS) + len(_ROLES) + len(_LOGS) + len(_SHARES) + waits + 3


def _waiting(network: Network) -> list[int]:
    """Layer -> elements of its operands between the newest and the oldest that it needs, when
    every branch of the network runs (`cost.memory.streams.LbdfModel` for all layers at once)."""
    lead = [(0, 0)] * (network.n + len(network.inputs))
    for v in reversed(network.layers):
        for u in v.uses:
            if not u.whole:
                wide = network.map_of(u.source).cols
                lead[u.source] = max(lead[u.source], _lead(lead[v.index], u),
                                     key=lambda at, wide=wide: at[0] * wide + at[1])  # fmt: skip
    out: list[int] = []
    for v in network.layers:
        total = 0
        for u in v.uses:
            read, ahead = network.map_of(u.source), lead[u.source]
            rows = ahead[0] - lead[v.index][0] * u.stride[0] + u.padding[0]
            cols = ahead[1] - lead[v.index][1] * u.stride[1] + u.padding[1]
            size = read.rows * read.cols
            pixels = size if u.whole else min(size, max(1, rows * read.cols + cols + 1))
            total += pixels * read.channels
        out.append(total)
    return out


def _lead(at: tuple[int, int], use: Use) -> tuple[int, int]:
    """Row and column of a map that the result at `at` needs at the latest."""
    (kr, kc), (sr, sc), (pr, pc) = use.kernel, use.stride, use.padding
    return at[0] * sr + kr - 1 - pr, at[1] * sc + kc - 1 - pc


def _row(v: Layer, network: Network, setting: Setting, waiting: Sequence[int]) -> list[float]:
    use = max(v.uses, key=lambda u: network.elements(u.source), default=None)
    read = network.map_of(use.source) if use is not None else None
    rows, cols, channels = (read.rows, read.cols, read.channels) if read is not None else (1, 1, 1)
    kernel, across = use.kernel if use is not None else (1, 1)
    stride = use.stride[0] if use is not None else 1
    whole = any(u.whole for u in v.uses)
    kernel, stride = (1, 1) if whole else (kernel, stride)
    scale = setting.word_bytes / setting.buffer_bytes
    sizes = (rows, cols, channels, v.rows, v.cols, v.channels, v.weights + 1, kernel, across,
             stride, setting.buffer_bytes / 1024)  # fmt: skip
    waits = rows * cols if whole else (kernel - 1) * cols + across
    shares = (v.weights, v.extras, cols * channels, waits * channels, rows * cols * channels,
              v.cols * v.channels, v.elements, *waiting)  # fmt: skip
    return [
        *(float(v.kind is kind) for kind in _KINDS),
        *(float(v.role is role) for role in _ROLES),
        *(log2(max(1.0, size)) for size in sizes),
        *(min(LARGEST_SHARE, share * scale) for share in shares),
        float(whole),
        float(len(v.uses)),
        1.0,
    ]


_LOGS = ("in rows", "in cols", "in channels", "rows", "cols", "channels", "weights", "kernel rows",
         "kernel cols", "stride", "buffer")  # fmt: skip
_SHARES = ("weights", "other constants", "a row read", "what of the map waits", "the map read",
           "a row made", "the map made")  # fmt: skip


class GroupEncoder:
    """Groups of one network under one setting as arrays; equal ones are known by a signature."""

    def __init__(self, space: Space, features: np.ndarray) -> None:
        self._space = space
        self._features = features
        _, self._classes = np.unique(features, axis=0, return_inverse=True)

    def edges(self, group: Mask) -> list[tuple[int, int]]:
        """Edges of the group, in the order in which `encode` lists them."""
        return self._space.inner(group)

    def encode(self, group: Mask) -> GroupGraph:
        """The group's nodes and edges."""
        nodes = members(group)
        place = {v: k for k, v in enumerate(nodes)}
        pairs = [(place[i], place[j]) for i, j in self._space.inner(group)]
        return GroupGraph(self._features[nodes], _edge_array(pairs))

    def signature(self, group: Mask) -> tuple[bytes, bytes]:
        """Equal for groups that `encode` makes the same: repeated blocks of a network."""
        nodes = members(group)
        place = {v: k for k, v in enumerate(nodes)}
        pairs = [(place[i], place[j]) for i, j in self._space.inner(group)]
        return self._classes.reshape(-1)[nodes].tobytes(), _edge_array(pairs).tobytes()


def _edge_array(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T
