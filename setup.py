"""Entry point for tools that call setup.py: pyproject.toml, and the native part where it builds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOM = "tvm_dnnfusion/opencl"


def builder() -> Any:
    """`tvm_dnnfusion.opencl.build`, loaded without its package, which would want TVM."""
    spec = importlib.util.spec_from_file_location("dnnfusion_build", HERE / ROOM / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildNative(build_ext):
    """Build the OpenCL device; where that fails, say why and install the rest."""

    def run(self) -> None:
        build = builder()
        folder = HERE / ROOM if self.inplace else Path(self.build_lib) / ROOM
        try:
            self.announce(f"OpenCL device: built {build.build(folder)}", level=2)
        except (build.BuildError, OSError) as error:
            text = (
                f"the OpenCL device is not built: {error}\n"
                "Everything else works. Later: python -m tvm_dnnfusion.opencl"
            )
            print(f"note: {text}", file=sys.stderr)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


# One extension without sources: without any, setuptools would not call build_ext.
setup(
    ext_modules=[Extension("tvm_dnnfusion.opencl._native", [], optional=True)],
    cmdclass={"build_ext": BuildNative},
)
