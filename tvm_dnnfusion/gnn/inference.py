"""The classifier and the three explainers without torch, for a search that asks thousands of times.

The same figures as `model`, `explain` (GNNExplainer and PGExplainer of torch-geometric) and `walk`,
which train and which tests compare with; on groups of some thirty nodes six times as quick, since
no graph of autograd is built. A layer of the classifier is, with A[reader, producer] = 1,

    x' = relu([A (x W_d), A^T (x W_u)] + x W_r + b)

and GNNExplainer descends on the logarithmic odds of the entries of A. Where the classifier is so
sure that 32-bit gradients vanish, torch-geometric's mask stays empty; the slope of the loss is a
64-bit number here, and the mask is found all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_dnnfusion.gnn.records import GroupGraph

Array = NDArray[np.float32]
Weights = Mapping[str, Array]

GNNE_STEPS = 30
"""Steps per group; the paper does not state them. Ranks of edges settle by then."""
GNNE_RATE = 0.1
GNNE_SIZE = 0.005
"""Loss per edge kept, as in torch-geometric; the entropy of the mask counts once."""
MOST_NODES = 48
"""Nodes after which RG-Explainer's part grows no further."""
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # Adam's


class Scorer(Protocol):
    """Gives the edges of a group weights: the larger, the more they explain that it is invalid."""

    def weights(self, graph: GroupGraph) -> Array:
        """One number per edge; 0 or less: not part of the explanation."""
        ...


@dataclass(frozen=True, slots=True)
class _Layer:
    """`across` [in, 2 * half]: W_d and W_u side by side; `own` [in, 2 * half]."""

    across: Array
    own: Array
    bias: Array


class Classifier:
    """The validity classifier from a file's arrays (`gnn.*`)."""

    def __init__(self, arrays: Weights) -> None:
        self._mean, self._scale = arrays["gnn.mean"], arrays["gnn.scale"]
        self._head, self._offset = arrays["gnn.head.weight"][0], float(arrays["gnn.head.bias"][0])
        self._sums = arrays["gnn.sums.weight"][0]
        self.layers: list[_Layer] = []
        while f"gnn.down.{len(self.layers)}.lin_rel.weight" in arrays:
            ways = [f"gnn.{way}.{len(self.layers)}." for way in ("down", "up")]
            across, own, bias = (
                np.concatenate([arrays[w + part] for w in ways])
                for part in ("lin_rel.weight", "lin_root.weight", "lin_rel.bias")
            )
            self.layers.append(
                _Layer(np.ascontiguousarray(across.T), np.ascontiguousarray(own.T), bias)
            )
        self.half = len(self.layers[0].bias) // 2

    def start(self, graph: GroupGraph) -> Array:
        """Standardised features."""
        return (graph.nodes - self._mean) * self._scale

    def step(self, layer: _Layer, x: Array, links: Array) -> tuple[Array, Array]:
        """What a layer makes before relu, and the messages that it sent."""
        sent, half = x @ layer.across, self.half
        out = x @ layer.own + layer.bias
        out[:, :half] += links @ sent[:, :half]
        out[:, half:] += links.T @ sent[:, half:]
        return out, sent

    def embed(self, graph: GroupGraph) -> tuple[Array, Array]:
        """Embeddings of the nodes [nodes, hidden], and what the last layer gave before relu."""
        links, x = adjacency(graph), self.start(graph)
        raw = x
        for layer in self.layers:
            raw = self.step(layer, x, links)[0]
            x = np.maximum(raw, 0)
        return x, raw

    def logit(self, graph: GroupGraph) -> float:
        """Positive: the group does not fit the buffer."""
        return float(self.embed(graph)[0].sum(axis=0) @ self._head) + self.base(graph)

    def base(self, graph: GroupGraph) -> float:
        """What the logit has without messages: the features' weighted sum and the bias."""
        return float(self.start(graph).sum(axis=0) @ self._sums) + self._offset

    def mask_gradient(self, start: Array, sent: Array, graph: GroupGraph, links: Array) -> Array:
        """d/d links of the loss that the group should count as invalid, per edge.

        `sent`, `start`: messages of the first layer and what it adds to them, which no mask
        changes.
        """
        half, (a, b) = self.half, graph.edges
        kept: list[Array] = []
        messages = [sent]
        out = start.copy()
        out[:, :half] += links @ sent[:, :half]
        out[:, half:] += links.T @ sent[:, half:]
        for layer in self.layers[1:]:
            kept.append(np.maximum(out, 0))
            out, sent = self.step(layer, kept[-1], links)
            messages.append(sent)
        kept.append(np.maximum(out, 0))
        logit = float(kept[-1].sum(axis=0) @ self._head) + self.base(graph)
        slope = -1.0 / (1.0 + exp(min(logit, 80.0)))
        back = np.broadcast_to(np.float32(slope) * self._head, out.shape)
        found = np.zeros(len(a), dtype=np.float32)
        for k in range(len(self.layers) - 1, -1, -1):
            back, m = back * (kept[k] > 0), messages[k]
            found += np.einsum("ij,ij->i", back[b, :half], m[a, :half])
            found += np.einsum("ij,ij->i", back[a, half:], m[b, half:])
            if k:
                sent_back = np.concatenate([links.T @ back[:, :half], links @ back[:, half:]], 1)
                back = back @ self.layers[k].own.T + sent_back @ self.layers[k].across.T
        return found


