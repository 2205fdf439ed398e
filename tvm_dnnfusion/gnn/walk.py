"""RG-Explainer: an agent grows a connected part of a group that is invalid by itself.

A small network picks the first node; then, step by step, another adds one neighbour or stops. Both
learn by reinforcement (REINFORCE with the batch's mean as baseline). The reward of a part is how
well the classifier's verdict on it agrees with that on the whole group, less penalties for its
radius and its size (section A.4 of the paper; the weights of the penalties are ours).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tvm_dnnfusion.gnn.model import ValidityGNN, tensors
from tvm_dnnfusion.gnn.records import GroupGraph, Samples

Progress = Callable[[str, int, int], None]

EPOCHS = 10
GROUPS_PER_EPOCH = 400
BATCH = 16
LEARNING_RATE = 1e-3
SIZE_PENALTY = 0.5
"""Reward lost when the part is the whole group; in proportion to its nodes."""
RADIUS_PENALTY = 0.02
"""Reward lost per edge between the first node and the farthest of the part."""
MAX_NODES = 48
"""Nodes after which a part grows no further."""
WIDTH = 64


@dataclass
class Walk:
    """A part that was grown: its nodes in the order of choice, and the choices' log-likelihood."""

    nodes: list[int]
    radius: int
    likelihood: Tensor


class RG(nn.Module):
    """The two networks of the agent, and the explanations that they give."""

    def __init__(self, model: ValidityGNN) -> None:
        super().__init__()
        hidden = model.head.in_features
        self._model = (model,)  # in a tuple: its weights are not the agent's
        self.first = nn.Sequential(nn.Linear(2 * hidden, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        self.grow = nn.Sequential(nn.Linear(3 * hidden, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        self.stop = nn.Sequential(nn.Linear(2 * hidden, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def fit(self, samples: Samples, seed: int = 0, progress: Progress | None = None) -> list[float]:
        """Train on invalid groups drawn from the samples; returns the mean reward per epoch."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        counts = np.diff(samples.edge_ends, prepend=0)
        telling = np.flatnonzero((samples.invalid > 0) & (counts > 0))
        optimiser = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)
        rewards: list[float] = []
        for epoch in range(EPOCHS):
            chosen = rng.permutation(telling)[:GROUPS_PER_EPOCH]
            found = [
                self._step(optimiser, [samples[int(i)] for i in chosen[k : k + BATCH]])
                for k in range(0, len(chosen), BATCH)
            ]
            rewards.append(float(np.mean(found)))
            if progress is not None:
                progress("rg", epoch + 1, EPOCHS)
        return rewards

    def _step(self, optimiser: torch.optim.Optimizer, graphs: list[GroupGraph]) -> float:
        walks = [self._walk(graph, greedy=False) for graph in graphs]
        rewards = torch.tensor([self._reward(g, w) for g, w in zip(graphs, walks)])
        gain = rewards - rewards.mean()
        loss = -(gain * torch.stack([w.likelihood for w in walks])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(rewards.mean())

    def _reward(self, graph: GroupGraph, walk: Walk) -> float:
        nodes, edges = tensors(graph)
        kept = torch.tensor(sorted(walk.nodes))
        place = torch.full((len(nodes),), -1)
        place[kept] = torch.arange(len(kept))
        inner = edges[:, (place[edges[0]] >= 0) & (place[edges[1]] >= 0)]
        with torch.no_grad():
            whole = torch.sigmoid(self._model[0](nodes, edges))
            part = self._model[0](nodes[kept], place[inner])
        agreement = nn.functional.binary_cross_entropy_with_logits(part, whole)
        size = len(walk.nodes) / len(nodes)
        return -float(agreement) - SIZE_PENALTY * size - RADIUS_PENALTY * walk.radius

    def _walk(self, graph: GroupGraph, greedy: bool) -> Walk:
        nodes, edges = tensors(graph)
        near: list[list[int]] = [[] for _ in range(len(nodes))]
        for a, b in edges.T.tolist():
            near[a].append(b)
            near[b].append(a)
        with torch.no_grad():
            embedded = nn.functional.normalize(self._model[0].embed(nodes, edges), dim=1)
            mean = embedded.mean(dim=0)
        start = self.first(torch.cat([embedded, mean.expand_as(embedded)], dim=1)).squeeze(-1)
        node, likelihood = _choose(start, greedy)
        chosen, far = [node], {node: 0}
        inside = embedded[node]
        border: dict[int, int] = dict.fromkeys(near[node], 1)
        while border and len(chosen) < MAX_NODES:
            around = list(border)
            part = inside / len(chosen)
            view = torch.cat([embedded[node], part]).expand(len(around), -1)
            options = self.grow(torch.cat([embedded[around], view], dim=1)).squeeze(-1)
            if len(chosen) > 1:  # one node has no edge to cut at
                options = torch.cat([options, self.stop(torch.cat([part, mean]))])
            pick, gained = _choose(options, greedy)
            likelihood = likelihood + gained
            if pick == len(around):
                break
            added = around[pick]
            far[added] = border.pop(added)
            chosen.append(added)
            inside = inside + embedded[added]
            for w in near[added]:
                if w not in far:
                    border[w] = min(border.get(w, len(nodes)), far[added] + 1)
        return Walk(chosen, max(far.values()), likelihood)

    def weights(self, graph: GroupGraph) -> np.ndarray:
        """Edges inside the part: earlier chosen nodes weigh more; 0 outside it."""
        with torch.no_grad():
            walk = self._walk(graph, greedy=True)
        place = {v: k for k, v in enumerate(walk.nodes)}
        out = np.zeros(graph.edges.shape[1], dtype=np.float32)
        for k, (a, b) in enumerate(graph.edges.T.tolist()):
            if a in place and b in place:
                out[k] = 1.0 / (1 + max(place[a], place[b]))
        return out


def _choose(options: Tensor, greedy: bool) -> tuple[int, Tensor]:
    """An index by softmax, or the most likely one, and the logarithm of its probability."""
    chances = nn.functional.log_softmax(options, dim=0)
    pick = int(chances.argmax() if greedy else torch.multinomial(chances.exp(), 1))
    return pick, chances[pick]
