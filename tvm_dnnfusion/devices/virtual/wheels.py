"""Python packages for the phone: pip downloads them for another machine, and we unpack them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.devices.virtual.recipe import PLATFORMS, PYTHON, Recipe

_LEFT_OUT = ("tvm/lib/libtvm_compiler.so", "tvm/lib/libtvm_runtime_cuda.so", "tvm/include/",
             "tvm/src/", "tvm/3rdparty/", "tvm_ffi/include/", "tvm_ffi/src/")  # fmt: skip
"""The compiler stays here: the phone runs what was compiled. Saves 290 MB."""


def download(recipe: Recipe, folder: Path) -> list[Path]:
    """Wheels of a recipe for the phone, kept in a folder of their own.

    Raises VirtualError with pip's last line where pip fails.
    """
    done = folder / f"wheels-{recipe.key}"
    if not done.is_dir():
        work = folder / f"wheels-{recipe.key}.part"
        shutil.rmtree(work, ignore_errors=True)
        tags = [word for tag in PLATFORMS for word in ("--platform", tag)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:",
                   "--python-version", PYTHON, "--implementation", "cp", *tags,
                   "--dest", str(work), *recipe.requirements]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            lines = [line for line in ran.stderr.splitlines() if line.strip()]
            raise VirtualError(
                f"pip could not download {', '.join(recipe.requirements)} for ARM: "
                f"{lines[-1] if lines else ran.returncode}"
            )
        os.replace(work, done)
    return sorted(done.glob("*.whl"))


def unpack(wheel: Path, site: Path) -> None:
    """Unpack a wheel as an installer would, but for its scripts, tests and what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.parts[0].endswith(".data"):
                if path.parts[1] not in ("purelib", "platlib"):
                    continue
                path = PurePosixPath(*path.parts[2:])
            if name.endswith("/") or "tests" in path.parts or str(path).startswith(_LEFT_OUT):
                continue
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
