"""Which convolutions become Winograd's, with which F(m, r) and in which groups of tiles.

A model of one core's cycles, in vector operations. With T tiles in G groups, a = m + r - 1, and C
channels under an output:

    direct     places * taps * r^2 * C * K / lanes
    products   T * a^2 * taps * C * K / lanes
    transforms T * (slices * C * in(m) + depth * K * out(m)) / lanes
    weights    a^2 * taps * C * K * 4 bytes: once from memory, and again from L3 for every group
    fresh      r^2 * taps * C * K * 4 bytes from memory, and their transform: once where each core
               has groups of its own, else for every group, but then they are used while in L2
    data       once more from L3 for every panel of output channels, where a group outgrows L2

Numbers in the table were measured on a Zen 4 core with AVX-512; they are ratios to one vector FMA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from tvm_dnnfusion.codegen.conv_shape import ConvShape
from tvm_dnnfusion.codegen.params import Choices
from tvm_dnnfusion.codegen.tiles import OFFERED, SPARE_REGISTERS, Tile, by_lane, vectors_of
from tvm_dnnfusion.codegen.winograd import Tiling
from tvm_dnnfusion.codegen.winograd_matrices import SIZES, WINDOWS
from tvm_dnnfusion.cost.analytic import DEFAULT_GHZ
from tvm_dnnfusion.devices.spec import DeviceSpec

MAX_TILE = max(SIZES)
"""Largest m that is taken unless the user says otherwise."""

ERROR_BOUND = {4: 1e-6, 6: 4e-6, 8: 1e-5}
"""By a, the largest error of an element against float64 in units of sqrt(terms) * rms(output), as
those of the tolerance are (`runtime/tolerance.py`, 1e-5). Held by the tests; measured figures stand
in docs/winograd.md."""

_TRANSFORM = {4: (50.0, 35.0), 6: (200.0, 150.0), 8: (550.0, 420.0)}
"""By a, cycles of B^T d B, and of A^T M A with its store, per tile and vector of channels. Measured
for 3x3 windows; with 5x5 ones A^T has fewer rows, and less is stored."""

_WEIGHTS = {4: 240.0, 6: 500.0, 8: 880.0}
"""By a, cycles of G g G^T with its stores, per input channel and vector of output channels. Each
store goes to a line of its own, from L2: some 14 cycles, which is nearly all of it."""

CYCLES_PER_BYTE = 0.15
"""What a byte of weights is worth, in cycles: 25 megabytes are worth a millisecond.
Fresh weights, or a smaller m, are taken where they save memory at a better rate."""

_SHARE_OF_L3 = 0.25
"""Part of L3 that all factors may fill where they are made before the groups begin."""

_DIRECT_SHARE = 0.93
"""Part of the FMA peak that the register tiles of direct convolutions reach."""

_TILE_LOSS = 1.5
"""Cycles that a step of a register tile takes beside its multiply-adds, one per cycle: 7 rows of
two vectors reach 0.90 of the peak, 4 rows 0.84."""

_L3_BYTES_PER_CYCLE = 8.0
"""What one core reads from L3, not hidden behind the products: 14 MB more took 0.5 ms longer."""

_MAX_ROWS = 8
"""Rows of a register tile; longer ones of two vectors spill (as in `tiles.tile_of`)."""

_STREAMED = 0.6
"""Part of the time that weights take from memory that products do not hide: 151 MB took 3 ms longer
on a machine that reads 30 GB/s."""

_DEFAULT_GBS = 20.0
"""Bandwidth assumed where a spec gives none; between one core and two of the machine above."""

_SHARE_OF_L2 = 0.6
"""Part of L2 that a group's data may fill: weights and products pass through the rest."""

_LAUNCH_CYCLES = 8000.0
"""A parallel region: 2 us, as in the analytic cost."""

_WORTH = 0.9
"""The direct template, or a smaller m, is kept unless the model promises this part of its time:
a larger m costs memory for its weights, and digits."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A tiling and the cycles per core that the model expects, beside the direct template's."""

    tiling: Tiling
    cycles: float
    direct: float

    @property
    def price(self) -> float:
        """The cycles, and what the memory for the weights is worth."""
        return self.cycles + CYCLES_PER_BYTE * 4 * prod(self.tiling.weight_shape)


