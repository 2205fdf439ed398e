"""GNNExplainer and PGExplainer of torch-geometric on the validity classifier (section A.4).

Both give each edge a weight between 0 and 1: how much the verdict "invalid" leans on its messages,
which run both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch_geometric.explain import Explainer, GNNExplainer, PGExplainer

from tvm_dnnfusion.gnn.model import ValidityGNN, batch_of, tensors
from tvm_dnnfusion.gnn.records import GroupGraph, Samples

Progress = Callable[[str, int, int], None]

GNNE_EPOCHS = 30
"""Steps per group; the paper does not state them. Ranks of edges settle by then."""
GNNE_RATE = 0.1
PG_EPOCHS = 25
PG_BATCH = 64
PG_GROUPS = 1024
"""Invalid groups per epoch, drawn anew for each."""
PG_EDGE_SIZE = 0.05
"""Weight of the number of edges kept, per group: torch-geometric's default."""

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
        self._model = model
        self.algorithm = PGExplainer(epochs=epochs, edge_size=PG_EDGE_SIZE / PG_BATCH)
        self._explainer = Explainer(
            model=model,
            algorithm=self.algorithm,
            explanation_type="phenomenon",
            edge_mask_type="object",
            model_config=_TASK,
        )
        with torch.no_grad():  # sets its lazy layer to what the last GraphConv gives
            self.algorithm.mlp(torch.zeros(1, 2 * model.width))

    def fit(self, samples: Samples, seed: int = 0, progress: Progress | None = None) -> list[float]:
        """Train on the invalid groups among the samples; returns the mean loss per epoch."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        telling = _telling(samples)
        losses: list[float] = []
        for epoch in range(self.algorithm.epochs):
            total = 0.0
            order = rng.permutation(telling)[:PG_GROUPS]
            for start in range(0, len(order), PG_BATCH):
                chosen = order[start : start + PG_BATCH]
                nodes, edges, group, invalid = batch_of(samples, chosen)
                total += len(chosen) * self.algorithm.train(
                    epoch, self._model, nodes, edges, target=invalid, batch=group
                )
            losses.append(total / max(1, len(order)))
            if progress is not None:
                progress("pg", epoch + 1, self.algorithm.epochs)
        return losses

    def trained(self) -> None:
        """Say that the network's weights were loaded: torch-geometric counts epochs."""
        self.algorithm._curr_epoch = self.algorithm.epochs

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
