"""Linking a compiled model into a shared library, with whatever linker there is.

TVM calls a C compiler for this, although its object files need only a linker: for another
architecture that is binutils' `ld` of that architecture, from Debian's package, from the virtual
phone's folder, or LLVM's, which links all. Android needs no NDK. Running in the same process needs
no linker at all: LLVM's JIT does it. Source: TVM 0.27, `tvm/support/cc.py`; Android's guide to
changes for developers (needed libraries are named in each library; pages of 16 KiB).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tvm_dnnfusion.devices import llvm
from tvm_dnnfusion.devices.cpu import arch_of
from tvm_dnnfusion.devices.virtual import emulator
from tvm_dnnfusion.devices.virtual.install import installed
from tvm_dnnfusion.runtime.errors import EnvironmentLackError

Linker = Callable[..., Any]

_PREFIXES = {"aarch64": "aarch64-linux-gnu-", "arm": "arm-linux-gnueabihf-"}
"""What binutils' tools for an architecture are called in Debian and elsewhere."""

_PAGES = {"aarch64": 65536}
"""Largest pages of an architecture's kernels; a library must be aligned to them."""
_ANDROID_PAGES = 16384
_ANDROID_NEEDED = ("libm.so", "libc.so")
"""Libraries that kernels take functions from. Android looks only in those that a library names."""


def find_linker(triple: str = "") -> Linker:
    """The way to link for a target triple ("" for the host), as `export_library` takes it.

    For the host a C compiler, then a bare ELF linker. For another architecture a linker of it, and
    a compiler last. Raises EnvironmentLackError where there is none, naming what was looked for.
    """
    from tvm.support import cc

    arch = arch_of(triple or llvm.default_triple())
    cross = bool(triple) and arch != arch_of(llvm.default_triple() or triple)
    if not cross and "android" not in triple:
        return cc.create_shared if cc.get_cc() is not None else _bare(_native(), "", [])
    return _bare(_cross(arch), triple, _pages(triple, arch), "android" in triple)


def _native() -> list[str]:
    names = ("ld", "ld.lld")
    found = next((name for name in names if shutil.which(name)), None)
    if found is not None:
        return [found]
    raise EnvironmentLackError(
        f"saving a library needs a C compiler or a linker, and none of g++, gcc, clang, "
        f"{', '.join(names)} is in PATH; install one (on Debian: apt install binutils), or set CC"
    )


def _cross(arch: str) -> list[str]:
    """The command that links for another architecture."""
    prefix = _PREFIXES.get(arch, f"{arch}-linux-gnu-")
    names = (f"{prefix}ld", "ld.lld")
    found = next((name for name in names if shutil.which(name)), None)
    if found is not None:
        return [found]
    phone = installed()
    if phone is not None and arch in _PREFIXES:
        return emulator.linker(phone, arch)
    raise EnvironmentLackError(
        f"saving a library for {arch} needs a linker for it, and none of {', '.join(names)} is in "
        f"PATH. On Debian: apt install binutils-{prefix.rstrip('-')}; without root: "
        "`dnnfusion devices virtual up` brings one along"
    )


def _pages(triple: str, arch: str) -> list[str]:
    size = _ANDROID_PAGES if "android" in triple else _PAGES.get(arch)
    return [] if size is None else ["-z", f"max-page-size={size}"]


def _bare(
    linker: Sequence[str], triple: str, options: Sequence[str], android: bool = False
) -> Linker:
    """Link objects into an ELF library without a compiler; TVM's runtime is there when it loads."""

    def link(output: str, objects: list[str], *_: object, **__: object) -> None:
        with tempfile.TemporaryDirectory(prefix="dnnfusion-link-") as work:
            stubs = _stubs(linker, Path(work)) if android else []
            code = [path for path in objects if not _empty_source(path)]
            _run([*linker, "-shared", "--hash-style=both", *options, "-o", output, *code, *stubs])

    link.output_format = "so"  # type: ignore[attr-defined]  # TVM's builders ask for it
    # Without kernels TVM writes the rest of a model as C, unless it is told what to compile for.
    made_for = triple or llvm.default_triple()
    link.get_target_triple = lambda: made_for  # type: ignore[attr-defined]
    return link


def _empty_source(path: str) -> bool:
    """Whether a file is what TVM writes of a model without kernels: C that consists of ";"."""
    return path.endswith(".c") and Path(path).read_text(encoding="utf-8").strip("; \n") == ""


def _stubs(linker: Sequence[str], work: Path) -> list[str]:
    """Empty libraries under the names of Android's own, so that the result names those."""
    nothing = work / "nothing"
    nothing.write_bytes(b"")
    for name in _ANDROID_NEEDED:
        _run([*linker, "-shared", "-o", str(work / name), "-b", "binary", str(nothing)])
    # Found by -l, they go by their file's name: they have no other.
    return ["-L", str(work), "--no-as-needed", *(f"-l:{name}" for name in _ANDROID_NEEDED)]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentLackError(f"{' '.join(command)} failed: {done.stderr.strip()}")
