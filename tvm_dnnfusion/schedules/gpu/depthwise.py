"""Depthwise convolutions: a work-item computes some columns of one vector of channels.

    for n, cb, h, w, f, kh, kw: anchor[n, cb, h, w, f] += x[...] * w[...]
->  for n_cb in blockIdx.y, threadIdx.y: for h_w in blockIdx.x, threadIdx.x:
      for kh in unrolled:
        for columns under the window, in registers: for f in vectorized: xs = x or 0
        for kw, w in unrolled: for f in vectorized: tile[...] += xs * w

Channels that are no multiple of a vector are computed one by one.
"""

from __future__ import annotations

from tvm_dnnfusion.schedules.gpu.common import GpuKernel
from tvm_dnnfusion.schedules.gpu.maps import map_block, movement
from tvm_dnnfusion.schedules.gpu.tile import into_registers
from tvm_dnnfusion.schedules.gpu.window import same_places, window_tiles


def depthwise_block(k: GpuKernel) -> None:
    """A depthwise convolution with its epilogue."""
    anchor, outs = k.names("anchor")[0], k.names("out")
    spatial, taps = k.spatial(anchor)
    if len(spatial) - len(taps) < 3:
        map_block(k)
        return
    together = same_places(k, anchor, outs)
    stores = into_registers(k, anchor, outs if together else None)
    window_tiles(k, anchor, stores, k.tile(), operands=2)
    for name in () if together else outs:
        movement(k, name)
