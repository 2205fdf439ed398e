"""GPUs as data: Adreno, Mali, and OpenCL on a CPU.

Sources: what the vendors' OpenCL drivers answer (work-group size, local memory, cache, images),
Qualcomm's OpenCL guide and ARM's Bifrost and Valhall guides (waves, registers, local memory), and
vendors' clocks for the peak. Registers of Adreno are not published; its guide asks for small
kernels, and 32 is where full waves are still seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tvm_dnnfusion.devices.arm import ANDROID, CORES, LINUX, target_of
from tvm_dnnfusion.devices.spec import DeviceSpec, Entries, Gpu, entries

KIB = 1024

_ADRENO6 = Gpu("adreno", 1024, 32 * KIB, True, 64)
_ADRENO7 = Gpu("adreno", 1024, 32 * KIB, True, 64)
_BIFROST = Gpu("mali", 384, 32 * KIB, False, 8)
_VALHALL = Gpu("mali", 1024, 32 * KIB, False, 16)
_ON_CPU = Gpu("opencl", 1024, 32 * KIB, False, 1, fp16=False)


def target_for(name: str, gpu: Gpu) -> Entries:
    """TVM's target of a GPU, without its host.

    The device's name is the first of the target's keys, by which `spec_for_target` finds it again;
    the others are those that TVM would have given it. Its warp is of one work-item: with a wave's,
    TVM folds the last items of a group behind barriers that only those items reach.
    """
    found: dict[str, object] = {
        "kind": "opencl",
        "keys": list(dict.fromkeys((name, gpu.family, "opencl", "gpu"))),
        "max_num_threads": min(gpu.work_group, 1024),
        "max_shared_memory_per_block": gpu.local_bytes,
        "thread_warp_size": 1,
    }
    if gpu.family in ("adreno", "mali"):
        found["device"] = gpu.family
    return entries(found)


FAMILIES = {"adreno": "adreno-640", "mali": "mali-g76", "": "opencl"}
"""What a target's "device" may be, and the plainest GPU of that family."""

RULES_LIMIT = "max_threads_per_block"
"""The entry of a target by which TVM's own rules size groups, whatever max_num_threads says."""

LIMITS = {
    "max_num_threads": ("work_group", 256),
    "max_shared_memory_per_block": ("local_bytes", 16384),
    RULES_LIMIT: ("work_group", 256),
}
"""Entries of a target that bound a GPU's groups, and what TVM completes a target with that has
none: those values are taken for none."""


def limited(gpu: Gpu, target: Mapping[str, object]) -> Gpu:
    """The GPU within the limits of a target. Raises ValueError for a limit below one."""
    for entry, (name, unsaid) in LIMITS.items():
        asked = target.get(entry)
        if asked is None or asked == unsaid:
            continue
        if not isinstance(asked, int) or asked < 1:
            raise ValueError(f"{entry} is {asked!r}; it takes a number of at least 1")
        gpu = replace(gpu, **{name: min(asked, getattr(gpu, name))})
    return gpu


def rules_limit(gpu: Gpu) -> dict[str, object]:
    """What a target needs beside its own entries for TVM's rules to keep within the GPU's groups:
    nothing where TVM's default does."""
    unsaid = LIMITS[RULES_LIMIT][1]
    return {RULES_LIMIT: gpu.work_group} if gpu.work_group < unsaid else {}


def gpu_spec(
    name: str, gpu: Gpu, units: int, l1_kib: int, l2_kib: int, gflops: float, gbs: float,
    host: Entries, title: str = "",
) -> DeviceSpec:  # fmt: skip
    """The device of a GPU with `units` compute units and caches in KiB (L2 is shared)."""
    return DeviceSpec(
        name=name,
        kind="gpu",
        vector_bits=gpu.vector_bytes * 8,
        vector_registers=max(1, gpu.registers * 4 // gpu.vector_bytes),
        cores=units,
        l1_bytes=l1_kib * KIB,
        l2_bytes=l2_kib * KIB,
        l3_bytes=0,
        peak_gflops=gflops,
        bandwidth_gbs=gbs,
        target=target_for(name, gpu),
        gpu=gpu,
        host=host,
        title=title or name,
    )


def host_of(core: str, triple: str = ANDROID) -> Entries:
    """The target of the CPU beside a GPU; one core of it starts the kernels."""
    return target_of(CORES[core], 1, triple)


SPECS: tuple[DeviceSpec, ...] = (
    gpu_spec("adreno-640", _ADRENO6, 2, 1, 128, 898.6, 34.1, host_of("cortex-a76")),
    gpu_spec("adreno-650", _ADRENO6, 3, 1, 128, 1202.2, 44.0, host_of("cortex-a77")),
    gpu_spec("adreno-660", _ADRENO6, 3, 1, 128, 1720.3, 51.2, host_of("cortex-a78")),
    gpu_spec("adreno-740", _ADRENO7, 6, 2, 1024, 3481.6, 67.0, host_of("cortex-a715")),
    gpu_spec("adreno-750", _ADRENO7, 6, 2, 1024, 4730.9, 77.0, host_of("cortex-a720")),
    gpu_spec("mali-g76", _BIFROST, 10, 16, 2048, 345.6, 34.1, host_of("cortex-a76")),
    gpu_spec("mali-g710", _VALHALL, 7, 16, 1024, 761.6, 51.2, host_of("cortex-a78")),
    gpu_spec("mali-g720", _VALHALL, 12, 16, 2048, 3993.6, 76.8, host_of("cortex-a720")),
    gpu_spec("mali-g610", _VALHALL, 4, 16, 512, 512.0, 34.1, host_of("cortex-a76", LINUX)),
    gpu_spec("opencl", _ON_CPU, 1, 32, 512, 0.0, 0.0, (), "any OpenCL device of this machine"),
)