def adjacency(graph: GroupGraph) -> Array:
    """[reader, producer]: 1 where there is an edge."""
    n = len(graph.nodes)
    out = np.zeros((n, n), dtype=np.float32)
    out[graph.edges[1], graph.edges[0]] = 1
    return out


@dataclass(frozen=True, slots=True)
class QuickGNNE:
    """GNNExplainer: a mask of edges optimised from nothing for each group."""

    gnn: Classifier

    def weights(self, graph: GroupGraph) -> Array:
        """Weights from a mask whose start depends on nothing but the group's size."""
        n, count = graph.nodes.shape[0], graph.edges.shape[1]
        spread = np.sqrt(2 / n)  # torch-geometric's: Glorot's for relu
        start = np.random.default_rng(n).standard_normal(count) * spread
        return self.descended(graph, start.astype(np.float32))

    def descended(self, graph: GroupGraph, odds: Array) -> Array:
        """The mask after all steps from given logarithmic odds."""
        gnn, (a, b) = self.gnn, graph.edges
        x, first, links = gnn.start(graph), gnn.layers[0], adjacency(graph)
        own, sent = x @ first.own + first.bias, x @ first.across
        odds = odds.copy()
        mean, square = np.zeros_like(odds), np.zeros_like(odds)
        used = np.ones(len(odds), dtype=np.bool_)
        for step in range(1, GNNE_STEPS + 1):
            kept = _sigmoid(odds)
            links[b, a] = kept
            slope = gnn.mask_gradient(own, sent, graph, links)
            if step == 1:
                used = slope != 0
            elif used.any():  # torch-geometric prices edges from the second step on
                slope += (GNNE_SIZE - odds / used.sum()) * used  # d entropy / d kept = -odds
            slope *= kept * (1 - kept)
            mean += (1 - _BETA1) * (slope - mean)
            square += (1 - _BETA2) * (slope * slope - square)
            far = np.sqrt(square / (1 - _BETA2**step)) + _EPS
            odds -= GNNE_RATE / (1 - _BETA1**step) * mean / far
        tiny = np.float32(np.finfo(np.float32).tiny)
        return np.maximum(np.where(used, _sigmoid(odds), 0), tiny).astype(np.float32)


