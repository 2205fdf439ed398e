"""Register tiles of the CPU templates: packing, padding and schedules must agree on them.

A tile is some columns (or rows of a product) by one to three vectors of channels. Its accumulators
fill the vector registers but for a few.
"""

from __future__ import annotations

from tvm_dnnfusion.devices.spec import DeviceSpec

# Registers of a tile that do not accumulate: weights, the broadcast element, and one to spare.
SPARE_REGISTERS = 4

# Shorter tiles leave the multipliers waiting: an FMA takes four cycles and one starts each cycle.
GOOD_TILE = 6


def vectors_of(blocks: int) -> int:
    """Vectors of channels (or columns) in a tile, for so many blocks of one vector each.

    Two vectors use each broadcast element twice; three where the blocks are not even.
    """
    return next((v for v in (2, 3) if blocks % v == 0), 1)


def tile_limit(device: DeviceSpec, vectors: int) -> int:
    """The longest tile of so many vectors that stays in registers."""
    return max(1, (device.vector_registers - SPARE_REGISTERS) // vectors)


def tile_of(extent: int, limit: int) -> int:
    """The length of a register tile: a divisor of the extent, at most `limit`.

    8 is best where it divides (measured: 8 x 32 reaches the FMA peak, 12 x 32 and 14 x 32 stay 15
    to 20 % below); then the nearest to it.
    """
    good = [t for t in range(1, min(limit, extent) + 1) if extent % t == 0]
    return max(good, key=lambda t: (min(t, GOOD_TILE), -abs(t - 8)))


def round_up(width: int, limit: int) -> int:
    """The width that is computed for a width: itself, or up to an eighth more.

    The first that a good tile divides: 111 columns are computed as 112, 14 tiles of 8.
    """
    good = min(GOOD_TILE, limit)
    if width < good:
        return width
    candidates = range(width, width + width // 8 + 1)
    return next((w for w in candidates if tile_of(w, limit) >= good), width)
