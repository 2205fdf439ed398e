"""The validity classifier: four k-GNN layers, hidden 128, sum readout (table in section A.3).

Each layer is two GraphConv of half the width, one along the edges and one against them: what waits
in a buffer depends on the delay of the readers, and a reader is not a producer. Features are
standardised inside the model: the figures are part of its weights. The readout sums the features
beside the embeddings: a group fits where shares of the buffer add up to less than one, and a sum is
exact where four layers with relu only come near it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphConv, global_add_pool

from tvm_dnnfusion.gnn.records import GroupGraph, Samples

HIDDEN = 128
LAYERS = 4


class ValidityGNN(nn.Module):
    """Logit that a group is invalid; positive: it does not fit the buffer.

    `width` is that of each half of a layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int = HIDDEN, layers: int = LAYERS) -> None:
        super().__init__()
        widths = [features] + [hidden] * layers
        self.width = hidden // 2
        self.down = nn.ModuleList(GraphConv(a, b // 2, aggr="add") for a, b in pairwise(widths))
        self.up = nn.ModuleList(GraphConv(a, b // 2, aggr="add") for a, b in pairwise(widths))
        self.head = nn.Linear(hidden, 1)
        self.sums = nn.Linear(features, 1, bias=False)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def embed(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Embeddings of the nodes [nodes, hidden]."""
        x = self._start(nodes)
        back = edges.flip(0)
        for down, up in zip(self.down, self.up):
            x = torch.cat([down(x, edges), up(x, back)], dim=1).relu()
        return x

    def forward(self, nodes: Tensor, edges: Tensor, batch: Tensor | None = None) -> Tensor:
        """One logit per group."""
        found = self.head(global_add_pool(self.embed(nodes, edges), batch))
        return (found + self.sums(global_add_pool(self._start(nodes), batch))).squeeze(-1)

    def _start(self, nodes: Tensor) -> Tensor:
        return (nodes - self.mean) * self.scale

    def standardise(self, nodes: np.ndarray) -> None:
        """Take mean and spread of each feature from these nodes; one that is always 1 stays 1, and
        counts the nodes in the readout."""
        spread = nodes.std(axis=0)
        varies = spread > 1e-6
        self.mean.copy_(torch.from_numpy(np.where(varies, nodes.mean(axis=0), 0).astype("float32")))
        self.scale.copy_(torch.from_numpy(1 / np.where(varies, spread, 1).astype("float32")))


def tensors(graph: GroupGraph) -> tuple[Tensor, Tensor]:
    """Nodes and edges of one group for the model."""
    return torch.from_numpy(np.array(graph.nodes)), torch.from_numpy(np.array(graph.edges))


def batch_of(samples: Samples, chosen: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes, edges, group of each node, and label of each group, of the chosen samples."""
    nodes, sizes = _runs(samples.node_ends, chosen)
    edges, counts = _runs(samples.edge_ends, chosen)
    starts = np.repeat(np.cumsum(sizes) - sizes, counts)
    return (
        torch.from_numpy(samples.nodes[nodes]),
        torch.from_numpy(samples.edges[:, edges] + starts),
        torch.from_numpy(np.repeat(np.arange(len(chosen)), sizes)),
        torch.from_numpy(samples.invalid[chosen]),
    )


def _runs(ends: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of what belongs to the chosen groups, one group after the other; how many each."""
    sizes = np.diff(ends, prepend=0)[chosen]
    shift = ends[chosen] - np.cumsum(sizes)
    return np.arange(sizes.sum()) + np.repeat(shift, sizes), sizes


def logits(model: ValidityGNN, samples: Samples, batch: int = 512) -> np.ndarray:
    """The model's logits of all samples."""
    model.eval()
    out: list[np.ndarray] = []
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            chosen = np.arange(start, min(start + batch, len(samples)))
            nodes, edges, group, _ = batch_of(samples, chosen)
            out.append(model(nodes, edges, group).numpy())
    return np.concatenate(out)
