"""Devices by name: the machine at hand, generic CPUs, and what users register.

Planners, layouts and schedules ask here for a `DeviceSpec`; a new device registers in the same way
as those below. `host()` reads the system once per process.
"""

from __future__ import annotations

import difflib
import platform
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from tvm_dnnfusion.devices import arm, cpu, figures, gpus, llvm, phones
from tvm_dnnfusion.devices.spec import DeviceSpec, entries
from tvm_dnnfusion.devices.threads import default_count

HOST = "host"
FLOPS_PER_CYCLE = {512: 32, 256: 32, 128: 16, 64: 4}
"""Float32 operations per cycle and core, by vector bits: two fused multiply-adds of 256 bits (AVX2,
and Zen 4's AVX-512), two of 128 (NEON). A lower bound: server cores with two 512-bit units do 64.
Source: vendors' optimisation manuals."""


class DeviceError(ValueError):
    """No such device, or a target that no device stands for; the message lists what there is."""

    exit_code = 2


_REGISTERED: dict[str, DeviceSpec] = {}


def register(spec: DeviceSpec) -> DeviceSpec:
    """Add a device, or replace one of the same name, and return it.

    Raises DeviceError for a name that is empty or taken by the host, and for sizes below one.
    """
    if not spec.name or spec.name == HOST:
        raise DeviceError(f"a device cannot be named {spec.name!r}")
    sizes = (spec.vector_bits, spec.vector_registers, spec.cores, spec.l1_bytes, spec.kernel_args)
    if min(sizes) < 1:
        raise DeviceError(f"device {spec.name}: vector unit, cores, L1 and arguments must be >= 1")
    _REGISTERED[spec.name] = spec
    return spec


def names() -> tuple[str, ...]:
    """Names that `get` knows, sorted, the host first."""
    return (HOST, *sorted(_REGISTERED))


def get(name: str) -> DeviceSpec:
    """The device of that name; "host" is the machine at hand.

    Raises DeviceError, with the names that exist and the closest of them.
    """
    if name == HOST:
        return host()
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name == host().name:
        return host()
    close = closest(name)
    hint = f"; did you mean {close!r}?" if close else ""
    raise DeviceError(f"no device named {name!r}{hint} Known: {', '.join(names())}")


def _kinds() -> list[str]:
    """TVM's kinds of the targets of registered devices."""
    return sorted({str(dict(spec.target)["kind"]) for spec in _REGISTERED.values()})


def closest(name: str) -> str | None:
    """The device whose name looks most like this one; None where none does."""
    return next(iter(difflib.get_close_matches(name, names(), n=1)), None)


@lru_cache(maxsize=1)
def host() -> DeviceSpec:
    """The machine at hand, with as many cores as the library uses threads on it.

    Its name says what it is ("znver4-amd-epyc"), so that measurements of two machines are kept
    apart when profile databases are merged. Peak and bandwidth are measured or estimated figures:
    see `devices/figures.py`.
    """
    info, sizes = cpu.cpu_info(), cpu.caches()
    mcpu = llvm.host_mcpu(info.arch, info.flags)
    features = info.flags or llvm.cpu_features(mcpu, llvm.default_triple())
    bits, registers = cpu.vector_unit(info.arch, features)
    cores = default_count()[0]
    target: dict[str, object] = {"kind": "llvm", "num-cores": cores}
    if mcpu:
        target["mcpu"] = mcpu
    name = _slug(f"{mcpu or info.arch} {info.model.replace('unknown', '')}")
    ghz = figures.clock_ghz(cpu.max_ghz(), mcpu, "hypervisor" in info.flags)
    found = figures.load(name, cores) or figures.estimated(cores, ghz, FLOPS_PER_CYCLE[bits])
    return DeviceSpec(
        name=name,
        kind="cpu",
        vector_bits=bits,
        vector_registers=registers,
        cores=cores,
        l1_bytes=sizes.l1_bytes,
        l2_bytes=sizes.l2_bytes,
        l3_bytes=sizes.l3_bytes,
        peak_gflops=found.peak_gflops,
        bandwidth_gbs=found.bandwidth_gbs,
        target=entries(target),
        features=_arm_features(info.arch, features),
    )


