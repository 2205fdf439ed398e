"""Build the native part of the OpenCL device, as `python -m tvm_dnnfusion.opencl` does.

Needs a C++20 compiler and the headers of the installed wheels, nothing else: OpenCL's own library
is opened at run time. `setup.py` calls the same function while the package is installed. This file
imports no other of the package, since `setup.py` loads it by itself, before TVM is there.

The file's name carries a key of the sources and of TVM's versions: a library that was built for
another TVM is not found instead of crashing.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

NATIVE = Path(__file__).resolve().parent / "native"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden")
WHEELS = ("apache-tvm", "apache-tvm-ffi")
LIMIT_S = 600
"""Seconds after which the compiler is given up; it takes 6 on a desktop, a minute on a board."""


class BuildError(RuntimeError):
    """The native part cannot be built here; the message says what is missing, or holds the log."""

    exit_code = 3


def compiler() -> str | None:
    """Path of the C++ compiler that would be used; None where there is none."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def requirements(pyproject: Path) -> tuple[str, ...]:
    """TVM's wheels with their pins, where a build in a fresh environment needs them: with a
    compiler, and without headers in the environment."""
    if compiler() is None:
        return ()
    try:
        wheel_folder("tvm"), wheel_folder("tvm_ffi")
        return ()
    except BuildError:
        return tuple(re.findall(r'"(apache-tvm[^"]*)"', pyproject.read_text(encoding="utf-8")))


def file_name() -> str:
    """Name of the library for these sources, TVM's installed versions and this machine.

    Raises BuildError where a wheel of TVM is not installed.
    """
    digest = hashlib.sha256(platform.machine().encode())
    for wheel in WHEELS:
        digest.update(_version(wheel).encode())
    for path in sorted(p for p in NATIVE.rglob("*") if p.suffix in (".cc", ".h")):
        digest.update(path.read_bytes())
    return f"libdnnfusion_opencl-{digest.hexdigest()[:12]}.so"


def _version(wheel: str) -> str:
    roots = [str(root) for root in _wheel_roots()]
    for found in metadata.distributions(name=wheel, path=roots):
        return found.version
    raise BuildError(f"{wheel} is not installed: pip install {wheel}")


def _wheel_roots() -> list[Path]:
    """Folders that hold packages: those of `sys.path`, and the environment's own, which pip hides
    from a build."""
    paths = sysconfig.get_paths()
    return [Path(p) for p in dict.fromkeys([*sys.path, paths["platlib"], paths["purelib"]]) if p]


def wheel_folder(package: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises BuildError where it is not installed, or has no headers.
    """
    for root in _wheel_roots():
        if (root / package / "include").is_dir():
            return root / package
    raise BuildError(f"the headers of {package} were not found: install its wheel first")


def build(folder: Path) -> Path:
    """Compile the native part into `folder` and return the library's path.

    The file appears whole or not at all.

    Raises
    ------
    BuildError
        Without a compiler or headers, and where the compiler fails, with the last lines it said.
    """
    found = compiler()
    if found is None:
        raise BuildError(
            f"no C++ compiler ({', '.join(COMPILERS)}) was found. Install one: apt-get install g++"
        )
    target = folder / file_name()
    tvm, ffi = wheel_folder("tvm"), wheel_folder("tvm_ffi")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        output = Path(scratch) / target.name
        command = [
            found, *FLAGS, "-o", str(output), str(NATIVE / "all.cc"),
            f"-I{NATIVE}", f"-I{NATIVE / 'shim'}", f"-I{tvm / 'include'}", f"-I{ffi / 'include'}",
            f"-L{tvm / 'lib'}", "-ltvm_runtime", f"-L{ffi / 'lib'}", "-ltvm_ffi", "-ldl",
        ]  # fmt: skip
        _compile(command)
        output.replace(target)
    return target


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError(f"{command[0]} did not finish within {LIMIT_S} s") from None
    if done.returncode != 0:
        log = "\n".join(done.stderr.strip().splitlines()[:20])
        raise BuildError(f"{command[0]} failed with exit code {done.returncode}:\n{log}")
