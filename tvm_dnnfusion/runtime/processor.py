"""Where compiled code runs: its processor, and whether that is this machine's.

A library for a GPU holds kernels for the GPU and code for the CPU that starts them, its host, which
is what it is linked for and loaded by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm_dnnfusion import opencl
from tvm_dnnfusion.devices import cpu, llvm
from tvm_dnnfusion.opencl import OpenCLError

CPU = "cpu"
_DEVICES = ("opencl", "cuda", "vulkan", "metal", "rocm")
"""Kinds of code modules that are kernels of a GPU, as TVM names them."""


def triple_of(target: Mapping[str, object]) -> str:
    """The triple that a library for a target is linked for: a GPU's host's; "" for this machine."""
    return str(starter(target).get("mtriple", ""))


def starter(target: Mapping[str, object]) -> Mapping[str, object]:
    """The target of the CPU that loads a library: a GPU's host, else the target itself."""
    host = target.get("host")
    return host if isinstance(host, Mapping) else target  # pyright: ignore


def processor_of(target: Mapping[str, object]) -> str:
    """What runs a target's kernels: "cpu", or TVM's name of a GPU's interface ("opencl")."""
    kind = str(target.get("kind", "llvm"))
    return CPU if kind in ("llvm", "c") else kind


def foreign(target: Mapping[str, object]) -> str:
    """The triple of a target whose code this machine's CPU cannot load; "" where it can."""
    own = llvm.default_triple()
    triple = triple_of(target) or own
    same_system = ("android" in triple) == ("android" in own)
    return "" if same_system and cpu.arch_of(triple) == cpu.cpu_info().arch else triple


def places_of(processor: str) -> list[Any]:
    """The devices of a virtual machine: the processor, and this machine's CPU.

    Raises OpenCLError where the processor is not there; the message says how to mend it.
    """
    import tvm

    if processor == CPU:
        return [tvm.cpu()]
    if processor == "opencl":
        opencl.require()
    found: Any = tvm.device(processor, 0)
    if not found.exist:
        raise OpenCLError(f"this machine has no device for {processor} that TVM can use")
    return [found, tvm.cpu()]


def processor_in(code: Any) -> str:
    """The processor whose kernels a compiled model holds: an executable, or a loaded library."""
    return _kernels(getattr(code, "mod", code)) or CPU


def _kernels(module: Any) -> str:
    if module.kind in _DEVICES:
        return str(module.kind)
    return next((found for x in module.imports if (found := _kernels(x))), "")