def target_dict(spec: DeviceSpec) -> dict[str, object]:
    """The target that TVM takes: `tvm.target.Target(target_dict(spec))`; a GPU's with its host."""
    found = _plain(spec.target)
    return {**found, "host": _plain(spec.host)} if spec.host else found


def on_host(spec: DeviceSpec, host_spec: DeviceSpec | None = None) -> DeviceSpec:
    """A GPU whose kernels another CPU starts: None for this machine, where PoCL runs them."""
    return replace(spec, host=host_spec.target if host_spec is not None else ())


def on_system(spec: DeviceSpec, triple: str) -> DeviceSpec:
    """The device under another operating system: `arm.LINUX` or `arm.ANDROID`.

    The triple is put into the target of a CPU, and into the host's of a GPU.
    """
    if spec.kind == "cpu":
        return replace(spec, target=entries({**_plain(spec.target), "mtriple": triple}))
    return replace(spec, host=entries({**_plain(spec.host), "mtriple": triple}))


def _plain(record: tuple[tuple[str, object], ...]) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record}  # pyright: ignore


def spec_for_target(target: Mapping[str, object]) -> DeviceSpec:
    """The device that a TVM target, as a dictionary, stands for.

    A device whose name is among the target's keys (phones and GPUs have theirs there), else the
    host where the target names the host's CPU, a registered device of that CPU otherwise, else one
    made from what LLVM knows of the CPU, with `cpu.UNKNOWN_CACHES`. A GPU that is not named is
    found by TVM's name of its family ("adreno", "mali"). The result carries this target and its
    `num-cores`.

    Raises DeviceError for a kind of which no device is registered, and for an unknown CPU.
    """
    kind = str(target.get("kind", ""))
    if kind == "opencl":
        return _with_target(_gpu_for(kind, target), target)
    mcpu = str(target.get("mcpu", ""))
    arch = cpu.arch_of(str(target.get("mtriple", "")) or _default_triple(mcpu))
    base = _named(target, "cpu") or _registered_for(kind, mcpu, arch)
    if base is None and kind != "llvm":
        raise DeviceError(
            f"no device for targets of kind {kind!r}: those of `dnnfusion devices list` are of "
            f"kind {' and '.join(_kinds())}; register one"
        )
    if base is None:
        base = _from_llvm(target, mcpu, arch)
    return _with_target(base, target)


def _named(target: Mapping[str, object], kind: str) -> DeviceSpec | None:
    """The registered device, "cpu" or "gpu", that a target has among its keys.

    TVM gives every target its kind as a key ("opencl"), which names no device.
    """
    keys = (k for k in _words(target.get("keys")) if k != target.get("kind"))
    found = (_REGISTERED[key] for key in keys if key in _REGISTERED)
    return next((spec for spec in found if spec.kind == kind), None)


def _registered_for(kind: str, mcpu: str, arch: str) -> DeviceSpec | None:
    """The host or a registered device whose target has this kind, CPU and architecture."""
    candidates = (host(), *(_REGISTERED[n] for n in sorted(_REGISTERED)))
    for spec in candidates:
        own = target_dict(spec)
        same_arch = cpu.arch_of(str(own.get("mtriple", "")) or _default_triple(mcpu)) == arch
        if own.get("kind") == kind and own.get("mcpu", "") == mcpu and same_arch:
            return spec
    return None


def _gpu_for(kind: str, target: Mapping[str, object]) -> DeviceSpec:
    """The registered GPU that a target names among its keys, or the plainest of its family.

    Raises DeviceError for texture targets: TVM 0.27 writes wrong code for them.
    """
    keys = _words(target.get("keys"))
    tag, family = str(target.get("tag", "")), str(target.get("device", ""))
    if "texture" in tag or any("texture" in key for key in keys):
        raise DeviceError(
            f"target {tag or 'with the key texture'}: TVM 0.27 writes only the last channel of a "
            "texture to all four, so results would be wrong. Give the device instead: "
            "adreno-640, adreno-650 or another of `dnnfusion devices list`, which uses buffers"
        )
    named = _named(target, "gpu")
    if named is None and family not in gpus.FAMILIES:
        known = ", ".join(name for name in gpus.FAMILIES if name)
        raise DeviceError(
            f"the target's device is {family!r}; OpenCL's families are {known}, none for others. "
            "`dnnfusion devices list` names whole GPUs"
        )
    return named or _REGISTERED[gpus.FAMILIES[family]]