def choose(
    sizes: ConvShape, device: DeviceSpec, limit: int = MAX_TILE, choices: Choices | None = None
) -> Tiling | None:
    """The best F(m, r) with m <= limit for a convolution; None where direct is better.

    Parameters of the template (`choices`) win over the model. Raises ParamsError where they ask for
    what is not possible.
    """
    choices = choices or Choices()
    found = best(sizes, device, limit)
    own = found.tiling.m if found is not None else 0
    m = choices.pick("winograd", own, lambda: _sizes_offered(sizes, device, limit))
    if m == 0:
        return None
    if found is None or found.tiling.m != m:
        found = min(_of_size(sizes, device, m), key=lambda c: c.price)
    tiling = found.tiling
    rows, parts = choices.pick(
        "winograd_tiles",
        (tiling.rows, tiling.group // tiling.rows),
        lambda: _tiles_offered(sizes, device, m),
        lambda tiles: tiles in {_tiles(c) for c in _of_size(sizes, device, m)},
    )
    return replace(tiling, rows=rows, group=parts * rows)


def _of_size(sizes: ConvShape, device: DeviceSpec, m: int) -> list[Choice]:
    return [c for c in candidates(sizes, device, m) if c.tiling.m == m]


def _sizes_offered(sizes: ConvShape, device: DeviceSpec, limit: int) -> tuple[int, ...]:
    offered = WINDOWS[sizes.kernel[-1]] if possible(sizes, device) else ()
    return (0, *(m for m in offered if m <= limit))


def _tiles_offered(sizes: ConvShape, device: DeviceSpec, m: int) -> list[tuple[int, int]]:
    """The tilings that the model thinks best, the best first."""
    ordered = sorted(_of_size(sizes, device, m), key=lambda c: c.price)
    return list(dict.fromkeys(_tiles(c) for c in ordered))[:OFFERED]


def _tiles(choice: Choice) -> tuple[int, int]:
    """Rows of a register tile, register tiles of a group."""
    return choice.tiling.rows, choice.tiling.group // choice.tiling.rows


@lru_cache(maxsize=4096)
def best(sizes: ConvShape, device: DeviceSpec, limit: int = MAX_TILE) -> Choice | None:
    """As `choose`, with the cycles that the model expects.

    Kept: the budget and the lowering ask for the same convolutions, and there are thousands of
    tilings.
    """
    best: Choice | None = None
    direct = direct_cycles(sizes, device) + CYCLES_PER_BYTE * direct_bytes(sizes, device)
    for found in candidates(sizes, device, limit):  # m from small to large
        larger = best is None or found.tiling.m > best.tiling.m
        limit_price = direct if best is None else best.price
        if found.price < limit_price * (_WORTH if larger else 1.0):
            best = found
    return best


def candidates(sizes: ConvShape, device: DeviceSpec, limit: int = MAX_TILE) -> Iterator[Choice]:
    """Every tiling that is possible, with its cost."""
    if not possible(sizes, device):
        return
    direct = direct_cycles(sizes, device)
    for m in WINDOWS[sizes.kernel[-1]]:
        if m <= limit:
            for tiling in _tilings(sizes, device, m):
                yield Choice(tiling, _cycles(sizes, tiling, device), direct)
                fresh = replace(tiling, fresh=True)
                if _may_be_fresh(fresh, device):
                    yield Choice(fresh, _cycles(sizes, fresh, device), direct)


def _may_be_fresh(t: Tiling, device: DeviceSpec) -> bool:
    """Factors that are made for all groups pass through L3.

    Cores that multiply by lanes keep packed weights: what the transform costs was not measured
    there.
    """
    if by_lane(device):
        return False
    return t.shared(device.cores) or 4 * prod(t.factor_shape) <= device.l3_bytes * _SHARE_OF_L3


def possible(sizes: ConvShape, device: DeviceSpec) -> bool:
    """3x3 and 5x5 windows (after a depth of any taps) of stride and dilation 1, at least a vector
    of channels, and whole vectors of them in each group where there are several.

    Thinner inputs would multiply mostly zeros: they stay with the direct template. So do GPUs: the
    stages are made for a core's cache, and have no schedule there.
    """
    lanes = device.lanes("float32")
    one = (1,) * len(sizes.kernel)
    both = (sizes.channels, sizes.out_channels)
    return (
        device.kind == "cpu"
        and len(sizes.kernel) in (2, 3)
        and sizes.kernel[-1] == sizes.kernel[-2]
        and sizes.kernel[-1] in WINDOWS
        and sizes.stride == one
        and sizes.dilation == one
        and min(both) >= lanes
        and (sizes.groups == 1 or all(c % (sizes.groups * lanes) == 0 for c in both))
    )


def _tilings(sizes: ConvShape, device: DeviceSpec, m: int) -> Iterator[Tiling]:
    """Register tiles of 4 to 8 rows, and groups from all tiles down to a few register tiles."""
    lanes = device.lanes("float32")
    down, across = (-(-n // m) for n in sizes.out_size[-2:])
    depth, taps = (sizes.out_size[0], sizes.kernel[0]) if len(sizes.kernel) == 3 else (1, 1)
    blocks = -(-sizes.out_channels // lanes)
    vectors = vectors_of(blocks // sizes.groups)
    tiles = sizes.batch * down * across
    most = max(1, (device.vector_registers - SPARE_REGISTERS) // vectors)
    if by_lane(device):
        most = max(r for r in range(1, most + 1) if Tile(1, r, vectors).fits(device))
    for rows in range(1, min(_MAX_ROWS, most) + 1):
        if rows < 4 and tiles > rows:
            continue
        whole = -(-tiles // rows)
        for parts in sorted({-(-whole // n) for n in range(1, whole + 1)}):
            yield Tiling(
                m, sizes.batch, depth, taps, down, across, rows, parts * rows, vectors,
                -(-sizes.channels // sizes.groups // lanes), blocks, lanes,
                window=sizes.kernel[-1], convs=sizes.groups,
            )  # fmt: skip


def direct_cycles(sizes: ConvShape, device: DeviceSpec) -> float:
    """Cycles of one core for the direct template, the cores working side by side."""
    places = sizes.batch * prod(sizes.out_size)
    folds = prod(sizes.kernel) * sizes.channels // sizes.groups
    blocks = -(-sizes.out_channels // device.lanes("float32"))
    return places * folds * blocks / _DIRECT_SHARE / device.cores


def direct_bytes(sizes: ConvShape, device: DeviceSpec) -> int:
    """Memory of the weights as the direct template packs them."""
    lanes = device.lanes("float32")
    blocks = -(-sizes.out_channels // lanes)
    return 4 * prod(sizes.kernel) * (sizes.channels // sizes.groups) * blocks * lanes


def _cycles(sizes: ConvShape, t: Tiling, device: DeviceSpec) -> float:
    """Cycles of one core for the whole kernel, the cores working side by side."""
    channels = t.channel_blocks * t.lanes
    panels = t.out_blocks // t.vectors
    together = t.shared(device.cores)
    units = t.groups * panels if together else t.groups
    idle = -(-units // device.cores) * device.cores / units
    tiles = t.groups * t.group
    step = t.rows * t.vectors
    products = tiles * t.depth * t.points * t.taps * channels * t.out_blocks
    products *= (step + _TILE_LOSS) / step * max(1.0, 4 / step)  # a multiply-add takes four cycles
    into, out = _TRANSFORM[t.alpha]
    inputs, outputs = t.slices * t.convs * t.channel_blocks, t.depth * t.out_blocks
    transforms = t.tiles * (inputs * into + outputs * out)
    ghz = device.peak_gflops / (2 * t.lanes * device.cores) or DEFAULT_GHZ
    memory = (device.bandwidth_gbs or _DEFAULT_GBS) / ghz  # bytes per cycle, all cores
    pairs = t.taps * channels * t.out_blocks  # of a channel and a vector of output channels
    weights = 4.0 * (t.window**2 if t.fresh else t.points) * pairs * t.lanes
    data = 4.0 * t.points * t.group * channels * t.convs * t.slices
    again = weights if t.fresh and together else 4.0 * t.points * pairs * t.lanes
    traffic = again * (t.groups - 1) / device.cores / _L3_BYTES_PER_CYCLE
    if t.fresh and together:
        parts = t.channel_blocks // t.blocks_at_once(device.l2_bytes)
        sums = 4.0 * t.points * t.depth * t.group * t.vectors * t.lanes
        if sums > device.l2_bytes * (1 - _SHARE_OF_L2):  # else they stay beside the factors
            again = 2 * (parts - 1) * sums * t.groups * panels
            traffic += again / device.cores / _L3_BYTES_PER_CYCLE
    if data > device.l2_bytes * _SHARE_OF_L2:
        fits = data * (t.groups if together else device.cores) < device.l3_bytes / 2
        speed = _L3_BYTES_PER_CYCLE * device.cores if fits else memory
        traffic += t.groups * data / t.convs * panels / speed
    made = pairs * _WEIGHTS[t.alpha] * (t.groups if together else 1) if t.fresh else 0.0
    core = (products + transforms + made) * idle / device.cores
    launches = _LAUNCH_CYCLES * (together or t.fresh)
    streamed = 1.0 if t.fresh else _STREAMED  # the transform waits for what it reads
    return core + traffic + weights / memory * streamed + launches
