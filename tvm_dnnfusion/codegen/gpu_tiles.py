"""Register tiles of GPU kernels: what one work-item computes.

As on a CPU a tile is some places of the output by some vectors of channels, but three things are
weighed. Loads: a mobile GPU multiplies several vectors in the time of one load, so tiles should be
large. Registers: beyond twice those at which all work-items fit, values spill. Work-items: too few
of them leave the GPU waiting for memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from tvm_dnnfusion.devices.spec import DeviceSpec

LOAD_COST = 4.0
"""Multiply-adds of vectors in the time of one vector load: a core of Mali-G76 does 24 lanes of
multiply-add and one 128-bit load per cycle, Adreno 6xx about the same. Source: vendors' guides."""

ITEMS_PER_UNIT = 16
"""Work-items that a compute unit should have at least, or one wave where that is more: loads and
multiply-adds of a large tile do not depend on each other and hide the latency of memory by
themselves, so these are far fewer than a unit can hold. Counted on small kernels (Oclgrind): asking
for 256 made tiles of one vector, which move three times the bytes."""

_MOST_VECTORS = 4
_MOST_PLACES = 16


ROWS_RATE = 0.98
"""Columns of one row share what a window reads; rows do so only where the window is one element."""

RAGGED_RATE = 0.9
"""Columns that are computed and thrown away cost a condition at each load and store as well; a
shorter tile at the end of a product's rows is code of its own."""

ITEM_COST = 8.0
"""Multiply-adds in the time in which a work-item finds its place. Counted by Oclgrind: 23
instructions an item, where an output of a 2x2 pooling takes 25 (17 columns by tiles of 1 to 6)."""

OVERHANG_RATE = 0.9
"""Part of a divisor's cost that a tile beyond the width may cost: its last columns have conditions
at loads and stores, which are not in that cost. Counted: 2 to 4 % of a depthwise 3x3."""

Tile2 = tuple[int, int]
"""Rows and vectors of a work-item."""

Sizes = tuple[int, int, int]
"""Rows, columns, and vectors of channels."""


