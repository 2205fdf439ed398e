"""How far each map of a group must be ahead of its readers, and how many rows wait in the buffer.

A group runs in steps. In each, every map u advances by `delta` rows (or columns) times the step's
height h, so that after step t it holds p_u(t) = delta * h * t + ahead. A reader v with kernel R,
stride s and padding p needs row (p_v - 1) * s - p + R - 1 of u at the end of a step, and row
p_v(t - 1) * s - p at its beginning. Hence, from the last layers to the first:

    delta(u) = s * delta(v)                                       the same for all readers v
    ahead(u) = max over v of (ahead(v) - 1) * s + R - p           (at least 0)
    rows(u)  = delta(u) * h + keep(u),  keep(u) = ahead(u) + max(0, max over v of p - ahead(v) * s)

Branches of unequal length differ in `ahead`; what a short one keeps waiting is in `keep`. This is
Cocco's consumption-centric derivation (ASPLOS'24) with the waiting added. A map that somebody needs
whole splits the group into stages that run one after the other; it stays in the buffer entirely, as
does a map that two stages read. Rates are found once for the whole network, so a frame is linear in
the edges of its group.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm_dnnfusion.cost.memory.network import Network, bits

_UNIT = 2**24 * 3**4 * 5**2 * 7**2 * 11
"""A rate that the strides met in practice divide."""

Reader = tuple[int, int, int, int, int, int, int]
"""Layer, then kernel, stride and padding of rows, then of columns."""


@dataclass(slots=True)
class Frame:
    """The maps of a group, those from outside first, then its members in order.

    Lists run along `maps`. `whole`: the map stays in the buffer entirely. `steps_of` and `waiting`
    turn them into figures for a height.
    """

    maps: list[int]
    outside: int
    whole: list[bool]
    rows: list[int]
    cols: list[int]
    channels: list[int]
    delta: list[int]
    ahead: list[int]
    keep: list[int]
    readers: list[list[tuple[int, Reader]]]
    """Of each map, its readers of the same stage: (place in `maps`, how it reads)."""

    def waiting(self, k: int, height: int) -> int:
        """Rows of map k in the buffer when a step advances by `height`."""
        if self.whole[k]:
            return self.rows[k]
        return min(self.rows[k], self.delta[k] * height + self.keep[k])

    def steps_of(self, k: int, height: int) -> int:
        """Steps of that height in which map k grows."""
        return max(1, -((self.ahead[k] - self.rows[k]) // (self.delta[k] * height)))


class Paces:
    """The tables of a network that frames are made from."""

    def __init__(self, network: Network) -> None:
        self.network = network
        maps = [network.map_of(k) for k in range(network.n + len(network.inputs))]
        self.rows = [m.rows for m in maps]
        self.cols = [m.cols for m in maps]
        self.channels = [m.channels for m in maps]
        self.readers: list[list[Reader]] = [[] for _ in maps]
        self.uses = [tuple((u.source, u.whole) for u in v.uses) for v in network.layers]
        for v in network.layers:
            for u in v.uses:
                if not u.whole:
                    (kr, kc), (sr, sc), (pr, pc) = u.kernel, u.stride, u.padding
                    self.readers[u.source].append((v.index, kr, sr, pr, kc, sc, pc))
        self.rates = _rates(self.readers, 2)
        self.rates_cols = _rates(self.readers, 5)

    def frame(self, group: int, delays: bool = True) -> Frame | None:
        """The frame of a group, None where its branches do not agree on rates.

        `delays=False` leaves out what waits for longer branches, as Cocco does.
        """
        maps, outside, stage, whole = self._staged(group)
        place = {m: k for k, m in enumerate(maps)}
        readers: list[list[tuple[int, Reader]]] = []
        for k, m in enumerate(maps):
            mine, found = stage[k], []
            if k >= outside or not whole[k]:
                for r in self.readers[m]:
                    j = place.get(r[0])
                    if j is not None and stage[j] == mine:
                        found.append((j, r))
            readers.append(found)
        delta = _scaled(self.rates, maps, readers, 2)
        if delta is None:
            return None
        frame = Frame(
            maps, outside, whole, [self.rows[m] for m in maps], [self.cols[m] for m in maps],
            [self.channels[m] for m in maps], delta, [], [], readers,
        )  # fmt: skip
        frame.ahead, frame.keep = lags(frame, 1, delays)
        return frame

    def columns(self, frame: Frame, delays: bool) -> tuple[list[int], list[int]] | None:
        """Columns that each map advances by in a step of one, and those that it keeps."""
        delta = _scaled(self.rates_cols, frame.maps, frame.readers, 5)
        return None if delta is None else (delta, lags(frame, 4, delays)[1])

    def _staged(self, group: int) -> tuple[list[int], int, list[int], list[bool]]:
        members = list(bits(group))
        outer: dict[int, int] = {}
        stage: dict[int, int] = {}
        kept: set[int] = set()
        for i in members:
            mine = 0
            for source, whole in self.uses[i]:
                if source in stage:
                    mine = max(mine, stage[source] + whole)
                elif source not in outer:
                    outer[source] = -1
            stage[i] = mine
            for source, whole in self.uses[i]:
                if whole or stage.get(source, mine) < mine:
                    kept.add(source)
                elif source in outer:
                    if outer[source] not in (-1, mine):
                        kept.add(source)
                    outer[source] = mine
        maps = [*outer, *members]
        stages = [*(max(s, 0) for s in outer.values()), *(stage[i] for i in members)]
        return maps, len(outer), stages, [m in kept for m in maps]


def _rates(readers: list[list[Reader]], column: int) -> list[int] | None:
    """Rows (or columns) of each map that pass while the whole network advances by one unit.

    Parts that only whole maps join have rates of their own. None where they do not agree: then
    rates are found for each group.
    """
    near: list[list[tuple[int, int, bool]]] = [[] for _ in readers]
    for source, found in enumerate(readers):
        for r in found:
            near[source].append((r[0], r[column], True))
            near[r[0]].append((source, r[column], False))
    rate = [0] * len(readers)
    for root in range(len(readers)):
        if rate[root]:
            continue
        rate[root], pending = _UNIT, [root]
        while pending:
            u = pending.pop()
            for v, stride, down in near[u]:
                if down and rate[u] % stride:
                    return None
                value = rate[u] // stride if down else rate[u] * stride
                if not rate[v]:
                    rate[v] = value
                    pending.append(v)
                elif rate[v] != value:
                    return None
    return rate


def _scaled(rates: list[int] | None, maps: list[int], readers: list[list[tuple[int, Reader]]],
            column: int) -> list[int] | None:  # fmt: skip
    """Rates of a group's maps as the smallest whole numbers; each on its own without readers.

    Parts of a group that no map joins advance together, at the pace that the network sets.
    """
    if rates is None:
        number = {m: k for k, m in enumerate(maps)}
        local: list[list[Reader]] = [
            [(number[r[0]], *r[1:]) for _, r in found] for found in readers
        ]  # type: ignore[misc]
        found = _rates(local, column)
        if found is None:
            return None
    else:
        found = [rates[m] for m in maps]
    joined = {k for k, rs in enumerate(readers) if rs} | {k for rs in readers for k, _ in rs}
    common = 0
    for k in joined:
        common = gcd(common, found[k])
    return [found[k] // common if k in joined else 1 for k in range(len(maps))]


def lags(frame: Frame, column: int, delays: bool = True) -> tuple[list[int], list[int]]:
    """`ahead` and `keep` of every map, for rows (column 1) or columns (4) of `Reader`."""
    count = len(frame.maps)
    ahead, keep = [0] * count, [0] * count
    for k in range(count - 1, -1, -1):
        readers = frame.readers[k]
        if not readers:
            continue
        lead = 0
        for j, r in readers:
            lead = max(lead, (ahead[j] - 1) * r[column + 1] + r[column] - r[column + 2])
        ahead[k] = lead
        if delays:
            keep[k] = max(lead, *(lead + r[column + 2] - ahead[j] * r[column + 1]
                                  for j, r in readers))  # fmt: skip
        else:
            keep[k] = max(0, *(r[column] - r[column + 1] for _, r in readers))
    return ahead, keep