class QuickPG:
    """PGExplainer: a small network on both ends' embeddings, trained once for all groups."""

    def __init__(self, gnn: Classifier, arrays: Weights) -> None:
        self._gnn = gnn
        self._w, self._b = _linear(arrays, "pg.0")
        self._w2, self._b2 = _linear(arrays, "pg.2")

    def weights(self, graph: GroupGraph) -> Array:
        """The network's weights of the edges."""
        half, (a, b) = self._gnn.half, graph.edges
        raw = self._gnn.embed(graph)[1][:, half:]  # torch-geometric takes the last convolution's
        hidden = np.maximum(raw[a] @ self._w[:half] + raw[b] @ self._w[half:] + self._b, 0)
        tiny = np.float32(np.finfo(np.float32).tiny)
        return np.maximum(_sigmoid((hidden @ self._w2 + self._b2)[:, 0]), tiny)


class QuickRG:
    """RG-Explainer: the part that its agent grows from the likeliest node, greedily."""

    def __init__(self, gnn: Classifier, arrays: Weights) -> None:
        self._gnn = gnn
        self._nets = {
            name: (*_linear(arrays, f"rg.{name}.0"), *_linear(arrays, f"rg.{name}.2"))
            for name in ("first", "grow", "stop")
        }

    def weights(self, graph: GroupGraph) -> Array:
        """Edges inside the part: earlier chosen nodes weigh more; 0 outside it."""
        place = np.full(len(graph.nodes), -1)
        chosen = self.grown(graph)
        place[chosen] = np.arange(len(chosen))
        a, b = place[graph.edges]
        last = np.maximum(np.maximum(a, b), 0)
        return np.where((a >= 0) & (b >= 0), 1.0 / (1 + last), 0).astype(np.float32)

    def grown(self, graph: GroupGraph) -> list[int]:
        """The nodes of the part, in the order of choice."""
        near: list[list[int]] = [[] for _ in range(len(graph.nodes))]
        for a, b in graph.edges.T.tolist():
            near[a].append(b)
            near[b].append(a)
        x = self._gnn.embed(graph)[0]
        x = x / np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-12)
        hidden, mean = x.shape[1], x.mean(axis=0)
        w, b, w2, _ = self._nets["first"]
        start = np.maximum(x @ w[:hidden] + (mean @ w[hidden:] + b), 0) @ w2[:, 0]
        node = int(start.argmax())
        w, b, grow2, grow_b2 = self._nets["grow"]
        options = x @ w[:hidden] + (x[node] @ w[hidden : 2 * hidden] + b)
        inside = x @ w[2 * hidden :]
        s, sb, stop2, stop_b2 = self._nets["stop"]
        ends = x @ s[:hidden]
        end_base = mean @ s[hidden:] + sb
        total, stops = inside[node].copy(), ends[node].copy()
        chosen, border = [node], dict.fromkeys(near[node])
        seen = {node}
        while border and len(chosen) < MOST_NODES:
            around = list(border)
            part = total / len(chosen)
            values = np.maximum(options[around] + part, 0) @ grow2[:, 0] + grow_b2[0]
            pick = int(values.argmax())
            if len(chosen) > 1:  # one node has no edge to cut at
                stop = np.maximum(stops / len(chosen) + end_base, 0) @ stop2[:, 0] + stop_b2[0]
                if stop > values[pick]:
                    break
            added = around[pick]
            del border[added]
            seen.add(added)
            chosen.append(added)
            total += inside[added]
            stops += ends[added]
            border.update(dict.fromkeys(v for v in near[added] if v not in seen))
        return chosen


def scorer(name: str, arrays: Weights) -> Scorer:
    """The explainer "gnne", "pg" or "rg" from a file's arrays. Raises KeyError for another name."""
    gnn = Classifier(arrays)
    if name == "gnne":
        return QuickGNNE(gnn)
    return {"pg": QuickPG, "rg": QuickRG}[name](gnn, arrays)


def _linear(arrays: Weights, name: str) -> tuple[Array, Array]:
    """Weights [in, out] and bias of a layer."""
    return np.ascontiguousarray(arrays[f"{name}.weight"].T), arrays[f"{name}.bias"]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))
