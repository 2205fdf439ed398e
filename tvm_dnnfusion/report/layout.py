"""Layered drawing of a directed acyclic graph: where each node goes, and along what its edges run.

The classic four steps (Sugiyama, Tagawa, Toda 1981): layers by longest path, waypoints for edges
that skip layers, ordering inside layers by barycentres, coordinates by least squares under the
spacing constraint. Deterministic. Cost: near-linear in nodes plus waypoints, times `SWEEPS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 8
"""Passes down and up for ordering, and again for coordinates; more changed nothing visible."""

MAX_WAYPOINTS = 20_000
"""Beyond this many waypoints (very dense graphs), long edges are drawn straight."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in pixels of the drawing."""

    node_width: float = 196.0
    node_height: float = 46.0
    waypoint_width: float = 10.0
    gap: float = 22.0
    layer_height: float = 88.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Centres of nodes, points along edges (from the producer to the consumer), and the extent."""

    nodes: Mapping[str, Point]
    edges: Mapping[tuple[str, str], tuple[Point, ...]]
    width: float
    height: float


def layered(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]], sizes: Sizes | None = None
) -> Layout:
    """Place `nodes` (in topological order) so that all `edges` run downwards.

    Edges that do not run forward in that order are left out.
    """
    sizes = sizes or Sizes()
    position = {name: i for i, name in enumerate(nodes)}
    forward = [
        (a, b)
        for a, b in dict.fromkeys(edges)
        if a in position and b in position and position[a] < position[b]
    ]
    depth = _depths(nodes, forward)
    chains = _chains(forward, depth)
    rows = _rows(nodes, chains, depth)
    up, down = _links(chains)
    _order(rows, up, down)
    x = _coordinates(rows, up, down, set(nodes), sizes)
    return _layout(nodes, chains, depth, x, sizes)


def _depths(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Longest path from a source; sources then sink to just above their first consumer."""
    depth = dict.fromkeys(nodes, 0)
    above: dict[str, list[str]] = {n: [] for n in nodes}
    below: dict[str, list[str]] = {n: [] for n in nodes}
    for a, b in edges:
        above[b].append(a)
        below[a].append(b)
    for n in nodes:
        depth[n] = max((depth[a] + 1 for a in above[n]), default=0)
    for n in reversed(nodes):
        if not above[n] and below[n]:
            depth[n] = min(depth[b] for b in below[n]) - 1
    return depth


def _chains(
    edges: Sequence[tuple[str, str]], depth: Mapping[str, int]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Edge -> its nodes with a waypoint in every layer between."""
    total = sum(depth[b] - depth[a] - 1 for a, b in edges)
    if total > MAX_WAYPOINTS:
        return {edge: edge for edge in edges}
    out: dict[tuple[str, str], tuple[str, ...]] = {}
    for i, (a, b) in enumerate(edges):
        between = (f"\0{i}.{layer}" for layer in range(depth[a] + 1, depth[b]))
        out[a, b] = (a, *between, b)
    return out


def _rows(
    nodes: Sequence[str], chains: Mapping[tuple[str, str], tuple[str, ...]], depth: dict[str, int]
) -> list[list[str]]:
    """The layers, top first; waypoints join the layer that they cross (and `depth`)."""
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for n in nodes:
        rows[depth[n]].append(n)
    for chain in chains.values():
        for i, point in enumerate(chain[1:-1], start=1):
            depth[point] = depth[chain[0]] + i
            rows[depth[point]].append(point)
    return rows


def _links(
    chains: Mapping[tuple[str, str], tuple[str, ...]],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for chain in chains.values():
        for a, b in itertools.pairwise(chain):
            down.setdefault(a, []).append(b)
            up.setdefault(b, []).append(a)
    return up, down


def _order(
    rows: list[list[str]], up: Mapping[str, list[str]], down: Mapping[str, list[str]]
) -> None:
    """Sort every layer by the mean place of its neighbours in the layer before, down and up."""
    place = {n: i for row in rows for i, n in enumerate(row)}
    for sweep in range(SWEEPS):
        links, order = (up, rows) if sweep % 2 == 0 else (down, rows[::-1])
        for row in order:
            wanted = {n: _mean([place[m] for m in links.get(n, ())], place[n]) for n in row}
            row.sort(key=wanted.__getitem__)
            place.update((n, i) for i, n in enumerate(row))


def _coordinates(
    rows: list[list[str]],
    up: Mapping[str, list[str]],
    down: Mapping[str, list[str]],
    real: set[str],
    sizes: Sizes,
) -> dict[str, float]:
    """Horizontal centres: each as near to its neighbours' mean as order and spacing allow."""
    x: dict[str, float] = {}
    offsets = [_offsets(row, real, sizes) for row in rows]
    for row, offset in zip(rows, offsets):
        middle = offset[-1] / 2 if offset else 0.0
        x.update((n, o - middle) for n, o in zip(row, offset))
    for sweep in range(2 * SWEEPS):
        links, order = (up, 1) if sweep % 2 == 0 else (down, -1)
        for row, offset in list(zip(rows, offsets))[::order]:
            wanted = [_mean([x[m] for m in links.get(n, ())], x[n]) for n in row]
            x.update(zip(row, _spread(wanted, offset)))
    return x


def _offsets(row: Sequence[str], real: set[str], sizes: Sizes) -> list[float]:
    """Least distance of each centre of the layer from the first one's."""
    out: list[float] = []
    for i, n in enumerate(row):
        width = sizes.node_width if n in real else sizes.waypoint_width
        last = sizes.node_width if i and row[i - 1] in real else sizes.waypoint_width
        out.append(out[-1] + (last + width) / 2 + sizes.gap if out else 0.0)
    return out


def _spread(wanted: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """Places nearest to `wanted` (least squares) that keep the distances of `offsets`.

    With the offsets taken off this is isotonic regression: pool neighbours that are out of order.
    """
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets):
        total, size = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / size:
            before, count = pools.pop()
            total, size = total + before, size + count
        pools.append((total, size))
    means = [total / size for total, size in pools for _ in range(size)]
    return [mean + offset for mean, offset in zip(means, offsets)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _layout(
    nodes: Sequence[str],
    chains: Mapping[tuple[str, str], tuple[str, ...]],
    depth: Mapping[str, int],
    x: Mapping[str, float],
    sizes: Sizes,
) -> Layout:
    half = sizes.node_width / 2
    left = min((x[n] - half for n in x), default=0.0) - sizes.gap
    right = max((x[n] + half for n in x), default=0.0) + sizes.gap

    def centre(n: str) -> Point:
        return round(x[n] - left, 1), round((depth[n] + 0.5) * sizes.layer_height, 1)

    height = (max(depth.values(), default=-1) + 1) * sizes.layer_height
    points = {edge: tuple(centre(n) for n in chain) for edge, chain in chains.items()}
    return Layout({n: centre(n) for n in nodes}, points, round(right - left, 1), height)
