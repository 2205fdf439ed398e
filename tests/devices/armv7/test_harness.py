"""ARMv7: kernels under our schedules, compiled, linked into a C program and run by the emulator.

TVM has no wheel for it, and so no RPC server. The program is the only thing that needs a compiler.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import built, feed_of, lowered, weights
from tests.phone import require_phone
from tvm_dnnfusion.codegen.block import Kernel
from tvm_dnnfusion.codegen.stages import Packed
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.devices.virtual import emulator, install
from tvm_dnnfusion.ecg.builder import GraphBuilder
from tvm_dnnfusion.ecg.evaluate import evaluate
from tvm_dnnfusion.schedules.dispatch import schedule_kernel

HARNESS = Path(__file__).with_name("harness.c")
TARGET = {"kind": "llvm", "mtriple": "armv7-linux-gnueabihf", "mcpu": "cortex-a15",
          "mattr": ["+neon", "+vfp4"], "mfloat-abi": "hard", "num-cores": 1}  # fmt: skip


def compiler() -> list[str]:
    """A C compiler for ARMv7 that links statically; skips the test where there is none."""
    if shutil.which("arm-linux-gnueabihf-gcc"):
        return ["arm-linux-gnueabihf-gcc", "-O1", "-static"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-O1", "-target", "arm-linux-musleabihf",
                "-static"]  # fmt: skip
    pytest.skip("no C compiler for ARMv7: apt install gcc-arm-linux-gnueabihf, or pip's ziglang")


def _conv(b: GraphBuilder) -> str:
    y = b.op("nn.conv2d", b.input("x", (1, 16, 14, 14)), weights(b, 32, 16, 3, 3), padding=1)
    return b.op("nn.relu", b.op("add", y, weights(b, 1, 32, 1, 1)))


def _attention(b: GraphBuilder) -> str:
    shape = (1, 12, 2, 16)
    return b.op("nn.attention", b.input("q", shape), b.input("k", shape), b.input("v", shape))


KERNELS: dict[str, tuple[str, Callable[[GraphBuilder], str]]] = {
    "product": ("matmul", lambda b: b.op("nn.relu", b.op(
        "matmul", b.input("a", (32, 48)), b.input("b", (48, 32))))),
    "convolution": ("conv", _conv),
    "Winograd": ("winograd", _conv),
    "softmax": ("rows", lambda b: b.op("nn.softmax", b.input("x", (9, 37)), axis=-1)),
    "attention": ("attention", _attention),
    "max pooling": ("pool", lambda b: b.op(
        "nn.max_pool2d", b.input("x", (1, 8, 9, 9)), pool_size=(3, 3), strides=(2, 2))),
    "GELU": ("map", lambda b: b.op("nn.gelu", b.input("x", (7, 33)))),
}  # fmt: skip
"""The template that a graph should take, and the graph."""


@pytest.fixture(scope="module")
def device() -> DeviceSpec:
    found = registry.spec_for_target(TARGET)
    assert found.vector_bits == 128
    return found


def program(kernel: Kernel, device: DeviceSpec, folder: Path) -> Path:
    """The harness with a kernel under our schedule, as an executable."""
    import tvm
    import tvm_ffi

    func = schedule_kernel(kernel.func, device).with_attr("global_symbol", "kernel")
    built = tvm.compile(tvm.IRModule({"kernel": func}), target=tvm.target.Target(TARGET))
    built.mod.write_to_file(str(folder / "kernel.o"), "o")
    include = Path(tvm_ffi.__file__).parent / "include"
    subprocess.run(
        [*compiler(), "-DKERNEL=__tvm_ffi_kernel", f"-I{include}", f"-I{include / 'dlpack'}", "-o",
         str(folder / "program"), str(HARNESS), str(folder / "kernel.o"), "-lm"],
        check=True, timeout=300,
    )  # fmt: skip
    return folder / "program"


def run(path: Path, operands: list[np.ndarray], out: tuple[int, ...]) -> np.ndarray:
    """What the emulated core computes of the operands."""
    shapes = [*(x.shape for x in operands), out]
    numbers = [len(shapes), *(n for shape in shapes for n in (len(shape), *shape))]
    data = b"".join(np.ascontiguousarray(x).tobytes() for x in operands)
    (path.parent / "in").write_bytes(np.array(numbers, "int64").tobytes() + data)
    command = [*emulator.tool(install.folder(), "qemu-arm"), "-cpu", "cortex-a15", str(path),
               str(path.parent / "in"), str(path.parent / "out")]  # fmt: skip
    subprocess.run(command, check=True, timeout=120)
    return np.frombuffer((path.parent / "out").read_bytes(), "float32").reshape(out)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_runs_on_armv7(name: str, device: DeviceSpec, tmp_path: Path) -> None:
    require_phone()
    compiler()
    kind, make = KERNELS[name]
    graph = built(make)
    kernel = lowered(graph, device=device, winograd=4 if kind == "winograd" else 0)
    assert kernel.kind == kind
    feed = feed_of(graph)
    known = {**graph.constants, **feed}
    operands = [s.data if isinstance(s, Packed) else known[s] for s in kernel.inputs]
    wanted = evaluate(graph, feed, "float64")[graph.outputs[0]]
    got = run(program(kernel, device, tmp_path), operands, wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert got.max() > 0
