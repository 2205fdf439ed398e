"""An OpenCL device for TVM's wheel, which generates OpenCL code but has no runtime for it.

TVM calls `autoload` when it is imported, through the entry point group "tvm.backends"; `load` does
the same on demand and says what is wrong. Then `tvm.opencl(0)` exists where the machine has a
driver: modules for Mali, Adreno, or PoCL on a CPU run in TVM's virtual machine, in this process or
in a Python RPC server. See docs/opencl.md.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from tvm_dnnfusion import settings
from tvm_dnnfusion.opencl import drivers
from tvm_dnnfusion.opencl.build import BuildError, compiler, file_name

__all__ = ["BuildError", "OpenCLError", "Status", "autoload", "load", "require", "status"]

FACTORY = "device_api.opencl"
MEND_BUILD = "python -m tvm_dnnfusion.opencl"


class OpenCLError(RuntimeError):
    """OpenCL cannot be used; the message says why and what to do."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Status:
    """What there is: `devices` name the usable ones, in the order of `tvm.opencl(i)`.

    `problem` and `mend` are empty where there is a device.
    """

    library: str
    devices: tuple[str, ...]
    problem: str = ""
    mend: str = ""


def cache_folder() -> Path:
    """Where `python -m tvm_dnnfusion.opencl` puts the library."""
    return settings.read().cache / "native"


def library() -> Path | None:
    """The built library for this TVM; None where it was not built."""
    name = file_name()
    folders = (Path(__file__).resolve().parent, cache_folder())
    return next((f / name for f in folders if (f / name).is_file()), None)


def autoload() -> None:
    """Called by TVM at import: register the device where it was built; builds nothing.

    Raises SettingsError where DNNFUSION_OPENCL_LIB asks for a driver that is not installed, and
    OpenCLError where the library cannot be loaded: TVM turns both into a warning, and there is no
    OpenCL device.
    """
    if _registered() or library() is None:
        return
    load()


def load() -> None:
    """Register the OpenCL device in this process; does nothing where there is one already.

    Drivers are looked for when the first device is used, not here; but where the user asked for
    one that is not installed, nothing is registered, so that no other takes its place.

    Raises
    ------
    OpenCLError
        Where the native part was not built, or cannot be loaded.
    SettingsError
        Where DNNFUSION_OPENCL_LIB asks for PoCL's wheels, and they are not installed.
    """
    if _registered():
        return
    path = library()
    if path is None:
        why = "" if compiler() else " (and there is no C++ compiler: apt-get install g++)"
        raise OpenCLError(
            f"the native part of the OpenCL device is not built{why}. Mend it with: {MEND_BUILD}"
        )
    import tvm  # noqa: F401 - loads the libraries that the native part is linked to
    import tvm_ffi

    if _registered():  # importing TVM has called `autoload`
        return
    driver = drivers.library_path()
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise OpenCLError(
            f"{path} cannot be loaded ({error}). Mend it with: {MEND_BUILD}"
        ) from None
    tvm_ffi.get_global_func("dnnfusion.opencl.configure")(driver)


def require() -> None:
    """Raise OpenCLError, with what `status` knows, unless `tvm.opencl(0)` can be used."""
    found = status()
    if not found.devices:
        raise OpenCLError(f"there is no OpenCL device here: {found.problem}. Mend it: {found.mend}")


def status() -> Status:
    """What of OpenCL works here; raises nothing."""
    try:
        load()
    except (OpenCLError, BuildError, settings.SettingsError) as error:
        return Status("", (), str(error), MEND_BUILD)
    import tvm_ffi

    describe = tvm_ffi.get_global_func("dnnfusion.opencl.describe", allow_missing=True)
    if describe is None:
        return Status("TVM's own runtime", ("see tvm.opencl(0)",))
    path = str(library())
    try:
        return Status(path, tuple(str(describe()).splitlines()))
    except RuntimeError as error:
        text = str(error).strip().splitlines()[-1]
        return Status(path, (), text, drivers.MEND)


def _registered() -> bool:
    import tvm_ffi

    return tvm_ffi.get_global_func(FACTORY, allow_missing=True) is not None
