"""Energy of a group in multiply-accumulates: DRAM, buffer, registers, hops, arithmetic."""

from __future__ import annotations

from tvm_dnnfusion.cost.memory.network import Layer
from tvm_dnnfusion.devices.accelerators import Accelerator

REGISTER_ACCESSES = 4
"""Of one multiply-accumulate: two operands, a partial sum read and written."""

HOPS = 2
"""Of one multiply-accumulate on an array: an operand in, a partial sum on."""


def buffer_accesses(v: Layer, sliced: bool, spec: Accelerator) -> int:
    """Words that a layer reads from the buffer and writes to it, for one image.

    A layer that makes slices reads its operand once for each, one that takes slices reads and
    writes its sums once for each.
    """
    read = len(v.uses) * v.rows * v.cols * v.in_channels
    if v.is_conv and sliced:
        return read * -(-v.channels // spec.slice_of(v.channels)) + v.elements
    if v.is_conv:
        passes = -(-v.in_channels // spec.slice_of(v.in_channels))
        return read + v.elements * (2 * passes - 1)
    return read + v.elements


def energy(spec: Accelerator, dram: float, buffer: float, macs: float) -> float:
    """Energy of so many words of DRAM and buffer and so many multiply-accumulates."""
    each = REGISTER_ACCESSES * spec.register_energy + HOPS * spec.hop_energy + spec.mac_energy
    return dram * spec.dram_energy + buffer * spec.buffer_energy + macs * each
