"""Register tiles: packing, padding and schedules must agree on them (GPUs: `gpu_tiles.py`).

A tile is some columns (or rows of a product) by one to four vectors of channels. Its accumulators
fill the vector registers but for a few.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass

from tvm_dnnfusion.codegen import gpu_tiles
from tvm_dnnfusion.devices.spec import DeviceSpec

# Registers of a tile that do not accumulate: weights, the broadcast element, and one to spare.
SPARE_REGISTERS = 4

# TVM 0.27 keeps smaller buffers on the stack (kMaxStackAlloca in its runtime/device_api.h), where
# they become registers; larger ones come from a pool and stay in memory.
STACK_BYTES = 1024

# Shorter tiles leave the multipliers waiting: an FMA takes four cycles and one starts each cycle.
GOOD_TILE = 6


def vectors_of(blocks: int) -> int:
    """Vectors of channels (or columns) in a tile, for so many blocks of one vector each.

    Two vectors use each broadcast element twice; three where the blocks are not even.
    """
    return next((v for v in (2, 3) if blocks % v == 0), 1)


def tile_limit(device: DeviceSpec, vectors: int) -> int:
    """The longest tile of so many vectors that stays in registers."""
    free = device.vector_registers - SPARE_REGISTERS
    stack = (STACK_BYTES - 1) // (device.vector_bits // 8)
    return max(1, min(free, stack) // vectors)


def product_limit(device: DeviceSpec, vectors: int) -> int:
    """As `tile_limit`, for a product both of whose factors are read: by lanes, a vector of folds is
    held for each row of the tile."""
    if not by_lane(device):
        return tile_limit(device, vectors)
    return (device.vector_registers - vectors) // (vectors + 1)


def tile_of(extent: int, limit: int) -> int:
    """The length of a register tile: a divisor of the extent, at most `limit`.

    8 is best where it divides, then the nearest to it: longer tiles win nothing over it (measured
    on AVX-512: 8 x 32 reaches the FMA peak) and leave fewer tiles to share.
    """
    good = [t for t in range(1, min(limit, extent) + 1) if extent % t == 0]
    return max(good, key=lambda t: (min(t, GOOD_TILE), -abs(t - 8)))


def tile_or_rest(extent: int, limit: int) -> int:
    """As `tile_of`; where no divisor is good, a length that leaves a long tile at the end.

    37 columns are three tiles of 10 and one of 7; at most 6 long, 7 are 4 and 3.
    """
    best = tile_of(extent, limit)
    if best >= min(GOOD_TILE, limit, extent):
        return best
    lengths = range(min(GOOD_TILE // 2, limit), limit + 1)
    return max(lengths, key=lambda t: (min(extent % t or t, GOOD_TILE), -abs(t - 8)))


# Accumulators that keep the multipliers busy: two units of four cycles' latency.
IN_FLIGHT = 8

# What a load costs beside a multiply-add: measured with tiles of 1 to 28 columns by 1 to 4 vectors
# on AVX2, where 4 x 2 reached 88 % of the peak, 4 x 3 94 % and 8 x 1 80 %. Weights come from the
# second cache, once for every tile, and count twice.
LOAD_COST = 0.12

# Several rows take an address each; one vector reads the input again for every block of channels
# (ResNet-50 on AVX2: 93 ms with 14 x 1, 91 with 2 x 2 x 2 and 4 x 2).
ROWS_RATE = 0.97
ONE_VECTOR_RATE = 0.85

# With few folds a tile is hardly begun when it is stored, and storing counts: to one block of
# channels in a row rather than to several. Vectors of 512 bits (not measured with others): of
# MobileNetV2's convolutions over 16 to 32 folds tiles of one vector took 4 to 10 % less than those
# of two or three, of 8 columns 3 % less than of 14; over 64 folds and more they were equal within
# 2 %, or slower.
SHORT_FOLDS = 32
SHORT_SEVERAL_RATE = 0.9
SHORT_SAME_RATE = 0.04

# Differences of rates below this are noise: then the shortest tile that is always good wins.
SAME_RATE = 0.02

# Widest tile, in vectors of channels.
MAX_VECTORS = 4

# Tiles that a search may choose from; those further down promise less than half of the best rate.
OFFERED = 24

# Where multiply-adds take a lane (`by_lane`): instructions of one step of a tile (as many folds as
# there are lanes) beside multiply-adds and loads, read off LLVM's code: two or three addresses, the
# count, the branch; of one fold, where no vector holds several, fewer. Rates that differ by less
# than SAME_LANE_RATE are the same.
STEP_OVERHEAD = 5
FOLD_OVERHEAD = 3
TAP_OVERHEAD = 0.5
SAME_LANE_RATE = 0.004


def by_lane(device: DeviceSpec) -> bool:
    """Whether a multiply-add takes its second factor from a lane of a register.

    A64's FMLA (by element) does: one load brings as many factors as there are lanes, and nothing is
    broadcast. It is the only unit with 32 registers of 128 bits. Source: Arm's A64 manual.
    """
    return (device.kind, device.vector_bits, device.vector_registers) == ("cpu", 128, 32)


def is_short(device: DeviceSpec, folds: float) -> bool:
    """Whether storing a tile counts beside so many folds."""
    return device.vector_bits == 512 and folds <= SHORT_FOLDS


class Operand(enum.Enum):
    """How the left operand of a tile lies in memory, which matters where multiply-adds take lanes.

    FOLDS: a vector holds several folds of a place. PLACES: several places of a fold, which are
    neighbours in memory. TAPS: the same under windows, whose taps along a row are unrolled.
    ELEMENTS: none of these, each element is loaded by itself.
    """

    FOLDS = "folds"
    PLACES = "places"
    TAPS = "taps"
    ELEMENTS = "elements"

    @property
    def by_places(self) -> bool:
        """Whether a vector holds several places."""
        return self in (Operand.PLACES, Operand.TAPS)


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile of a convolution: rows by columns of the image by vectors of channels."""

    rows: int
    columns: int
    vectors: int

    @property
    def places(self) -> int:
        """Output places that share a load of the weights."""
        return self.rows * self.columns

    def fits(self, device: DeviceSpec, operand: Operand = Operand.FOLDS) -> bool:
        """Whether accumulators and operands stay in registers.

        The longer operand is read from memory by the multiply-add itself, the shorter one is held;
        where multiply-adds take lanes, a vector of folds for each place and the weights are.
        """
        accumulators, held = self.places * self.vectors, min(self.places, self.vectors) + 1
        if by_lane(device):
            held = self._held(device.lanes(), operand) + self.vectors
        on_stack = accumulators * device.vector_bits // 8 < STACK_BYTES
        return on_stack and accumulators + held <= device.vector_registers

    def rate(
        self, device: DeviceSpec, operand: Operand = Operand.FOLDS, folds: float = math.inf
    ) -> float:
        """Expected share of the multipliers' peak, over so many folds."""
        accumulators = self.places * self.vectors
        if by_lane(device):
            return min(1.0, accumulators / IN_FLIGHT) * self._share(device.lanes(), operand)
        loads = (self.places + 2 * self.vectors) / accumulators
        rate = min(1.0, accumulators / IN_FLIGHT) / (1 + LOAD_COST * loads)
        return rate * (ROWS_RATE if self.rows > 1 else 1.0) * self._of_vectors(device, folds)

    def _of_vectors(self, device: DeviceSpec, folds: float) -> float:
        if is_short(device, folds):
            return 1.0 if self.vectors == 1 else SHORT_SEVERAL_RATE
        return ONE_VECTOR_RATE if self.vectors == 1 else 1.0

    def _share(self, lanes: int, operand: Operand) -> float:
        """Multiply-adds among the instructions of a step, over `lanes` folds or over one; loads of
        two vectors, or of two elements, are one instruction."""
        weights = -(-self.vectors // 2)
        if operand is Operand.FOLDS:
            work = lanes * self.places * self.vectors
            return work / (work + self.places + lanes * weights + STEP_OVERHEAD)
        work, row = self.places * self.vectors, self._held(lanes, operand) // self.rows
        if operand is Operand.TAPS:  # vectors that begin at any place are no pairs
            return work / (work + self.rows * row + weights + TAP_OVERHEAD)
        return work / (work + self.rows * -(-row // 2) + weights + FOLD_OVERHEAD)

    def _held(self, lanes: int, operand: Operand) -> int:
        """Registers that a step takes for the left operand."""
        vectors = operand.by_places and self.columns % lanes == 0
        return self.places // lanes if vectors else self.places


def key_tile(device: DeviceSpec, keys: int, vectors: int) -> tuple[int, int]:
    """Keys in a tile of scores with so many vectors of queries, and the keys that are computed."""
    limit = product_limit(device, vectors)
    best = max(
        range(1, min(keys, limit) + 1),
        key=lambda t: (keys / (-(-keys // t) * t) * min(t, GOOD_TILE), t),
    )
    return best, -(-keys // best) * best


def conv_tile(
    device: DeviceSpec, blocks: int, place: tuple[int, ...], whole_rows: bool = False,
    operand: Operand = Operand.FOLDS, folds: float = math.inf,
) -> tuple[Tile, int]:  # fmt: skip
    """The best tile for an output of extents `place`, and the width that is computed.

    Rows divide the height; the width may be computed larger, at most by a half, where the rate of a
    longer tile pays for the columns that are thrown away. `blocks` are the vectors of channels.

    Parameters
    ----------
    whole_rows : tiles of one row only.
    operand : how the input lies in memory.
    folds : multiply-adds of one output, where its vectors are whole ones (where they were half
        ones, one vector took 25 % longer than three: 24 channels over 24 folds, 150 x 150).
    """
    found = _conv_tiles(device, blocks, place, whole_rows, operand, folds)
    _, tile, wide = max(found, key=lambda found: found[0])
    return tile, wide


def conv_tiles(
    device: DeviceSpec, blocks: int, place: tuple[int, ...], whole_rows: bool = False,
    operand: Operand = Operand.FOLDS, folds: float = math.inf,
) -> tuple[Tile, ...]:  # fmt: skip
    """The `OFFERED` best tiles of a convolution, the best first. Parameters as of `conv_tile`."""
    found = sorted(
        _conv_tiles(device, blocks, place, whole_rows, operand, folds),
        key=lambda f: (-f[0][0], -f[0][1]),
    )
    return tuple(tile for _, tile, _ in found[:OFFERED])


def _conv_tiles(
    device: DeviceSpec, blocks: int, place: tuple[int, ...], whole_rows: bool, operand: Operand,
    folds: float,
) -> Iterator[tuple[tuple[float, float], Tile, int]]:  # fmt: skip
    """Every tile that fits: its score, itself, and the width that is computed."""
    if device.kind == "gpu":
        for score, sizes, wide in gpu_tiles.conv_tiles(device, blocks, place, whole_rows):
            yield (score, 0.0), Tile(*sizes), wide
        return
    same = SHORT_SAME_RATE if is_short(device, folds) else SAME_RATE
    same = SAME_LANE_RATE if by_lane(device) else same
    width = place[-1]
    height = place[-2] if len(place) > 1 and not whole_rows else 1
    for vectors in (v for v in range(1, MAX_VECTORS + 1) if blocks % v == 0):
        for rows in (r for r in range(1, height + 1) if height % r == 0):
            for columns in range(1, width + 1):
                tile = Tile(rows, columns, vectors)
                if not tile.fits(device, operand):
                    if operand.by_places:  # whole vectors of columns may fit again
                        continue
                    break
                wide = -(-width // columns) * columns
                gain = round(tile.rate(device, operand, folds) * width / wide / same)
                if 2 * wide <= 3 * width:
                    yield (gain, -abs(tile.places - 8) - abs(vectors - 2)), tile, wide


def window_tile(
    device: DeviceSpec, place: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...]
) -> Tile:
    """The tile of a GPU's work-item that folds a window channel by channel: columns of one row."""
    return Tile(1, gpu_tiles.window_columns(device, place[-1], kernel[-1], stride[-1]), 1)
