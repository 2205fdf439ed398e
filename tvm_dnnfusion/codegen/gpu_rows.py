"""How many work-items of a GPU fold a row together, and how their results meet.

More items have fewer elements each, but more results to bring together at the end, and other rows
want the GPU as well. So the time of a reduction is estimated, for every power of two:

    steps  = LOAD_COST * vectors of an item + results that are brought together
    rounds = lanes of the waves that all groups fill / work-items that the GPU runs at a time

and the number with the least product of both is taken. Few long rows get up to a whole group of
256, many rows or short ones eight.
"""

from __future__ import annotations

from tvm_dnnfusion.codegen.gpu_tiles import LOAD_COST, work_items
from tvm_dnnfusion.devices.spec import DeviceSpec

ROW_ITEMS = 8
"""The fewest work-items that share a row: with four floats each, two cache lines of 64 bytes, which
is what drivers of Adreno and Mali answer."""

MOST_ITEMS = 256
"""The most: whole groups of every mobile GPU, and a kilobyte of local memory for each result."""

GROUP = 64
"""Work-items of a group: whole waves on every mobile GPU (Bifrost has warps of 4 to 16, Adreno 6xx
waves of 64), and few enough that 64 registers each are left. Source: the vendors' OpenCL guides."""

AT_ONCE = 4
"""Waves of a compute unit that hide each other's loads: beyond them, items wait for their turn."""

DIRECT = 32
"""Results that one work-item folds by itself: as many as eight items of four lanes leave."""


def row_items(device: DeviceSpec, rows: int, extent: int, lanes: int) -> int:
    """Work-items that fold a row of `extent` elements in vectors of `lanes`.

    1 on CPUs, and where not even two have two vectors each. Rows of whole vectors need not divide;
    those of other lengths are read element by element whatever the number is.
    """
    gpu = device.gpu
    if device.kind != "gpu" or gpu is None:
        return 1
    vectors = -(-extent // lanes)
    most = min(MOST_ITEMS, gpu.work_group, vectors // 2)
    if most < ROW_ITEMS:
        return max((n for n in (2, 4) if n <= most), default=1)
    choices = [n for n in (8, 16, 32, 64, 128, 256) if n <= most]
    return min(choices, key=lambda n: (_time(device, rows, vectors, n, lanes), n))


def beside_anchor(device: DeviceSpec, extent: int, lanes: int) -> int:
    """Work-items of a row that is folded in one kernel with products (attention): at most eight,
    and only where the row divides, so that their results are folded without another barrier."""
    if device.kind != "gpu":
        return 1
    fits = (n for n in (ROW_ITEMS, ROW_ITEMS // 2, 2) if extent % (n * lanes) == 0)
    return next((n for n in fits if extent >= 2 * n * lanes), 1)


def meeting(results: int) -> int:
    """Into how many a row's results are folded by several items before each folds those.

    0 where they are few enough to be folded at once.
    """
    if results <= DIRECT:
        return 0
    return 1 << (results.bit_length() // 2)


def _time(device: DeviceSpec, rows: int, vectors: int, items: int, lanes: int) -> float:
    gpu = device.gpu
    wave = gpu.wave if gpu is not None else 1
    together = max(n for n in range(1, min(rows, max(1, GROUP // items)) + 1) if rows % n == 0)
    filled = rows // together * -(-together * items // wave) * wave
    results = items * lanes
    middle = meeting(results)
    steps = -(-vectors // items) * LOAD_COST + (results // middle + middle if middle else results)
    return steps * max(1.0, filled / (AT_ONCE * work_items(device)))
