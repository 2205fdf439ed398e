"""Register tiles of matrix products: some rows by some vectors of columns.

Tiles need not divide the rows: the last one is shorter (`schedules/cpu/ragged.py`), and what it
loses by that counts against the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tvm_dnnfusion.codegen import gpu_tiles
from tvm_dnnfusion.codegen.tiles import (
    IN_FLIGHT,
    LOAD_COST,
    MAX_VECTORS,
    OFFERED,
    STEP_OVERHEAD,
    Operand,
    Tile,
    by_lane,
)
from tvm_dnnfusion.devices.spec import DeviceSpec

RAGGED_RATE = 0.98
"""A shorter tile at the end is code of its own, and a condition for each tile: differences of rates
below that are noise (`tiles.SAME_RATE`)."""


def product_tile(
    device: DeviceSpec, rows: int, blocks: int, batch: int = 1, ragged: bool = True
) -> tuple[int, int, int]:
    """The best tile of a matrix product: (rows, vectors of columns, vectors that are computed).

    The vectors may be rounded up to whole tiles, the rest being zeros. Asked again with the rounded
    vectors it gives the same answer.

    Parameters
    ----------
    batch : products that are computed side by side (a GPU must have enough work-items).
    ragged : whether tiles may leave a shorter one at the end of the rows.
    """
    found = _tiles(device, rows, blocks, batch)
    _, tile, wide = max(
        (f for f in found if ragged or rows % f[1].columns == 0), key=lambda f: f[0]
    )
    return tile.columns, tile.vectors, wide


def product_tiles(
    device: DeviceSpec, rows: int, blocks: int, batch: int = 1
) -> tuple[tuple[int, int], ...]:
    """Rows and vectors of the `OFFERED` best tiles of a matrix product, the best first."""
    found = sorted(_tiles(device, rows, blocks, batch), key=lambda f: -f[0])
    return tuple((tile.columns, tile.vectors) for _, tile, _ in found[:OFFERED])


def plane_tile(device: DeviceSpec, rows: int, blocks: int) -> tuple[int, int]:
    """The best tile of a product whose columns lie in memory as they are: (rows, vectors)."""
    return plane_tiles(device, rows, blocks)[0]


def plane_tiles(device: DeviceSpec, rows: int, blocks: int) -> tuple[tuple[int, int], ...]:
    """Rows and vectors of the `OFFERED` best tiles of such a product, the best first."""

    def score(tile: Tile) -> float:
        def rate(height: int) -> float:
            if by_lane(device):
                return _lane_rate(device.lanes(), height, tile.vectors)
            loads = 2 / height + 1 / tile.vectors  # planes come from the second cache
            return min(1.0, height * tile.vectors / IN_FLIGHT) / (1 + LOAD_COST * loads)

        wide = -(-blocks // tile.vectors) * tile.vectors
        return over_rows(rows, tile.columns, rate) * blocks / wide

    whole = device.lanes() if by_lane(device) else 1  # rows whose weights one load brings
    every = fitting(device, rows, blocks, Operand.PLACES)
    found = (t for t in every if t.columns % whole == 0 or t.columns == rows < whole)
    best = sorted(found, key=score, reverse=True)[:OFFERED]
    return tuple((tile.columns, tile.vectors) for tile in best)


def _lane_rate(lanes: int, height: int, vectors: int) -> float:
    """Multiply-adds among the instructions of two folds; vectors of the second plane are too far
    from the first for loads of two."""
    work, weights = 2 * height * vectors, 2 * -(-height // (2 * lanes))
    return work / (work + weights + -(-vectors // 2) + vectors + STEP_OVERHEAD)


def fitting(
    device: DeviceSpec, rows: int, most: int = MAX_VECTORS, operand: Operand = Operand.FOLDS
) -> Iterator[Tile]:
    """Every tile of so many rows and vectors, or fewer, that stays in a CPU's registers."""
    for vectors in range(1, most + 1):
        for height in range(1, rows + 1):
            tile = Tile(1, height, vectors)
            if tile.fits(device, operand):
                yield tile


def _tiles(
    device: DeviceSpec, rows: int, blocks: int, batch: int
) -> Iterator[tuple[float, Tile, int]]:
    """Every tile that fits: its score, itself, and the vectors that are computed."""
    if device.kind == "gpu":
        for (height, vectors), rate in gpu_tiles.product_tiles(device, rows, blocks, batch):
            score = over_rows(rows, height, rate, gpu_tiles.RAGGED_RATE)
            yield score, Tile(1, height, vectors), blocks
        return
    for tile in fitting(device, rows):
        wide = -(-blocks // tile.vectors) * tile.vectors

        def rate(height: int, vectors: int = tile.vectors) -> float:
            return Tile(1, height, vectors).rate(device)

        yield over_rows(rows, tile.columns, rate) * blocks / wide, tile, wide


def over_rows(
    rows: int, height: int, rate: Callable[[int], float], ragged: float = RAGGED_RATE
) -> float:
    """The rate over all rows in tiles of `height`, where a tile of n rows has `rate(n)`; times
    `ragged` where a shorter one is left."""
    full, rest = divmod(rows, height)
    if not rest:
        return rate(height)
    return ragged * rows / (full * height / rate(height) + rest / rate(rest))
