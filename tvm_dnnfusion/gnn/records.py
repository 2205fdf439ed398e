"""Groups as arrays, one by one and packed together for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class GroupGraph:
    """One group: features of its nodes [nodes, features], float32, and edges [2, edges], int64."""

    nodes: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True, slots=True)
class Samples:
    """Many groups end to end, with labels.

    `node_ends` and `edge_ends` are where each group stops; edges count from the group's first node.
    `invalid` is 1.0 for a group that does not fit. `share` is the buffer that it needs as a share
    of what there is, nan where that says nothing (a group may be refused for other reasons).
    `source` numbers the network it comes from.
    """

    nodes: np.ndarray
    edges: np.ndarray
    node_ends: np.ndarray
    edge_ends: np.ndarray
    invalid: np.ndarray
    share: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.invalid)

    def __getitem__(self, index: int) -> GroupGraph:
        n0, e0 = (int(ends[index - 1]) if index else 0 for ends in (self.node_ends, self.edge_ends))
        nodes = self.nodes[n0 : int(self.node_ends[index])]
        return GroupGraph(nodes, self.edges[:, e0 : int(self.edge_ends[index])])

    def take(self, chosen: Sequence[int] | np.ndarray) -> Samples:
        """The samples of these indices, in that order."""
        picked = [int(i) for i in chosen]
        graphs = [self[i] for i in picked]
        return packed(graphs, self.invalid[picked], self.share[picked], self.source[picked])


def packed(
    graphs: Sequence[GroupGraph],
    invalid: Sequence[bool] | np.ndarray,
    share: Sequence[float] | np.ndarray,
    source: Sequence[int] | np.ndarray,
) -> Samples:
    """Groups with labels as one record. Raises ValueError where there is none."""
    if not graphs:
        raise ValueError("no groups to learn from")
    return Samples(
        nodes=np.concatenate([g.nodes for g in graphs]).astype(np.float32),
        edges=np.concatenate([g.edges for g in graphs], axis=1).astype(np.int64),
        node_ends=np.cumsum([len(g.nodes) for g in graphs]),
        edge_ends=np.cumsum([g.edges.shape[1] for g in graphs]),
        invalid=np.asarray(invalid, dtype=np.float32),
        share=np.asarray(share, dtype=np.float32),
        source=np.asarray(source, dtype=np.int64),
    )
