"""What LLVM knows of CPUs: the host's name, a CPU's features, whether a name exists.

The only file of this room that loads TVM, and only when it is asked. LLVM names the host after its
model number; a hypervisor may have masked features that the model has, and code for such a name
dies with an illegal instruction. So the name is used only where the system confirms its vectors.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

VECTOR_FEATURES = ("fma", "f16c", "avx", "avx2", "avx512f", "avx512vl", "avx512bw", "avx512dq")
"""Features whose spelling Linux and LLVM share, and that code generation uses at once."""

X86_LEVELS = (
    ("x86-64-v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma")),
    ("x86-64-v3", ("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe")),
    ("x86-64-v2", ("sse4_1", "sse4_2", "ssse3", "popcnt")),
)
"""Levels of the x86-64 psABI with the flags that tell them apart, in Linux' spelling."""


def host_mcpu(arch: str, flags: frozenset[str]) -> str:
    """Name of the host for the target's `mcpu`; "" where LLVM has none.

    On x86-64 a name that promises vectors which `flags` lack gives way to the psABI's level.
    """
    name = system_cpu()
    if arch != "x86_64" or not flags:
        return name
    promised = cpu_features(name, "x86_64-linux-gnu") if name else frozenset()
    if name and all(f in flags for f in VECTOR_FEATURES if f in promised):
        return name
    return x86_level(flags)


def x86_level(flags: Iterable[str]) -> str:
    """The highest psABI level whose features are all there."""
    have = frozenset(flags)
    return next((name for name, need in X86_LEVELS if have.issuperset(need)), "x86-64")


@lru_cache(maxsize=1)
def system_cpu() -> str:
    """LLVM's name of this machine's CPU; "" without TVM or without LLVM in it."""
    try:
        from tvm.target import codegen

        name = str(codegen.llvm_get_system_cpu())
    except (ImportError, AttributeError, ValueError, RuntimeError):
        return ""
    return "" if name == "generic" else name


@lru_cache(maxsize=64)
def cpu_features(mcpu: str, triple: str) -> frozenset[str]:
    """Features of a CPU by name, in LLVM's spelling; empty where TVM cannot say."""
    try:
        from tvm.target import Target, codegen

        target = Target({"kind": "llvm", "mcpu": mcpu, "mtriple": triple})
        return frozenset(str(f) for f in codegen.llvm_get_cpu_features(target))
    except (ImportError, AttributeError, ValueError, RuntimeError):
        return frozenset()


@lru_cache(maxsize=64)
def is_cpu(mcpu: str, triple: str) -> bool:
    """Whether LLVM knows the CPU for that triple; True where nobody can be asked."""
    try:
        from tvm.target import codegen

        return bool(codegen.llvm_is_valid_cpu(mcpu, triple))
    except (ImportError, AttributeError, ValueError, RuntimeError):
        return True


@lru_cache(maxsize=1)
def default_triple() -> str:
    """Triple that LLVM compiles for when a target gives none; "" where TVM cannot say."""
    try:
        from tvm.target import codegen

        return str(codegen.llvm_get_system_triple())
    except (ImportError, AttributeError, ValueError, RuntimeError):
        return ""
