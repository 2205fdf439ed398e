"""The native part: what building and loading it say when they fail, and damaged modules."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tvm_ffi

from tvm_dnnfusion import opencl, settings
from tvm_dnnfusion.opencl import build, drivers


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler .* apt-get install"):
        build.build(tmp_path)
    assert build.requirements(tmp_path / "absent.toml") == ()


def test_a_failing_compiler_leaves_its_log_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "compiler", lambda: sys.executable)  # refuses the flags
    with pytest.raises(build.BuildError, match=r"failed with exit code \d+:\n.*nknown option"):
        build.build(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_where_tvm_is_absent_its_pinned_wheels_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('dependencies = ["apache-tvm>=0.27,<0.28", "apache-tvm-ffi>=0.1", "numpy"]')
    monkeypatch.setattr(build, "compiler", lambda: "/usr/bin/c++")
    monkeypatch.setattr(build, "_wheel_roots", lambda: [tmp_path])
    wanted = ("apache-tvm>=0.27,<0.28", "apache-tvm-ffi>=0.1")
    assert build.requirements(project) == wanted


def test_not_built_is_said_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(opencl, "library", lambda: None)
    monkeypatch.setattr(opencl, "_registered", lambda: False)
    opencl.autoload()  # does nothing
    found = opencl.status()
    assert "is not built" in found.problem and found.mend == opencl.MEND_BUILD


def test_pip_pocl_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "_pocl_home", lambda: None)
    monkeypatch.setenv("DNNFUSION_OPENCL_LIB", drivers.POCL)
    with pytest.raises(settings.SettingsError, match="pip install pocl-binary-distribution"):
        drivers.library_path()
    monkeypatch.setenv("DNNFUSION_OPENCL_LIB", "/some/libOpenCL.so")
    assert drivers.library_path() == "/some/libOpenCL.so"


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _blob(source: str) -> bytes:
    """A module of one kernel `k(global float*)` over one work-item, as TVM would write it."""
    kernel = _text("k") + _text("k") + struct.pack("<QBBH", 1, 3, 64, 1)
    tags = struct.pack("<Q", 1) + _text("threadIdx.x") + struct.pack("<Qi", 1, 0)
    return _text("cl") + struct.pack("<Q", 1) + kernel + tags + _text(source)


def _load(blob: bytes) -> Any:
    return tvm_ffi.get_global_func("ffi.Module.load_from_bytes.opencl")(blob)


def test_a_kernel_that_does_not_build_shows_name_device_and_log(device: Any) -> None:
    module = _load(_blob("// Function: k\n__kernel void k(__global float* x) { undeclared(x); }\n"))
    pattern = r"kernel k does not build on .*CL_BUILD_PROGRAM_FAILURE \(-11\)\n[\s\S]*undeclared"
    with pytest.raises(RuntimeError, match=pattern):
        module["k"](ctypes.c_void_p(0), 1)


def test_a_work_group_that_is_too_large_names_kernel_and_limit(device: Any) -> None:
    module = _load(_blob("// Function: k\n__kernel void k(__global float* x) {}\n"))
    pattern = r"launching kernel k on .* with groups of 1073741824 x 1 x 1 \(the device takes \d+"
    with pytest.raises(RuntimeError, match=pattern):
        module["k"](ctypes.c_void_p(0), 1 << 30)
    with pytest.raises(RuntimeError, match="takes 1 arguments and 1 extents, got 1 values"):
        module["k"](1)


def test_a_damaged_module_is_refused(device: Any) -> None:
    whole = _blob("// Function: k\n__kernel void k(__global float* x) {}\n")
    for damaged in (whole[:-3], whole + b"\0", whole[:10], struct.pack("<Q", 1 << 62)):
        with pytest.raises(RuntimeError, match="is damaged or was written by another version"):
            _load(damaged)


def test_no_other_driver_takes_the_place_of_the_one_that_was_asked_for(device: Any) -> None:
    """In a process of its own, since a registered device stays registered."""
    code = (
        "from tvm_dnnfusion import opencl, settings\n"
        "opencl.drivers._pocl_home = lambda: None\n"
        "import tvm\n"
        "try: opencl.load()\n"
        "except settings.SettingsError as error: print(error)\n"
        "print(opencl._registered(), opencl.status().devices)\n"
    )
    env = {**os.environ, "DNNFUSION_OPENCL_LIB": "pocl", "TVM_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "PoCL's wheels are not installed" in done.stdout
    assert done.stdout.endswith("False ()\n")
