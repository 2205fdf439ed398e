"""What the virtual phone is made of, as data.

Debian 12 is the base: its QEMU 7.2 is the last in Debian that takes plug-ins, which count the
instructions. Sizes: 17 MB of package lists, 33 MB of packages, 115 MB of wheels; 230 MB on disk.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata

RELEASE = "bookworm"
PYTHON = "3.11"
"""Python of that Debian, and so of the phone, whatever runs here."""

PHONE_PACKAGES = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5",
    "libuuid1", "libcrypt1", "libssl3", "libpython3.11-minimal", "python3.11-minimal",
    "libpython3.11-stdlib",
)  # fmt: skip
"""ARM packages: a Python with the modules that TVM's server imports."""

LINKER_PACKAGES = (
    "libc6", "libgcc-s1", "zlib1g", "libjansson4", "libzstd1", "binutils-aarch64-linux-gnu",
    "binutils-arm-linux-gnueabihf",
)  # fmt: skip
"""x86-64 packages: binutils' linkers for ARM with their libraries."""

EMULATOR_PACKAGES = (
    "qemu-user", "libcapstone4", "libglib2.0-0", "libgnutls30", "libnuma1", "liburing2",
    "libpcre2-8-0", "libp11-kit0", "libidn2-0", "libunistring2", "libtasn1-6", "libnettle8",
    "libhogweed6", "libgmp10", "libffi8",
)  # fmt: skip
"""x86-64 packages: the emulator with its libraries. The C library comes along too, so that neither
depends on this machine's."""

PLATFORMS = tuple(f"manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_24", "2014"))
"""Tags of wheels that run there; pip takes exactly those it is told."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what the phone's folder holds."""

    requirements: tuple[str, ...]
    release: str = RELEASE
    phone: tuple[str, ...] = PHONE_PACKAGES
    tools: tuple[str, ...] = tuple(dict.fromkeys((*LINKER_PACKAGES, *EMULATOR_PACKAGES)))
    version: int = 1

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits: phones of different recipes lie side by side."""
        fields = [self.requirements, self.release, self.phone, self.tools, self.version]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:12]


def recipe() -> Recipe:
    """The phone for the TVM that is installed here: client and server must be of one version."""
    pinned = [f"{name}=={metadata.version(name)}" for name in ("apache-tvm", "apache-tvm-ffi")]
    return Recipe((*pinned, "numpy", "psutil", "tornado", "cloudpickle"))
