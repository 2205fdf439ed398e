"""Poolings as a block's own heavy op."""

from __future__ import annotations

from tvm_dnnfusion.schedules.cpu.common import Kernel
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.window import window_tiles


def pool_block(k: Kernel) -> None:
    """A pooling with its epilogue."""
    for name in k.names("pad", "hold"):
        movement(k, name)
    window_tiles(k, k.names("anchor")[0], k.names("out"))
