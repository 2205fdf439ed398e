"""What the operating system says of the CPU: features, caches, topology.

Sources on Linux: `/proc/cpuinfo`, `/sys/devices/system/cpu` and the cgroup's CPU quota. Elsewhere
the standard library's count is used and the rest is left at `UNKNOWN_CACHES`. Every function takes
the root of the file system, so that tests can show it another machine. Cost: a few milliseconds.
"""

from __future__ import annotations

import math
import os
import platform
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
UNKNOWN_CACHES = (32 << 10, 512 << 10, 0)
"""L1, L2, L3 bytes assumed where the system tells nothing: what every CPU since 2015 has at least,
and no shared cache. Source: vendors' manuals of Haswell, Zen, Cortex-A53 (the smallest of them)."""


@dataclass(frozen=True, slots=True)
class Caches:
    """Data cache sizes in bytes; L1 and L2 of one core, L3 as shared; 0 where there is none."""

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int


@dataclass(frozen=True, slots=True)
class Topology:
    """Processors that this process may use.

    `logical` counts hardware threads, `physical` distinct cores among them, `quota` the whole CPUs
    that the control group grants (None: no limit). `guest` is whether a hypervisor is announced.
    `known` is false where the system does not say which hardware threads share a core.
    """

    logical: int
    physical: int
    known: bool
    guest: bool
    quota: int | None


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """Model name, architecture ("x86_64", "aarch64", ...) and feature flags in Linux' spelling."""

    model: str
    arch: str
    flags: frozenset[str]


def cpu_info(root: Path = ROOT) -> CpuInfo:
    """Model and features of the first processor; no flags where there is no cpuinfo."""
    fields = _first_processor(_text(root / "proc/cpuinfo"))
    model = fields.get("model name") or fields.get("Hardware") or platform.processor()
    flags = fields.get("flags") or fields.get("Features") or ""
    return CpuInfo(model or "unknown", _arch(), frozenset(flags.split()))


def caches(root: Path = ROOT) -> Caches:
    """Data and unified caches that the first processor sees; its part of an L2 that cores share."""
    found: dict[int, int] = {}
    folder = root / "sys/devices/system/cpu/cpu0/cache"
    for index in sorted(folder.glob("index[0-9]*")):
        level, kind = _text(index / "level").strip(), _text(index / "type").strip()
        size = _bytes(_text(index / "size").strip())
        if level.isdecimal() and kind != "Instruction" and size:
            sharing = _cores(root, _text(index / "shared_cpu_list")) if level == "2" else 1
            found[int(level)] = size // sharing
    if not found:
        return Caches(*UNKNOWN_CACHES)
    return Caches(found.get(1, UNKNOWN_CACHES[0]), found.get(2, 0), found.get(3, 0))


def topology(root: Path = ROOT, cpus: frozenset[int] | None = None) -> Topology:
    """Processors in the affinity mask of this process (or `cpus`), and how they share cores."""
    usable = sorted(_affinity() if cpus is None else cpus)
    siblings = [_siblings(root, cpu) for cpu in usable]
    known = all(siblings)
    guest = "hypervisor" in cpu_info(root).flags
    physical = len(set(siblings)) if known else len(usable)
    return Topology(len(usable), physical, known, guest, cpu_quota(root))


def processors() -> int:
    """Processors that this process may use, whatever its threads are pinned to by now.

    TVM pins the thread that makes its pool, on a guest with two vCPUs to a single one, so the mask
    of the calling thread is joined with those of the other threads and the one at import.
    """
    usable = set(_AT_IMPORT) | _affinity()
    for task in Path("/proc/self/task").glob("[0-9]*"):
        with suppress(OSError):  # a thread that has ended since
            usable |= os.sched_getaffinity(int(task.name))
    return len(usable)


def cpu_quota(root: Path = ROOT) -> int | None:
    """Whole CPUs that the control group grants, rounded up; None where it sets no limit."""
    v2 = _text(root / "sys/fs/cgroup/cpu.max").split()
    if len(v2) == 2 and v2[0].isdecimal() and v2[1].isdecimal():
        return max(1, math.ceil(int(v2[0]) / int(v2[1])))
    quota = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
    period = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period):
        return max(1, math.ceil(int(quota) / int(period)))
    return None


def max_ghz(root: Path = ROOT) -> float:
    """Highest clock in GHz that the system tells of the first processor; 0.0 where it is silent."""
    khz = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    if khz.isdecimal():
        return int(khz) / 1e6
    mhz = _first_processor(_text(root / "proc/cpuinfo")).get("cpu MHz", "")
    return float(mhz) / 1e3 if re.fullmatch(r"\d+(\.\d+)?", mhz) else 0.0


def vector_unit(arch: str, features: frozenset[str]) -> tuple[int, int]:
    """(vector bits, vector registers) of an architecture with these features.

    Features may be in Linux' or in LLVM's spelling. Source: the architectures' manuals; AVX-512
    doubles the number of registers too. SVE is used at NEON's 128 bits: TVM 0.27 emits no scalable
    vectors for functions with 64-bit loops.
    """
    if arch == "x86_64":
        if {"avx512f", "avx512vl"} <= features:
            return 512, 32
        return (256, 16) if "avx2" in features else (128, 16)
    if arch == "aarch64":
        return 128, 32
    if arch == "arm":
        return (128, 16) if "neon" in features else (64, 16)
    return 128, 32


def arch_of(triple: str) -> str:
    """Architecture of a target triple in this file's names: "arm64-apple-macos" -> "aarch64"."""
    head = triple.split("-")[0].lower()
    if head in ("x86_64", "amd64"):
        return "x86_64"
    if head in ("aarch64", "arm64"):
        return "aarch64"
    return "arm" if head.startswith(("arm", "thumb")) else head


def _arch() -> str:
    return arch_of(platform.machine() or "unknown")


def _first_processor(text: str) -> dict[str, str]:
    """Fields of the first processor, and of the lines that ARM kernels put after the last."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _siblings(root: Path, cpu: int) -> str:
    """The kernel's text of the hardware threads that share a core with `cpu`; "" if unknown."""
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    return (_text(folder / "core_cpus_list") or _text(folder / "thread_siblings_list")).strip()


def _cores(root: Path, processors: str) -> int:
    """Cores among processors in the kernel's form "0-3,8"; 1 where it is silent."""
    bounds = [part.partition("-") for part in processors.strip().split(",") if part]
    numbers = [n for a, _, b in bounds for n in range(int(a), int(b or a) + 1)]
    return max(1, len({_siblings(root, n) or str(n) for n in numbers}))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else 0


def _text(path: Path) -> str:
    """Content of a file of the system; "" where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


_AT_IMPORT = _affinity()
