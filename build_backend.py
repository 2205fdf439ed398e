"""setuptools' build backend, which asks for TVM's wheels where the native part can be built.

Its headers are in apache-tvm and apache-tvm-ffi. Without a C++ compiler, or where the environment
has them already, nothing more is needed than setuptools.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

HERE = Path(__file__).resolve().parent


def _native() -> list[str]:
    spec = importlib.util.spec_from_file_location(
        "dnnfusion_build", HERE / "tvm_dnnfusion/opencl/build.py"
    )
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return list(build.requirements(HERE / "pyproject.toml"))


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What building a wheel needs beyond pyproject.toml's list."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_native()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What an editable installation needs beyond pyproject.toml's list."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_native()]