def conv_tiles(
    device: DeviceSpec, blocks: int, place: tuple[int, ...], whole_rows: bool
) -> Iterator[tuple[float, Sizes, int]]:
    """Every tile of a convolution that fits: its score, itself, and the width that is computed.

    `blocks` are the vectors of output channels, `place` the extents of the output.
    """
    width = place[-1]
    height = place[-2] if len(place) > 1 and not whole_rows else 1
    others = math.prod(place[:-1])
    for rows, columns, vectors in _tiles(device, height, width, blocks):
        wide = -(-width // columns) * columns
        if 2 * wide > 3 * width:
            continue
        items = blocks // vectors * others // rows * (wide // columns)
        score = rate(device, rows * columns, vectors, items) * width / wide
        score *= (1.0 if rows == 1 else ROWS_RATE) * (1.0 if wide == width else RAGGED_RATE)
        yield score, (rows, columns, vectors), wide


def product_tiles(
    device: DeviceSpec, rows: int, blocks: int, batch: int
) -> Iterator[tuple[Tile2, Callable[[int], float]]]:
    """Every tile of a product that fits, as rows and vectors, and the rate of one with fewer rows.

    The tiles may not divide the rows; `blocks` are the vectors of columns.
    """
    for vectors in (v for v in range(1, _MOST_VECTORS + 1) if blocks % v == 0):
        for height in range(1, min(rows, _MOST_PLACES) + 1):
            if _fits(device, height, vectors):
                items = batch * rows / height * (blocks // vectors)
                yield (height, vectors), partial(rate, device, vectors=vectors, items=items)


def window_columns(device: DeviceSpec, width: int, taps: int, stride: int, lanes: int = 1) -> int:
    """Columns of a tile that folds a window of so many taps in a row.

    Accumulators and the columns under the window stay within twice the registers. A divisor of the
    width, unless another length costs much less, whose last tile then computes columns in vain.
    Columns that are themselves the lanes of vectors are stored as such where the width allows it.
    """
    fits = [
        c for c in range(1, min(width, _MOST_PLACES) + 1)
        if c + (c - 1) * stride + taps <= 2 * lanes * device.vector_registers
    ]  # fmt: skip
    good = max((c for c in fits if width % c == 0), key=lambda c: (c % lanes == 0, c), default=1)
    if lanes > 1 and good % lanes == 0:
        return good

    def cost(columns: int) -> float:
        loads = (columns - 1) * stride + taps
        return -(-width // columns) * (LOAD_COST * loads + columns * taps + ITEM_COST)

    best = min(fits, key=lambda c: (cost(c), c), default=1)
    return best if cost(best) < OVERHANG_RATE * cost(good) else good


def rate(device: DeviceSpec, places: int, vectors: int, items: float) -> float:
    """Expected share of the peak: loads beside multiply-adds, and work-items to hide them."""
    loads = (places / 4 + vectors) / (places * vectors)
    return min(1.0, items / work_items(device)) ** 0.5 / (1 + LOAD_COST * loads)


def work_items(device: DeviceSpec) -> int:
    """Work-items that keep the device busy."""
    wave = device.gpu.wave if device.gpu is not None else 1
    return device.cores * max(ITEMS_PER_UNIT, wave)


def _tiles(device: DeviceSpec, height: int, width: int, blocks: int) -> Iterator[Sizes]:
    """(rows, columns, vectors) that stay in registers; rows divide the height, vectors `blocks`."""
    for vectors in (v for v in range(1, _MOST_VECTORS + 1) if blocks % v == 0):
        for rows in (r for r in range(1, min(height, _MOST_PLACES) + 1) if height % r == 0):
            for columns in range(1, min(width, _MOST_PLACES) + 1):
                if _fits(device, rows * columns, vectors):
                    yield rows, columns, vectors


def _fits(device: DeviceSpec, places: int, vectors: int) -> bool:
    """Accumulators, and the shorter operand of four input channels, within twice the registers."""
    held = min(places, 4 * vectors) + 1
    return places * vectors + held <= 2 * device.vector_registers


Shared = tuple[int, int, int]
"""Rows, vectors, and the steps of the fold of a product that the items of one group share."""


def shared_tiles(
    device: DeviceSpec, products: tuple[Shared, Shared], most: int
) -> tuple[Tile2, Tile2, int]:
    """Tiles of two products that the same group computes one after the other, and its work-items.

    Every item has whole tiles of both: barriers stand between them, and conditions would not let
    regions of local memory be told. At most `most` items; fewer hide less latency, as in `rate`.
    """
    wave = device.gpu.wave if device.gpu is not None else 1

    def cost(shared: Shared, tile: Tile2) -> float:
        (rows, blocks, steps), (height, vectors) = shared, tile
        loads = (height / 4 + vectors) / (height * vectors)
        return rows * blocks * steps * (1 + LOAD_COST * loads)

    def count(shared: Shared, tile: Tile2) -> int:
        return shared[0] // tile[0] * (shared[1] // tile[1])

    offers = [[(h, v) for h, _, v in _tiles(device, p[0], 1, p[1])] for p in products]
    best: tuple[float, Tile2, Tile2, int] | None = None
    for first in offers[0]:
        for second in offers[1]:
            both = math.gcd(count(products[0], first), count(products[1], second))
            items = max(n for n in range(1, min(both, most) + 1) if both % n == 0)
            idle = -(-items // wave) * wave / items * (most / items) ** 0.5
            total = cost(products[0], first) + cost(products[1], second)
            if best is None or (total * idle, -items) < (best[0], -best[3]):
                best = (total * idle, first, second, items)
    assert best is not None  # tiles of one row by one vector always fit
    return best[1], best[2], best[3]
