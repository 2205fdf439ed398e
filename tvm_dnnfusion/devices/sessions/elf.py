"""Which machine a library is for, read from its first bytes.

A device answers a library of another machine with "cannot open shared object file: No such file",
which helps nobody, so it is refused before it is sent. Numbers: the ELF specification's e_machine.
"""

from __future__ import annotations

from pathlib import Path

from tvm_dnnfusion.devices.sessions.errors import LibraryError

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
SHARED_OBJECT = 3
HEADER = 20
_SAME = {"arm64": "aarch64", "armv7l": "arm", "armv8l": "arm", "amd64": "x86_64", "i686": "i386"}


def machine_of(header: bytes) -> str:
    """Name of the machine in an ELF header, "" where the bytes are none."""
    if len(header) < HEADER or header[:4] != b"\x7fELF":
        return ""
    order = "big" if header[5] == 2 else "little"
    number = int.from_bytes(header[18:20], order)
    return MACHINES.get(number, f"machine {number}")


def plain(machine: str) -> str:
    """The name that ELF's table has for what a system calls itself ("arm64" -> "aarch64")."""
    name = machine.strip().lower()
    return _SAME.get(name, name)


def check(path: Path, machine: str) -> str:
    """Make sure that a file is a shared library for a machine ("" for unknown), and say which.

    Raises LibraryError.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER)
    except OSError as error:
        raise LibraryError(f"{path} cannot be read: {error.strerror or error}") from error
    found = machine_of(header)
    order = "big" if header[5:6] == b"\2" else "little"
    if not found or int.from_bytes(header[16:18], order) != SHARED_OBJECT:
        raise LibraryError(f"{path} is not a shared library (ELF); export it as a .so")
    if machine and found != plain(machine):
        raise LibraryError(
            f"{path} is for {found}, the device is {plain(machine)}: compile it for that target"
        )
    return found
