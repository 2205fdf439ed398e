"""Depthwise convolutions: the taps unrolled, a row of columns in registers."""

from __future__ import annotations

from tvm_dnnfusion.schedules.cpu.common import Kernel
from tvm_dnnfusion.schedules.cpu.maps import movement
from tvm_dnnfusion.schedules.cpu.window import window_tiles


def depthwise_block(k: Kernel) -> None:
    """Each channel by itself: the taps unrolled, a row of columns in registers."""
    for name in k.names("pad", "pack"):
        movement(k, name)
    window_tiles(k, k.names("anchor")[0], k.names("out"))
