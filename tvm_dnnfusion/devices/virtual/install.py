"""Making the phone's folder: downloaded, unpacked and tried before it appears under its name.

    ROOT/downloads/      packages and wheels, kept until the phone is there
    ROOT/phone-KEY/      sysroot (ARM), tools (x86-64), site (Python packages)

An interruption leaves downloads that the next call goes on with, and no phone. Cost, from nothing:
about 20 s on two cores where the network gives 20 MB/s.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath

from tvm_dnnfusion import settings
from tvm_dnnfusion.devices.virtual import debian, emulator, wheels
from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.devices.virtual.fetch import fetch, fetch_all
from tvm_dnnfusion.devices.virtual.recipe import PYTHON, Recipe, recipe

Say = Callable[[str], None]
_UNUSED = ("usr/share", "usr/lib/python3.11/test", "usr/lib/python3.11/idlelib", "etc", "var")
_EMULATORS = ("qemu-aarch64", "qemu-arm")


def folder() -> Path:
    """Where the phone of the installed TVM is, or will be."""
    return settings.read().virtual / f"phone-{recipe().key}"


def installed() -> Path | None:
    """The phone's folder if it is there, whole."""
    there = folder()
    return there if there.is_dir() else None


def install(say: Say = lambda _: None) -> Path:
    """The phone's folder, made where it is not there yet.

    Raises VirtualError where this machine cannot run it, or a download fails.
    """
    there = installed()
    if there is not None:
        return there
    _check_machine()
    wanted = recipe()
    root = settings.read().virtual
    with _alone(root):
        if not folder().is_dir():  # else another process has made it meanwhile
            _make(wanted, root, say)
    return folder()


def _check_machine() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise VirtualError(
            f"the virtual phone runs on Linux on x86-64, and this is {system} on {machine}"
            + (
                "; it is an ARM machine itself: use the device 'local'"
                if "a" in machine[:2]
                else ""
            )
        )


def _make(wanted: Recipe, root: Path, say: Say) -> None:
    downloads = root / "downloads"
    downloads.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".phone-") as work:
        fresh = Path(work) / "phone"
        say("packages of Debian")
        for arch, names, part in (
            ("arm64", wanted.phone, "sysroot"),
            ("amd64", wanted.tools, "tools"),
        ):
            for package in _packages(wanted, arch, names, downloads):
                debian.unpack(package, fresh / part, _keep)
        say("wheels for ARM")
        for wheel in wheels.download(wanted, downloads):
            wheels.unpack(wheel, fresh / "site")
        say("first start")
        _first_start(fresh)
        os.replace(fresh, folder())
    shutil.rmtree(downloads, ignore_errors=True)


def _packages(wanted: Recipe, arch: str, names: tuple[str, ...], downloads: Path) -> list[Path]:
    """The packages' files. A list that is out of date is fetched once more."""
    mirror = settings.read().mirror
    listing = debian.list_file(mirror, wanted.release, arch)
    for fresh in (False, True):
        if fresh:
            (downloads / listing.name).unlink()
        files = debian.find(fetch(listing, downloads), mirror, names)
        try:
            fetch_all(files, downloads)
            return [downloads / file.name for file in files]
        except VirtualError:
            if fresh:
                raise
    raise AssertionError("not reached")


def _keep(path: PurePosixPath) -> bool:
    if path.name.startswith("qemu-") and path.name not in _EMULATORS:
        return False
    return not any(path.is_relative_to(unused) for unused in _UNUSED)


def _first_start(phone: Path) -> None:
    """Byte-compile, natively where this Python is the phone's, and see that TVM loads there."""
    if sys.version_info[:2] == tuple(int(n) for n in PYTHON.split(".")):
        for part in (phone / "site", phone / "sysroot/usr/lib/python3.11"):
            compileall.compile_dir(part, quiet=2, workers=0)
    command = emulator.python(phone, "max", None, ["-c", "import tvm, tvm.rpc.server"])
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        raise VirtualError(f"the virtual phone was made, but TVM does not load on it: {last}")


@contextlib.contextmanager
def _alone(root: Path) -> Generator[None]:
    """Wait until no other process makes the phone."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "lock").open("w")
    except OSError as error:
        raise VirtualError(
            f"cannot write to {root}: {error.strerror or error}; DNNFUSION_VIRTUAL names another "
            "folder"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
