"""Register tiles of matrix products: some rows by some vectors of columns.

Tiles need not divide the rows: the last one is shorter (`schedules/cpu/ragged.py`), and what it
loses by that counts against the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tvm_dnnfusion.codegen import gpu_tiles
from tvm_dnnfusion.codegen.tiles import MAX_VECTORS, OFFERED, Tile
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


def fitting(device: DeviceSpec, rows: int) -> Iterator[Tile]:
    """Every tile of at most so many rows that stays in a CPU's registers."""
    for vectors in range(1, MAX_VECTORS + 1):
        for height in range(1, rows + 1):
            tile = Tile(1, height, vectors)
            if not tile.fits(device):
                break
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
