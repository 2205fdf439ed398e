"""What a classifier says of the parts that removing an edge leaves: which edges explain a group.

An edge (i, j) explains that a group does not fit where what i waits for and the rest, or what waits
for j and the rest, are both said to fit. A node alone fits: it runs layer by layer. Cost: four
verdicts an edge, all in batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tvm_dnnfusion.gnn.model import ValidityGNN, logits
from tvm_dnnfusion.gnn.records import GroupGraph, packed


def relief(model: ValidityGNN, graphs: Sequence[GroupGraph]) -> np.ndarray:
    """Of every edge of the graphs, in order: how surely both parts fit (a logit, [edges])."""
    parts: list[GroupGraph] = []
    known: dict[tuple[int, bytes], int] = {}
    rows: list[list[int]] = []
    for k, graph in enumerate(graphs):
        for first in _cuts(graph):
            row: list[int] = []
            for kept in (first, ~first):
                key = (k, kept.tobytes())
                if key not in known:
                    known[key] = len(parts)
                    parts.append(part(graph, kept))
                row.append(known[key])
            rows.append(row)
    if not rows:
        return np.zeros(0, dtype=np.float32)
    blank = np.zeros(len(parts))
    fits = -logits(model, packed(parts, blank, blank, blank))
    fits[[len(p.nodes) < 2 for p in parts]] = np.inf
    return fits[np.array(rows)].min(axis=1).reshape(-1, 2).max(axis=1)


def part(graph: GroupGraph, kept: np.ndarray) -> GroupGraph:
    """The nodes of a mask [nodes] and the edges between them."""
    inside = kept[graph.edges[0]] & kept[graph.edges[1]]
    return GroupGraph(graph.nodes[kept], (np.cumsum(kept) - 1)[graph.edges[:, inside]])


def _cuts(graph: GroupGraph) -> Iterator[np.ndarray]:
    """Two cuts for each edge (i, j): what leads to i first, or all but what j leads to."""
    before = np.eye(len(graph.nodes), dtype=bool)  # [node, what leads to it]
    for a, b in graph.edges.T[np.argsort(graph.edges[1], kind="stable")]:
        before[b] |= before[a]
    for i, j in graph.edges.T:
        yield before[i]
        yield ~before[:, j]
