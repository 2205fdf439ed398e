"""Libraries for other machines, linked without a compiler of theirs."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_dnnfusion.devices import arm, llvm, registry
from tvm_dnnfusion.runtime import link
from tvm_dnnfusion.runtime.errors import EnvironmentLackError

ARMV7 = "armv7-linux-gnueabihf"
AARCH64, ARM = 183, 40
"""Machines by their numbers in ELF."""


def target(triple: str) -> dict[str, object]:
    if triple == ARMV7:
        return {"kind": "llvm", "mtriple": ARMV7, "mcpu": "cortex-a9", "mattr": ["+neon"]}
    return registry.target_dict(registry.on_system(registry.get("cortex-a53"), triple))


def exported(triple: str, path: Path) -> bytes:
    """A library with one kernel that needs `expf`."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.exp(x)))
    built = tvm.compile(builder.get(), target=tvm.target.Target(target(triple)))
    built.export_library(str(path), fcompile=link.find_linker(triple))
    return path.read_bytes()


def needs_linker(arch: str) -> None:
    try:
        link._cross(arch)
    except EnvironmentLackError as lack:
        pytest.skip(str(lack))


@pytest.mark.parametrize(
    ("triple", "machine"), [(arm.LINUX, AARCH64), (arm.ANDROID, AARCH64), (ARMV7, ARM)]
)
def test_a_library_of_another_machine(triple: str, machine: int, tmp_path: Path) -> None:
    needs_linker("arm" if machine == ARM else "aarch64")
    content = exported(triple, tmp_path / "net.so")
    assert struct.unpack_from("<HH", content, 16) == (3, machine)  # a shared object
    assert b"expf\0" in content
    android = triple == arm.ANDROID
    assert (b"libm.so\0" in content, b"libc.so\0" in content) == (android, android)
    assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("triple", [arm.LINUX, arm.ANDROID, ARMV7, ""])
def test_a_model_that_leaves_no_kernel_is_linked(
    triple: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TVM compiles nothing for it, and then wrote what is left as C, which no linker reads."""
    import tvm
    from tvm import relax
    from tvm.support import cc

    monkeypatch.setattr(cc, "get_cc", lambda: None)
    if triple:
        needs_linker("arm" if triple == ARMV7 else "aarch64")
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(x)
    given = target(triple) if triple else registry.target_dict(registry.host())
    path = tmp_path / "net.so"
    built = tvm.compile(builder.get(), target=tvm.target.Target(given))
    built.export_library(str(path), fcompile=link.find_linker(triple))
    if triple:
        machine = ARM if triple == ARMV7 else AARCH64
        assert struct.unpack_from("<HH", path.read_bytes(), 16) == (3, machine)
        return
    loaded = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    ones = tvm.runtime.tensor(np.ones((4, 8), "float32"))
    np.testing.assert_array_equal(loaded["main"](ones).numpy(), np.ones((4, 8), "float32"))


def test_pages_of_the_system() -> None:
    assert link._pages(arm.LINUX, "aarch64") == ["-z", "max-page-size=65536"]
    assert link._pages(arm.ANDROID, "aarch64") == ["-z", "max-page-size=16384"]
    assert link._pages(ARMV7, "arm") == []


def test_without_a_linker_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(link, "installed", lambda: None)
    monkeypatch.setattr(llvm, "default_triple", lambda: "x86_64-linux-gnu")
    with pytest.raises(EnvironmentLackError, match="apt install binutils-aarch64-linux-gnu"):
        link.find_linker(arm.LINUX)
    with pytest.raises(EnvironmentLackError, match="devices virtual up"):
        link.find_linker(ARMV7)
    with pytest.raises(EnvironmentLackError, match=r"no|none of .*riscv64-linux-gnu-ld"):
        link.find_linker("riscv64-linux-gnu")


def test_the_phone_s_own_linker_is_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(link, "installed", lambda: tmp_path)
    found: dict[str, Any] = {"ld.lld": "/usr/bin/ld.lld"}
    monkeypatch.setattr(shutil, "which", found.get)
    assert link._cross("aarch64") == ["ld.lld"]
    found.clear()
    assert link._cross("aarch64")[-1] == str(tmp_path / "tools/usr/bin/aarch64-linux-gnu-ld")


def test_a_linker_that_fails_says_why(tmp_path: Path) -> None:
    needs_linker("aarch64")
    bad = tmp_path / "bad.o"
    bad.write_bytes(b"no object")
    with pytest.raises(EnvironmentLackError, match=r"bad\.o"):
        link.find_linker(arm.LINUX)(str(tmp_path / "out.so"), [str(bad)])
