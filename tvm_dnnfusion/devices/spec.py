"""Devices as data: what planners, layouts and schedules need to know of one.

A spec is a frozen record; nothing here talks to a device. New devices register in the same way as
the built-in ones: `register(DeviceSpec(...))`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device.

    `vector_bits` and `vector_registers` describe the SIMD unit, `cores` the cores used, caches are
    per core except `l3_bytes`, `kernel_args` limits the buffers that one kernel may take.
    `peak_gflops` and `bandwidth_gbs` (float32, all cores) feed the analytic cost; 0 where unknown.
    """

    name: str
    kind: str
    vector_bits: int
    vector_registers: int
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    kernel_args: int = 64
    peak_gflops: float = 0.0
    bandwidth_gbs: float = 0.0
    target: tuple[tuple[str, object], ...] = ()

    def lanes(self, dtype: str = "float32") -> int:
        """Elements of `dtype` in one vector register."""
        bits = int("".join(c for c in dtype if c.isdigit()) or 8)
        return max(1, self.vector_bits // bits)
