"""What is read of a machine, shown on machines made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_dnnfusion.devices import cpu

ZEN_GUEST = """processor\t: 0
model name\t: AMD EPYC
cpu MHz\t\t: 2596.142
flags\t\t: fpu sse2 avx2 fma hypervisor avx512f avx512vl

processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu sse2
"""
ARM = """processor\t: 0
Features\t: fp asimd asimdhp

Hardware\t: BCM2711
"""


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def siblings(*lists: str) -> dict[str, str]:
    folder = "sys/devices/system/cpu/cpu{}/topology/core_cpus_list"
    return {folder.format(i): text + "\n" for i, text in enumerate(lists)}


def cache(index: int, level: str, kind: str, size: str) -> dict[str, str]:
    folder = f"sys/devices/system/cpu/cpu0/cache/index{index}"
    return {f"{folder}/level": level, f"{folder}/type": kind, f"{folder}/size": size}


def test_model_and_flags_are_those_of_the_first_processor(tmp_path: Path) -> None:
    info = cpu.cpu_info(machine(tmp_path, {"proc/cpuinfo": ZEN_GUEST}))
    assert info.model == "AMD EPYC"
    assert {"avx512f", "hypervisor"} <= info.flags


def test_an_arm_kernel_names_the_hardware_at_the_end(tmp_path: Path) -> None:
    info = cpu.cpu_info(machine(tmp_path, {"proc/cpuinfo": ARM}))
    assert (info.model, info.flags) == ("BCM2711", {"fp", "asimd", "asimdhp"})


def test_a_machine_without_proc_still_gives_values(tmp_path: Path) -> None:
    assert cpu.cpu_info(tmp_path).flags == frozenset()
    assert cpu.caches(tmp_path) == cpu.Caches(*cpu.UNKNOWN_CACHES)
    seen = cpu.topology(tmp_path, frozenset({0, 1, 2}))
    assert (seen.logical, seen.physical, seen.known) == (3, 3, False)
    assert cpu.max_ghz(tmp_path) == 0.0


def test_caches_leave_out_instructions(tmp_path: Path) -> None:
    files = {
        **cache(0, "1", "Data", "48K"),
        **cache(1, "1", "Instruction", "64K"),
        **cache(2, "2", "Unified", "2048K"),
        **cache(3, "3", "Unified", "1G"),
    }
    assert cpu.caches(machine(tmp_path, files)) == cpu.Caches(48 << 10, 2 << 20, 1 << 30)


def test_a_cpu_without_l3_has_none(tmp_path: Path) -> None:
    files = {**cache(0, "1", "Data", "32K"), **cache(1, "2", "Unified", "512K")}
    assert cpu.caches(machine(tmp_path, files)).l3_bytes == 0


@pytest.mark.parametrize(
    ("threads", "part_kib"),
    [
        (("0", "1", "2", "3"), 256),  # a Raspberry Pi 4: four cores, one L2
        (("0-1", "0-1", "2-3", "2-3"), 512),  # the same processors as two cores
        ((), 256),
    ],
)
def test_cores_that_share_an_l2_have_a_part_each(
    tmp_path: Path, threads: tuple[str, ...], part_kib: int
) -> None:
    shared = {"sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0-3\n"}
    files = {**cache(0, "2", "Unified", "1024K"), **shared, **siblings(*threads)}
    assert cpu.caches(machine(tmp_path, files)).l2_bytes == part_kib << 10


def test_an_l2_of_two_threads_of_one_core_is_its_own(tmp_path: Path) -> None:
    shared = {"sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list": "0,4\n"}
    files = {**cache(0, "2", "Unified", "1024K"), **shared, **siblings("0,4", "1,5")}
    files["sys/devices/system/cpu/cpu4/topology/core_cpus_list"] = "0,4\n"
    assert cpu.caches(machine(tmp_path, files)).l2_bytes == 1 << 20


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, siblings("0,2", "1,3", "0,2", "1,3"))
    seen = cpu.topology(root, frozenset(range(4)))
    assert (seen.logical, seen.physical, seen.known) == (4, 2, True)


def test_only_processors_of_the_affinity_mask_count(tmp_path: Path) -> None:
    root = machine(tmp_path, siblings("0", "1", "2", "3"))
    assert cpu.topology(root, frozenset({1, 3})).logical == 2


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
    ],
)
def test_quota_of_the_control_group(
    tmp_path: Path, files: dict[str, str], quota: int | None
) -> None:
    assert cpu.cpu_quota(machine(tmp_path, files)) == quota


def test_clock_prefers_the_highest_frequency(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": ZEN_GUEST})
    assert cpu.max_ghz(root) == pytest.approx(2.596142)
    machine(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3700000\n"})
    assert cpu.max_ghz(root) == pytest.approx(3.7)


@pytest.mark.parametrize(
    ("arch", "features", "unit"),
    [
        ("x86_64", {"avx512f", "avx512vl", "avx2"}, (512, 32)),
        ("x86_64", {"avx512f", "avx2"}, (256, 16)),
        ("x86_64", {"avx2"}, (256, 16)),
        ("x86_64", set(), (128, 16)),
        ("aarch64", {"sve"}, (128, 32)),
        ("arm", {"neon"}, (128, 16)),
    ],
)
def test_vector_unit(arch: str, features: set[str], unit: tuple[int, int]) -> None:
    assert cpu.vector_unit(arch, frozenset(features)) == unit


@pytest.mark.parametrize(
    ("triple", "arch"),
    [
        ("x86_64-conda-linux-gnu", "x86_64"),
        ("arm64-apple-macos", "aarch64"),
        ("armv7l-linux-gnueabihf", "arm"),
        ("riscv64-linux-gnu", "riscv64"),
    ],
)
def test_architecture_of_a_triple(triple: str, arch: str) -> None:
    assert cpu.arch_of(triple) == arch
