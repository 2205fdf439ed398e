"""ARM cores as data, and the CPU clusters made of them.

Sources: the cores' technical reference manuals (caches: the common configuration of each) and
software optimisation guides (multiply-adds per cycle), LLVM's tables for the features.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.devices.spec import DeviceSpec, Entries, entries

LINUX = "aarch64-linux-gnu"
ANDROID = "aarch64-linux-android"
KIB = 1024

_V8 = ("neon",)
_V82 = ("neon", "fullfp16", "dotprod")
_V9 = (*_V82, "i8mm", "bf16")
_OFF_IN_V9 = ("sve", "sve2")
"""LLVM would use SVE on these cores, but the kernels of many phones with them (Snapdragon 8 Gen 1
to 3) do not let programs use it: the first such instruction kills the process. Their SVE is 128
bits wide, as NEON is, so nothing is lost."""


@dataclass(frozen=True, slots=True)
class Core:
    """One kind of core: its caches in bytes, and float32 operations per cycle with its NEON units.

    `l3_bytes` is the cache its cluster shares. `l2_cores` cores share one L2 of `l2_bytes`: L2 of
    Cortex-A53 and A72 lies in the cluster, and two Cortex-A520 may have one.
    """

    name: str
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    flops_per_cycle: int
    features: tuple[str, ...]
    l2_cores: int = 1

    @property
    def mattr(self) -> tuple[str, ...]:
        """Features as TVM's target takes them: ("+neon", "+fullfp16", ...)."""
        off = tuple(f"-{f}" for f in _OFF_IN_V9) if self.features == _V9 else ()
        return (*(f"+{f}" for f in self.features), *off)


def _core(
    name: str, l1: int, l2: int, l3: int, flops: int, features: tuple[str, ...], l2_cores: int = 1
) -> Core:
    return Core(name, l1 * KIB, l2 * KIB, l3 * KIB, flops, features, l2_cores)


_ALL = (
    _core("cortex-a53", 32, 512, 0, 8, _V8, l2_cores=4),
    _core("cortex-a55", 32, 128, 2048, 8, _V82),
    _core("cortex-a72", 32, 1024, 0, 8, _V8, l2_cores=4),
    _core("cortex-a75", 64, 256, 2048, 16, _V82),
    _core("cortex-a76", 64, 256, 2048, 16, _V82),
    _core("cortex-a77", 64, 256, 4096, 16, _V82),
    _core("cortex-a78", 64, 512, 4096, 16, _V82),
    _core("cortex-x1", 64, 1024, 4096, 32, _V82),
    _core("cortex-x2", 64, 1024, 6144, 32, _V9),
    _core("cortex-x3", 64, 1024, 8192, 32, _V9),
    _core("cortex-x4", 64, 2048, 12288, 32, _V9),
    _core("cortex-a510", 32, 256, 6144, 8, _V9),
    _core("cortex-a520", 32, 256, 12288, 8, _V9),
    _core("cortex-a710", 64, 512, 6144, 16, _V9),
    _core("cortex-a715", 64, 512, 8192, 16, _V9),
    _core("cortex-a720", 64, 512, 12288, 16, _V9),
    _core("neoverse-n1", 64, 1024, 32768, 16, _V82),
)

CORES: dict[str, Core] = {core.name: core for core in _ALL}


def target_of(core: Core, cores: int, triple: str) -> Entries:
    """TVM's target for so many cores of a kind."""
    return entries(
        {"kind": "llvm", "mcpu": core.name, "mattr": list(core.mattr), "mtriple": triple,
         "num-cores": cores}
    )  # fmt: skip


def cpu_spec(
    name: str, core: Core, cores: int, triple: str = LINUX, ghz: float = 0.0,
    bandwidth_gbs: float = 0.0, title: str = "",
) -> DeviceSpec:  # fmt: skip
    """The device made of `cores` cores of one kind at `ghz` (0: unknown, so is its peak).

    Of an L2 that several cores share each has its part: all are at work at once.
    """
    sharing = min(cores, core.l2_cores)
    together = f", L2 of {core.l2_bytes // KIB}K for {sharing}" if sharing > 1 else ""
    return DeviceSpec(
        name=name,
        kind="cpu",
        vector_bits=128,
        vector_registers=32,
        cores=cores,
        l1_bytes=core.l1_bytes,
        l2_bytes=core.l2_bytes // sharing,
        l3_bytes=core.l3_bytes,
        peak_gflops=round(cores * ghz * core.flops_per_cycle, 1),
        bandwidth_gbs=bandwidth_gbs,
        target=target_of(core, cores, triple),
        features=core.features,
        title=(title or f"{cores} x {core.name}") + together,
    )


SPECS: tuple[DeviceSpec, ...] = tuple(cpu_spec(core.name, core, 4) for core in _ALL)
"""Four cores of each kind, on Linux."""
