"""ARMv7: kernels under our schedules, compiled, linked into a C program and run by the emulator.

TVM has no wheel for it, and so no RPC server. The program is the only thing that needs a compiler.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.phone import require_phone
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.virtual import emulator, install

HARNESS = Path(__file__).with_name("harness.c")
TARGET = {"kind": "llvm", "mtriple": "armv7-linux-gnueabihf", "mcpu": "cortex-a15",
          "mattr": ["+neon", "+vfp4"], "mfloat-abi": "hard", "num-cores": 1}  # fmt: skip
SIDE = 32


def compiler() -> list[str]:
    """A C compiler for ARMv7 that links statically; skips the test where there is none."""
    if shutil.which("arm-linux-gnueabihf-gcc"):
        return ["arm-linux-gnueabihf-gcc", "-O1", "-static"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-O1", "-target", "arm-linux-musleabihf",
                "-static"]  # fmt: skip
    pytest.skip("no C compiler for ARMv7: apt install gcc-arm-linux-gnueabihf, or pip's ziglang")


def kernel(path: Path) -> str:
    """Write the object of relu(a @ b) under our schedule; returns the function's name in it."""
    import tvm
    from tvm import relax

    from tvm_dnnfusion.api import compile as compile_model

    builder = relax.BlockBuilder()
    a, b = (relax.Var(n, relax.TensorType((SIDE, SIDE), "float32")) for n in "ab")
    with builder.function("main", [a, b]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(a, b))
            out = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(out)
    target = tvm.target.Target(TARGET)
    made = compile_model(builder.get(), target)
    functions = {
        str(var.name_hint): func
        for var, func in made.module.functions.items()
        if isinstance(func, tvm.tirx.PrimFunc)
    }
    assert len(functions) == 1, "the product and what follows it are one kernel"
    (name,) = functions
    only = functions[name].with_attr("global_symbol", name)
    built = tvm.compile(tvm.IRModule({name: only}), target=target)
    built.mod.write_to_file(str(path), "o")
    return f"__tvm_ffi_{name}"


def test_a_kernel_runs_on_armv7(tmp_path: Path) -> None:
    import tvm_ffi

    require_phone()
    command = compiler()
    assert registry.spec_for_target(TARGET).vector_bits == 128
    symbol = kernel(tmp_path / "kernel.o")
    include = Path(tvm_ffi.__file__).parent / "include"
    program = tmp_path / "program"
    subprocess.run(
        [*command, f"-DKERNEL={symbol}", f"-I{include}", f"-I{include / 'dlpack'}", "-o",
         str(program), str(HARNESS), str(tmp_path / "kernel.o"), "-lm"],
        check=True, timeout=300,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    a, b = (rng.normal(0, 1, (SIDE, SIDE)).astype("float32") for _ in range(2))
    (tmp_path / "in").write_bytes(a.tobytes() + b.tobytes())
    phone = install.folder()
    run = [*emulator.tool(phone, "qemu-arm"), "-cpu", "cortex-a15", str(program), str(SIDE),
           str(tmp_path / "in"), str(tmp_path / "out")]  # fmt: skip
    subprocess.run(run, check=True, timeout=120)
    got = np.frombuffer((tmp_path / "out").read_bytes(), "float32").reshape(SIDE, SIDE)
    np.testing.assert_allclose(got, np.maximum(a @ b, 0), rtol=1e-4, atol=1e-4)
    assert got.max() > 0
