"""Commands that run on the virtual phone, and the linkers that come with it.

The x86-64 tools run under the C library that was downloaded with them, so this machine's
distribution does not matter.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tvm_dnnfusion.devices.virtual.errors import VirtualError

HERE = Path(__file__).resolve().parent
CPUS = ("max", "cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1",
        "a64fx")  # fmt: skip
"""Models of QEMU 7.2; "max" has every instruction it knows, SVE too."""
_OLD_GLIBC = "x86_64-linux-gnu.2.31"
"""The emulator runs under the C library of its own folder, which must not be older than this."""
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def cpu_model(mcpu: str) -> str:
    """The emulated CPU for code compiled for `mcpu`: its own, else "max"."""
    return mcpu if mcpu in CPUS else "max"


def tool(phone: Path, name: str) -> list[str]:
    """The command of an x86-64 tool of the phone's folder ("qemu-aarch64")."""
    tools = phone / "tools"
    paths = ":".join(str(tools / part) for part in _LIBRARIES)
    loader = tools / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    return [str(loader), "--library-path", paths, str(tools / "usr/bin" / name)]


def python(phone: Path, cpu: str, plugin: Path | None, arguments: list[str]) -> list[str]:
    """The command of the phone's Python on a CPU model, with a plug-in of the emulator."""
    root = phone / "sysroot"
    extra = ["-plugin", str(plugin)] if plugin is not None else []
    guest = {
        "PYTHONHOME": f"{root}/usr",
        "PYTHONPATH": str(phone / "site"),
        "TVM_USE_RUNTIME_LIB": "1",
    }
    settings = [word for key, value in guest.items() for word in ("-E", f"{key}={value}")]
    return [*tool(phone, "qemu-aarch64"), *extra, "-L", str(root), "-cpu", cpu, *settings,
            "-U", "LD_LIBRARY_PATH", f"{root}/usr/bin/python3.11", *arguments]  # fmt: skip


def linker(phone: Path, arch: str) -> list[str]:
    """The command of binutils' linker for an architecture ("aarch64", "arm")."""
    triple = {"aarch64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}[arch]
    return tool(phone, f"{triple}-ld")


def c_compiler() -> list[str] | None:
    """The command of a C compiler for this machine: the system's, or pip's ziglang."""
    if found := next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None):
        return [found]
    if importlib.util.find_spec("ziglang") is None:
        return None
    return [sys.executable, "-m", "ziglang", "cc", "-target", _OLD_GLIBC]


def build_counter(target: Path) -> Path:
    """The plug-in that counts instructions, compiled where it is not there yet.

    Raises VirtualError where there is no C compiler: it is the only thing here that needs one.
    """
    if target.is_file():
        return target
    compiler = c_compiler()
    if compiler is None:
        raise VirtualError(
            "counting instructions needs a C compiler on this machine (cc, gcc or clang), to "
            "build a plug-in of the emulator; install one: pip install ziglang, or on Debian apt "
            "install gcc libc6-dev. Everything else works without: leave --count away"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".counter-") as work:
        made = Path(work) / "counter.so"
        command = [*compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(made),
                   str(HERE / "device" / "counter.c")]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise VirtualError(f"{' '.join(command)} failed on {platform.node()}: {ran.stderr}")
        made.replace(target)
    return target