def _from_llvm(target: Mapping[str, object], mcpu: str, arch: str) -> DeviceSpec:
    """A device made from the features of a CPU that nobody registered."""
    triple = str(target.get("mtriple", "")) or _default_triple(mcpu)
    if mcpu and not llvm.is_cpu(mcpu, triple):
        raise DeviceError(f"target names the CPU {mcpu!r}, which LLVM does not know for {triple}")
    features = llvm.cpu_features(mcpu, triple) if mcpu else frozenset()
    bits, registers = cpu.vector_unit(arch, features | _mattr(target))
    l1, l2, l3 = cpu.UNKNOWN_CACHES
    name = _slug(mcpu or f"{arch} generic")
    return DeviceSpec(name, "cpu", bits, registers, 1, l1, l2, l3)


def _with_target(spec: DeviceSpec, target: Mapping[str, object]) -> DeviceSpec:
    """The device under this target: its core count wins, its entries are kept."""
    asked = target.get("num-cores")
    cores = asked if isinstance(asked, int) and asked > 0 else spec.cores
    peak = spec.peak_gflops * cores / spec.cores
    own = {str(k): v for k, v in target.items() if k != "host"}
    host_target = target.get("host")
    starter = entries(dict(host_target)) if isinstance(host_target, Mapping) else ()  # pyright: ignore
    try:
        gpu = None if spec.gpu is None else gpus.limited(spec.gpu, target)
    except ValueError as error:
        raise DeviceError(str(error)) from None
    own |= {} if gpu is None else gpus.rules_limit(gpu)
    return replace(
        spec,
        gpu=gpu,
        cores=cores,
        peak_gflops=round(peak, 1),
        target=entries(own),
        host=starter if spec.kind == "gpu" else spec.host,
        features=_features(spec.features, target),
    )


def _features(features: tuple[str, ...], target: Mapping[str, object]) -> tuple[str, ...]:
    """A device's features with those that the target adds and without those it takes away."""
    asked = _words(target.get("mattr"))
    added = [f[1:] for f in asked if f.startswith("+") and features]
    gone = {f[1:] for f in asked if f.startswith("-")}
    return tuple(f for f in dict.fromkeys((*features, *added)) if f not in gone)


def _arm_features(arch: str, flags: frozenset[str]) -> tuple[str, ...]:
    """Features of an ARM host in LLVM's spelling, from Linux' names or LLVM's own."""
    if arch != "aarch64":
        return ()
    linux = {"neon": "asimd", "fullfp16": "asimdhp", "dotprod": "asimddp", "i8mm": "i8mm",
             "bf16": "bf16"}  # fmt: skip
    return tuple(name for name, flag in linux.items() if {name, flag} & flags)


def _mattr(target: Mapping[str, object]) -> frozenset[str]:
    """Features that a target adds: ["+avx2"] -> {"avx2"}."""
    return frozenset(f[1:] for f in _words(target.get("mattr")) if f.startswith("+"))


def _words(value: object) -> tuple[str, ...]:
    """A target's list of words; empty where it has none."""
    given = value if isinstance(value, (list, tuple)) else ()
    return tuple(str(word) for word in given)  # pyright: ignore


def _default_triple(mcpu: str) -> str:
    """Triple that a target without one means."""
    if mcpu.startswith("x86-64"):
        return "x86_64-linux-gnu"
    return llvm.default_triple() or platform.machine()


def _slug(text: str) -> str:
    plain = text.lower().replace("(r)", "").replace("(tm)", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _generic(name: str, bits: int, registers: int, cores: int, *kib: int) -> None:
    """Register an x86-64 level by LLVM's name; `kib` are L1, L2 and L3 in KiB."""
    l1, l2, l3 = (size << 10 for size in kib)
    target = entries({"kind": "llvm", "mcpu": name, "num-cores": cores})
    register(DeviceSpec(name, "cpu", bits, registers, cores, l1, l2, l3, target=target))


# Caches: the smallest common configuration of each, from the vendors' technical reference manuals.
_generic("x86-64-v2", 128, 16, 4, 32, 256, 8192)
_generic("x86-64-v3", 256, 16, 4, 32, 256, 8192)
_generic("x86-64-v4", 512, 32, 4, 32, 1024, 16384)
for _spec in (*arm.SPECS, *gpus.SPECS, *phones.SPECS):
    register(_spec)
