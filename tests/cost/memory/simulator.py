"""A group's execution walked step by step: rows demanded from the last layers backwards.

Independent of the closed forms: nothing is derived, every row (or pixel) that is loaded, made, kept
and dropped is counted. Groups whose readers all go row by row; whole maps are not simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tvm_dnnfusion.cost.memory import Network, Use, bits


@dataclass
class Trace:
    """Per map: rows (or pixels) that exist after each step, and the oldest still needed then."""

    made: dict[int, list[int]] = field(default_factory=dict)
    oldest: dict[int, list[int]] = field(default_factory=dict)

    def most(self, index: int) -> int:
        """The most that a map holds: what exists in a step, less what was dropped before it."""
        made, oldest = self.made[index], self.oldest[index]
        return max(made[t] - oldest[t - 1] for t in range(1, len(made)))

    def steps(self, index: int) -> int:
        """Steps in which the map grew."""
        made = self.made[index]
        return sum(1 for t in range(1, len(made)) if made[t] > made[t - 1])


def members_of(
    net: Network, group: int
) -> tuple[tuple[int, ...], dict[int, list[tuple[int, Use]]]]:
    """Maps of the group, and who in it reads each, how."""
    readers: dict[int, list[tuple[int, Use]]] = {}
    for i in bits(group):
        for use in net.layers[i].uses:
            assert not use.whole
            readers.setdefault(use.source, []).append((i, use))
    return (*net.external_inputs(group), *bits(group)), readers


def walk_rows(net: Network, group: int, rates: dict[int, int], height: int, axis: int = 0) -> Trace:
    """Steps in which every map grows by `height` times its rate, and by what its readers need.

    Along rows, or along columns with axis 1.
    """
    maps, readers = members_of(net, group)
    rows = {m: extent(net, m, axis) for m in maps}
    trace = Trace({m: [0] for m in maps}, {m: [0] for m in maps})
    t = 0
    while any(trace.made[m][-1] < rows[m] for m in bits(group) if m not in readers):
        t += 1
        for m in reversed(maps):
            needs = [(trace.made[v][t] - 1) * u.stride[axis] - u.padding[axis] + u.kernel[axis]
                     for v, u in readers.get(m, ())]  # fmt: skip
            want = max([rates[m] * height * t, *needs])
            trace.made[m].append(min(rows[m], max(want, trace.made[m][-1])))
        for m in maps:
            left = [max(0, trace.made[v][t] * u.stride[axis] - u.padding[axis])
                    for v, u in readers.get(m, ())
                    if trace.made[v][t] < rows[v]]  # fmt: skip
            trace.oldest[m].append(min([*left, trace.made[m][t]]))
    return trace


def extent(net: Network, index: int, axis: int) -> int:
    """Rows of a map, or its columns."""
    return net.map_of(index).cols if axis else net.map_of(index).rows


def walk_tiles(
    net: Network, group: int, down: dict[int, int], across: dict[int, int]
) -> dict[int, int]:
    """The most pixels that each map holds when tiles run along a band of rows, band after band.

    `down` and `across` are the rows and columns that a map advances by. In a step a map holds what
    exists after it, less what no reader's pixel that was missing before it needs.
    """
    maps, readers = members_of(net, group)
    bands, steps = walk_rows(net, group, down, 1), walk_rows(net, group, across, 1, axis=1)
    most = dict.fromkeys(maps, 0)
    for t in range(1, len(bands.made[maps[0]])):
        for s in range(1, len(steps.made[maps[0]])):
            for m in maps:
                there = _made(net, m, bands, steps, t, s)
                most[m] = max(most[m], int((there & _wanted(net, readers.get(m, ()), m, bands,
                                                            steps, t, s)).sum()))  # fmt: skip
    return most


def _made(net: Network, m: int, bands: Trace, steps: Trace, t: int, s: int) -> np.ndarray:
    """Pixels of a map that exist after step s of band t, [rows, columns]."""
    found = np.zeros((net.map_of(m).rows, net.map_of(m).cols), dtype=bool)
    found[: bands.made[m][t - 1]] = True
    found[: bands.made[m][t], : steps.made[m][s]] = True
    return found


def _wanted(net: Network, readers: Sequence[tuple[int, Use]], m: int, bands: Trace, steps: Trace,
            t: int, s: int) -> np.ndarray:  # fmt: skip
    """Pixels that somebody reads in step s of band t or later."""
    found = np.zeros((net.map_of(m).rows, net.map_of(m).cols), dtype=bool)
    for v, u in readers:
        missing = np.argwhere(~_made(net, v, bands, steps, t, s - 1))
        for tap in np.ndindex(u.kernel):
            rows, cols = (missing * u.stride - np.array(u.padding) + tap).T
            inside = (rows >= 0) & (rows < found.shape[0]) & (cols >= 0) & (cols < found.shape[1])
            found[rows[inside], cols[inside]] = True
    return found


def sliced_words(trace: Trace, index: int, channels: int, part: int, cols: int) -> int:
    """The most words of a map that is made `part` channels at a time, slice after slice.

    While a slice is worked on, finished ones hold what the next step needs, later ones what the
    last step left.
    """
    made, oldest = trace.made[index], trace.oldest[index]
    most = 0
    for t in range(1, len(made)):
        now, old, tail = (made[t] - oldest[t - 1], made[t - 1] - oldest[t - 1],
                          made[t] - oldest[t])  # fmt: skip
        for first in range(0, channels, part):
            size = min(part, channels - first)
            words = tail * first + now * size + old * (channels - first - size)
            most = max(most, words)
    return most * cols


def walk_pixels(net: Network, group: int, target: int) -> dict[int, int]:
    """The most pixels that each map holds when the group's only last layer makes one at a time.

    A pixel is made when somebody needs it, after those that it needs itself; it is dropped when no
    reader's next pixel needs it or an older one.
    """
    maps, readers = members_of(net, group)
    made = dict.fromkeys(maps, 0)
    most = dict.fromkeys(maps, 0)

    def make(m: int, count: int) -> None:
        while made[m] < count:
            if group >> m & 1:
                for use in net.layers[m].uses:
                    make(use.source, _last(net, use, m, made[m]) + 1)
            made[m] += 1
            needed = [_first(net, m, v, u, made[v]) for v, u in readers.get(m, ())
                      if made[v] < net.map_of(v).rows * net.map_of(v).cols]  # fmt: skip
            most[m] = max(most[m], made[m] - min([*needed, made[m] - 1]))

    make(target, net.map_of(target).rows * net.map_of(target).cols)
    return most


def _last(net: Network, use: Use, reader: int, pixel: int) -> int:
    """The newest pixel of a map that one pixel of a reader needs."""
    r, c = divmod(pixel, net.map_of(reader).cols)
    m = net.map_of(use.source)
    row = min(r * use.stride[0] - use.padding[0] + use.kernel[0] - 1, m.rows - 1)
    col = min(c * use.stride[1] - use.padding[1] + use.kernel[1] - 1, m.cols - 1)
    return max(0, row) * m.cols + max(0, col)


def _first(net: Network, source: int, reader: int, use: Use, pixel: int) -> int:
    """The oldest pixel of a map that a reader needs from its pixel number `pixel` on."""
    r, c = divmod(pixel, net.map_of(reader).cols)
    cols = net.map_of(source).cols
    row = max(0, r * use.stride[0] - use.padding[0])
    return row * cols + max(0, c * use.stride[1] - use.padding[1])
