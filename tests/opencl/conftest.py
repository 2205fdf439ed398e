"""The OpenCL device of this machine, built where that is possible; else tests skip and say why."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_dnnfusion import opencl
from tvm_dnnfusion.opencl.build import build


@pytest.fixture(scope="session")
def device() -> Any:
    """`tvm.opencl(0)`."""
    if opencl.compiler() is None and opencl.library() is None:
        pytest.skip("no C++ compiler to build the native part of the OpenCL device with")
    if opencl.library() is None:
        build(opencl.cache_folder())
    status = opencl.status()
    if not status.devices:
        pytest.skip(f"no OpenCL device: {status.problem}")
    return tvm.opencl(0)
