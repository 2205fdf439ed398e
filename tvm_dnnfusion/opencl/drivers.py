"""Which OpenCL library is opened: what was asked for, the system's, or PoCL from pip.

pip's PoCL (the extra `opencl`) is two wheels, neither of which the system's loader knows: a driver
in pocl-binary-distribution, a loader in pyopencl.
"""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path

from tvm_dnnfusion import settings

POCL = "pocl"
"""Value of DNNFUSION_OPENCL_LIB that means PoCL from pip."""

VENDORS = Path("/etc/OpenCL/vendors")
"""Where drivers register themselves on Linux."""

MEND = (
    "install the GPU vendor's driver, or PoCL, which runs OpenCL on the CPU "
    "(pip install 'tvm-dnnfusion[opencl]', or apt-get install pocl-opencl-icd); "
    "DNNFUSION_OPENCL_LIB names a library elsewhere"
)


def library_path() -> str:
    """Path of the OpenCL library, empty for the usual names.

    PoCL from pip is taken where it is asked for, and where no driver is registered on this machine.
    Taking it loads its driver and tells its loader where that is.

    Raises SettingsError where it is asked for and not installed.
    """
    asked = settings.opencl_library()
    if asked not in (POCL, ""):
        return asked
    if not asked and any(VENDORS.glob("*.icd")):
        return ""
    home = _pocl_home()
    if home is None and asked:
        raise settings.SettingsError(
            "DNNFUSION_OPENCL_LIB=pocl: PoCL's wheels are not installed. Mend it with: "
            "pip install pocl-binary-distribution pyopencl"
        )
    return "" if home is None else _enable(home)


def _pocl_home() -> Path | None:
    """Folder of pyopencl where it holds both the loader and PoCL's driver."""
    home = Path(sysconfig.get_paths()["platlib"]) / "pyopencl"
    there = all(any((home / ".libs").glob(name)) for name in ("libOpenCL*", "libpocl*"))
    return home if there else None


def _enable(home: Path) -> str:
    # the driver's file is named without a folder: the loader finds it because it is loaded already
    ctypes.CDLL(str(next((home / ".libs").glob("libpocl*"))), mode=ctypes.RTLD_LOCAL)
    settings.export_opencl_home(home)
    return str(next((home / ".libs").glob("libOpenCL*")))
