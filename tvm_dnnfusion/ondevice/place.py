"""The device that is compiled for, given the machine that answers."""

from __future__ import annotations

from tvm_dnnfusion.devices import llvm, registry
from tvm_dnnfusion.devices.arm import ANDROID, LINUX
from tvm_dnnfusion.devices.cpu import arch_of
from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.sessions import DeviceInfo
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.passes.half import HalfPass

SYSTEMS = {"android": ANDROID, "linux": LINUX}


def fitted(spec: DeviceSpec, info: DeviceInfo, system: str = "") -> DeviceSpec:
    """The device as it is to be compiled for, on the machine that a session found.

    An ARM machine gets the triple of its system: `system` ("android", "linux") where it is given,
    else Linux where our own server answers, which needs Python, and Android where TVM's RPC app
    does. GPU kernels that run on another machine (OpenCL on this one's CPU) are started by that.

    Raises DeviceError where a CPU is to be compiled for that the machine is not.
    """
    machine = arch_of(info.machine) if info.machine else "aarch64"
    if machine == "aarch64" and (spec.kind == "gpu" or _arch(spec) == "aarch64"):
        if spec.kind == "gpu" and not spec.host:
            spec = registry.on_host(spec, registry.get("cortex-a53"))
        triple = SYSTEMS[system] if system else (LINUX if info.ours else ANDROID)
        return registry.on_system(spec, triple)
    if spec.kind == "gpu":
        return registry.on_host(spec)
    if _arch(spec) != machine:
        raise DeviceError(
            f"the device answers as {info.machine}, and {spec.name} is {_arch(spec)}: give the "
            "--target that it is"
        )
    return spec


def _arch(spec: DeviceSpec) -> str:
    """Architecture of a CPU."""
    triple = str(registry.target_dict(spec).get("mtriple", ""))
    return arch_of(triple or llvm.default_triple())


def check_half(spec: DeviceSpec, float16: bool) -> None:
    """Refuse float16 on a device that does not compute in it. Raises DeviceError."""
    if float16:
        HalfPass(spec)
