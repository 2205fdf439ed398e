"""Devices as data: what planners, layouts and schedules need to know of one.

A spec is a frozen record; nothing here talks to a device. New devices register in the same way as
the built-in ones: `register(DeviceSpec(...))`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Entries = tuple[tuple[str, object], ...]
"""A target's entries, sorted by name; lists in it are tuples, so that specs can be hashed."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What kernels of a GPU need to know beyond a `DeviceSpec`.

    `work_group` is the most work items in one group, `local_bytes` the local memory that one group
    may take; `local_on_chip` is whether that is memory of its own, or (Mali) a part of the global
    memory behind the same caches, where copying into it gains nothing. `wave` is how many work
    items run in lockstep. `vector_bytes` is the widest load or store of one work item that pays.
    `registers` counts the 32-bit registers of a work item at which every thread still fits; beyond
    twice as many, values spill. `fp16` is whether arithmetic in half precision is offered
    (cl_khr_fp16) and `fp16_rate` how many times faster it is than float32; `images` whether images
    can be read, `image_side` their largest width and height in pixels.
    """

    family: str
    work_group: int
    local_bytes: int
    local_on_chip: bool
    wave: int
    vector_bytes: int = 16
    registers: int = 32
    fp16: bool = True
    fp16_rate: float = 2.0
    images: bool = True
    image_side: int = 16384


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device.

    `kind` is "cpu" or "gpu". `vector_bits` and `vector_registers` describe the SIMD unit (of a GPU:
    the widest access of a work item, and its registers of that width), `cores` the cores or compute
    units used, caches are per core except `l3_bytes` (of a GPU: `l2_bytes` is shared too); where
    cores share an L2, `l2_bytes` is the part of one, so that a core's own data is compared with it
    and all L2 together is that times `cores`.
    `sums` is the dtype in which sums of float16 are kept, "" for float16 itself (`with_sums`).
    `kernel_args` limits the buffers that one kernel may take. `peak_gflops` and `bandwidth_gbs`
    (float32, all cores) feed the analytic cost; 0 where unknown. `features` are instruction sets in
    LLVM's spelling ("neon", "fullfp16", "dotprod"), listed for ARM only. `target` is TVM's target
    for it and `host`, of a GPU, that of the CPU which starts its kernels; empty for this machine.
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
    target: Entries = ()
    features: tuple[str, ...] = ()
    gpu: Gpu | None = None
    host: Entries = ()
    title: str = ""
    sums: str = ""

    def lanes(self, dtype: str = "float32") -> int:
        """Elements of `dtype` in one vector register."""
        bits = int("".join(c for c in dtype if c.isdigit()) or 8)
        return max(1, self.vector_bits // bits)

    @property
    def fp16(self) -> bool:
        """Whether the device computes in half precision, instead of only storing it."""
        return self.gpu.fp16 if self.gpu is not None else "fullfp16" in self.features


def with_sums(device: DeviceSpec, dtype: str) -> DeviceSpec:
    """The device with sums of float16 kept in `dtype`: "float16" or "float32".

    Wider accumulators take twice the registers, so that tiles have half as many of them. Raises
    ValueError for another dtype.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"float16_sums is {dtype!r}; it takes 'float16' or 'float32'")
    if dtype == "float16":
        return device
    return replace(device, sums=dtype, vector_registers=max(1, device.vector_registers // 2))


def entries(target: dict[str, object]) -> Entries:
    """A target's dictionary as a hashable record; `target_dict` of the registry undoes it."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)  # pyright: ignore
        for key, value in sorted(target.items())
    )
