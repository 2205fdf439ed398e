"""Linking a compiled model into a shared library, with whatever linker there is.

TVM calls a C compiler for this, although its object files need only a linker. Running in the same
process needs neither: LLVM's JIT does it. Source: TVM 0.27, `tvm/support/cc.py`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from tvm_dnnfusion.devices import llvm
from tvm_dnnfusion.devices.cpu import arch_of
from tvm_dnnfusion.runtime.errors import EnvironmentLackError

Linker = Callable[..., Any]


def find_linker(triple: str = "") -> Linker:
    """The way to link for a target triple ("" for the host), as `export_library` takes it.

    A compiler of the target first, then a bare ELF linker. Raises EnvironmentLackError where there
    is neither, naming what was looked for.
    """
    from tvm.support import cc

    cross = bool(triple) and arch_of(triple) != arch_of(llvm.default_triple() or triple)
    if not cross and cc.get_cc() is not None:
        return cc.create_shared
    prefix = f"{arch_of(triple)}-linux-gnu-" if cross else ""
    compilers = [f"{prefix}{name}" for name in ("gcc", "clang")] if cross else []
    for name in compilers:
        if shutil.which(name):
            return cc.cross_compiler(name)
    linkers = [f"{prefix}ld", "ld.lld"] if cross else ["ld", "ld.lld"]
    for name in linkers:
        if shutil.which(name):
            return _bare(name)
    looked_for = ["g++", "gcc", "clang", *linkers] if not cross else [*compilers, *linkers]
    raise EnvironmentLackError(
        f"saving a library needs a C compiler or a linker, and none of {', '.join(looked_for)} is "
        "in PATH; install one (on Debian: apt install binutils), or set CC"
    )


def _bare(linker: str) -> Linker:
    """Link objects into an ELF library without a compiler; TVM's runtime is there when it loads."""

    def link(output: str, objects: list[str], *_: object, **__: object) -> None:
        command = [linker, "-shared", "--hash-style=both", "-o", output, *objects]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EnvironmentLackError(f"{' '.join(command)} failed: {done.stderr.strip()}")

    return link
