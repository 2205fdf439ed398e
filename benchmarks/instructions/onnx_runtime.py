"""ONNX Runtime's wheel for ARM on the same emulated machine, counted in the same way.

Its library is not importable under an emulator that shows the host's /proc/cpuinfo: it looks for
ARM's fields there and reads through a null pointer. A file of that name in the phone's root is
opened instead (QEMU's -L), so it is given one, of a core with half precision and dot products.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.instructions.records import Result
from tvm_dnnfusion.devices.virtual import emulator, install

LIMIT_S = 3600
COUNTERS = emulator.HERE / "device"
CPU = "cortex-a76"
_CPUINFO = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


def count(name: str, model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> Result:
    """Instructions of ONNX Runtime's library in one run of a model.

    Raises VirtualError without a phone, RuntimeError where the wheel cannot be had or run.
    """
    phone = install.install()
    _describe_cpu(phone)
    with tempfile.TemporaryDirectory(prefix="ort-") as work:
        onnx.save(model, f"{work}/model.onnx")
        np.savez(f"{work}/feed.npz", **feed)  # type: ignore[arg-type]
        script, folders = Path(__file__).parent / "on_device.py", (_package(phone), COUNTERS)
        arguments = [script, f"{work}/model.onnx", f"{work}/feed.npz", *folders]
        plugin = emulator.build_counter(phone / "counter.so")
        said = _run(emulator.python(phone, CPU, plugin, list(map(str, arguments))))
        found = json.loads(said.splitlines()[-1])
    simd = found["vector"] + found["vector_load_store"]
    return Result(name, "ort", all=found["all"], simd=simd)


def _describe_cpu(phone: Path) -> None:
    file = phone / "sysroot/proc/cpuinfo"
    file.parent.mkdir(exist_ok=True)
    file.write_text(_CPUINFO)


def _package(phone: Path) -> Path:
    """The wheel of the installed version, unpacked beside the phone."""
    there = phone.parent / f"onnxruntime-{onnxruntime.__version__}"
    if there.is_dir():
        return there
    part = Path(tempfile.mkdtemp(dir=phone.parent, prefix=".onnxruntime-"))
    _run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
          "--no-compile", "--only-binary=:all:", "--python-version", "3.11", "--implementation",
          "cp", *(word for p in _PLATFORMS for word in ("--platform", p)), "--target", str(part),
          f"onnxruntime=={onnxruntime.__version__}"])  # fmt: skip
    try:
        part.rename(there)
    except OSError:  # another run was first
        shutil.rmtree(part)
    return there


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return done.stdout
