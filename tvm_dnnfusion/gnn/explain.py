"""GNNExplainer and PGExplainer of torch-geometric on the validity classifier (section A.4).

Both give each edge a weight between 0 and 1. GNNExplainer: how much the verdict "invalid" leans on
its messages, which run both ways. PGExplainer: how surely the parts that removing the edge leaves
are said to fit. Its own objective, to keep the verdict with few messages, comes out at 1 for every
edge: to a classifier of sums each lost message is a smaller group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch_geometric.explain import Explainer, GNNExplainer, PGExplainer
from torch_geometric.utils import get_embeddings

from tvm_dnnfusion.gnn.model import ValidityGNN, tensors
from tvm_dnnfusion.gnn.parts import relief
from tvm_dnnfusion.gnn.records import GroupGraph, Samples

Progress = Callable[[str, int, int], None]

GNNE_EPOCHS = 30
"""Steps per group; the paper does not state them. Ranks of edges settle by then."""
GNNE_RATE = 0.1
PG_EPOCHS = 25
PG_BATCH = 256
"""Edges."""
PG_GROUPS = 1024
"""Invalid groups, drawn once; some 17,000 edges."""
PG_RATE = 3e-3
PG_DECAY = 1e-4
PG_SCALE = 3.0
"""Logits of the classifier, as one of an edge's weight: groups at the edge of the buffer have some
three."""

_TASK = {"mode": "binary_classification", "task_level": "graph", "return_type": "raw"}
_INVALID = 1.0


class EdgeScorer(Protocol):
    """Gives the edges of a group weights: the larger, the more they explain that it is invalid."""

    def weights(self, graph: GroupGraph) -> np.ndarray:
        """One number per edge; 0 or less: not part of the explanation."""
        ...


class GNNE:
    """GNNExplainer: a mask of edges optimised from nothing for each group."""

    def __init__(self, model: ValidityGNN, epochs: int = GNNE_EPOCHS) -> None:
        self._explainer = Explainer(
            model=model,
            algorithm=GNNExplainer(epochs=epochs, lr=GNNE_RATE),
            explanation_type="phenomenon",
            edge_mask_type="object",
            model_config=_TASK,
        )

    def weights(self, graph: GroupGraph) -> np.ndarray:
        """Weights from a mask whose start depends on nothing but the group's size."""
        nodes, edges = tensors(graph)
        torch.manual_seed(nodes.shape[0])
        found = self._explainer(nodes, edges, target=torch.tensor([_INVALID]))
        return _positive(found.edge_mask)


class PG:
    """PGExplainer: a small network on both ends' embeddings, trained once for all groups."""

    def __init__(self, model: ValidityGNN, epochs: int = PG_EPOCHS) -> None:
        self._model, self._epochs = model, epochs
        self.algorithm = PGExplainer(epochs=0)  # it counts only those of its own training
        self._explainer = Explainer(
            model=model,
            algorithm=self.algorithm,
            explanation_type="phenomenon",
            edge_mask_type="object",
            model_config=_TASK,
        )
        with torch.no_grad():  # sets its lazy layer to what the last GraphConv gives
            self.algorithm.mlp(torch.zeros(1, 2 * model.width))
        self._optimiser = torch.optim.Adam(
            self.algorithm.mlp.parameters(), lr=PG_RATE, weight_decay=PG_DECAY
        )

    def fit(self, samples: Samples, seed: int = 0, progress: Progress | None = None) -> list[float]:
        """Train on invalid groups among the samples; returns the mean loss per epoch."""
        torch.manual_seed(seed)
        chosen = np.random.default_rng(seed).permutation(_telling(samples))[:PG_GROUPS]
        graphs = [samples[int(k)] for k in chosen]
        wanted = torch.from_numpy(relief(self._model, graphs) / PG_SCALE).sigmoid()
        if not graphs:
            return []
        ends = torch.cat([self._ends(graph) for graph in graphs])
        mean, scale = ends.mean(dim=0), ends.std(dim=0).clamp(min=1e-3)
        losses: list[float] = []
        for epoch in range(self._epochs):
            losses.append(self._epoch((ends - mean) / scale, wanted))
            if progress is not None:
                progress("pg", epoch + 1, self._epochs)
        weight, bias = list(self.algorithm.mlp.parameters())[:2]
        with torch.no_grad():  # the network is given embeddings as they are
            weight /= scale
            bias -= weight @ mean
        return losses

    def _epoch(self, ends: torch.Tensor, wanted: torch.Tensor) -> float:
        mlp, total = self.algorithm.mlp, 0.0
        for chosen in torch.randperm(len(ends)).split(PG_BATCH):
            said = mlp(ends[chosen]).squeeze(-1)
            loss = nn.functional.binary_cross_entropy_with_logits(said, wanted[chosen])
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            total += loss.item() * len(chosen)
        return total / len(ends)

    def _ends(self, graph: GroupGraph) -> torch.Tensor:
        """What torch-geometric gives the network: both ends' last convolution, [edges, 2 width]."""
        nodes, edges = tensors(graph)
        with torch.no_grad():
            found = get_embeddings(self._model, nodes, edges)[-1]
        return torch.cat([found[edges[0]], found[edges[1]]], dim=1)

    def weights(self, graph: GroupGraph) -> np.ndarray:
        """The network's weights of the edges."""
        nodes, edges = tensors(graph)
        with torch.no_grad():
            found = self._explainer(nodes, edges, target=torch.tensor([_INVALID]))
        return _positive(found.edge_mask)


def _telling(samples: Samples) -> np.ndarray:
    """Indices of invalid groups that have edges."""
    counts = np.diff(samples.edge_ends, prepend=0)
    return np.flatnonzero((samples.invalid > 0) & (counts > 0))


def _positive(mask: torch.Tensor) -> np.ndarray:
    """Weights as an array; 0 would say that an edge is no part of the explanation."""
    return np.maximum(mask.detach().numpy(), np.finfo(np.float32).tiny)
