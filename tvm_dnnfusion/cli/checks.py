"""What `doctor` looks at: each check returns lines and raises nothing."""

from __future__ import annotations

import enum
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_dnnfusion import _versions, settings

ENOUGH_MEMORY = 2 << 30
"""Bytes of free memory below which building a large model may fail (VGG-19 needs 1.5 GiB)."""


class State(enum.Enum):
    """Outcome of a check; a FAIL or a TODO (a step that the user has to do) means exit code 3."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Line:
    """One finding; `mend` says what to do where it is not OK."""

    name: str
    state: State
    text: str
    mend: str = ""


def all_checks() -> Iterable[Line]:
    """Every check in order, one line or more each; a check that breaks is a failure itself."""
    checks: tuple[tuple[str, Callable[[], Iterable[Line]]], ...] = (
        ("python", python),
        ("versions", versions),
        ("optional", optional),
        ("llvm", llvm),
        ("device", device),
        ("threads", thread_count),
        ("compiler", compiler),
        ("opencl", opencl),
        ("build", trial_build),
        ("memory", memory),
        ("cache", cache),
        ("profile database", database),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            yield Line(name, State.FAIL, f"{type(error).__name__}: {error}", "see the message")


def python() -> Iterable[Line]:
    """Python's version and place; an old one could not have installed this package."""
    yield Line("python", State.OK, f"{sys.version.split()[0]} at {sys.executable}")


def versions() -> Iterable[Line]:
    """The pinned distributions, and those that every command needs."""
    for pin in _versions.PINS:
        found = _versions.installed(pin.name)
        good = found is not None and _versions.satisfies(found, pin.spec)
        state = State.OK if good else State.FAIL
        yield Line(
            pin.name,
            state,
            f"{found or 'absent'} (wanted {pin.spec})",
            "" if good else pin.pip_line,
        )
    for name in ("onnx", "numpy"):
        found = _versions.installed(name)
        state = State.OK if found else State.FAIL
        yield Line(name, state, found or "absent", "" if found else f"pip install {name}")


def optional() -> Iterable[Line]:
    """ONNX Runtime, which `verify` compares with."""
    found = _versions.installed("onnxruntime")
    if found:
        yield Line("onnxruntime", State.OK, found)
    else:
        yield Line(
            "onnxruntime",
            State.WARN,
            "absent: verify compares with the unfused module only",
            "pip install onnxruntime",
        )


def llvm() -> Iterable[Line]:
    """TVM loads, and generates code with LLVM."""
    import tvm

    major = tvm.get_global_func("target.llvm_version_major", allow_missing=True)
    if major is None:
        yield Line(
            "llvm",
            State.FAIL,
            "this TVM was built without LLVM",
            "install the wheel: " + _versions.PINS[0].pip_line,
        )
        return
    yield Line("llvm", State.OK, f"LLVM {major()} in TVM {tvm.__version__}")


def device() -> Iterable[Line]:
    """The machine at hand as a device, and whether its vector unit is used."""
    from tvm_dnnfusion.devices import registry

    spec = registry.host()
    target = registry.target_dict(spec)
    mcpu = target.get("mcpu")
    text = f"{spec.name}: {spec.vector_bits}-bit vectors, {spec.cores} cores, target {target}"
    if mcpu:
        yield Line("device", State.OK, text)
    else:
        yield Line(
            "device",
            State.WARN,
            f"{text}; LLVM does not know this CPU",
            'name the nearest one: --target "llvm -mcpu=x86-64-v3"',
        )


def thread_count() -> Iterable[Line]:
    """Threads that runs and measurements will use, and why."""
    from tvm_dnnfusion.devices import threads

    report = threads.configure()
    text = f"{report.count} ({report.why})"
    wanted = settings.read().threads
    if wanted is not None and report.how == "cores" and wanted != report.count:
        yield Line("threads", State.WARN, text, f"set DNNFUSION_THREADS={wanted}")
    else:
        yield Line("threads", State.OK, text)


def compiler() -> Iterable[Line]:
    """What links libraries: a C++ compiler, or a bare linker."""
    from tvm.support import cc

    from tvm_dnnfusion.runtime.errors import EnvironmentLackError
    from tvm_dnnfusion.runtime.link import find_linker

    try:
        find_linker()
    except EnvironmentLackError as error:
        yield Line(
            "compiler",
            State.FAIL,
            str(error),
            "install a C++ compiler (Debian: apt-get install g++), or set CXX",
        )
        return
    found = cc.get_cc()
    yield Line("compiler", State.OK, str(found) if found else "no compiler; a bare linker serves")


def opencl() -> Iterable[Line]:
    """Devices of `tvm.opencl(i)`; a machine without any is no fault."""
    from tvm_dnnfusion.opencl import status

    found = status()
    for index, name in enumerate(found.devices):
        yield Line(f"opencl:{index}", State.OK, name)
    if found.problem:
        yield Line("opencl", State.WARN, found.problem, found.mend)


def add_one_library(path: Path, target: dict[str, object], linker: Any) -> None:
    """Build a library of one kernel, `add_one`: 64 floats, each one larger in the second."""
    import tvm
    from tvm import te

    x: Any = te.placeholder((64,), "float32", name="x")
    y: Any = te.compute((64,), lambda i: x[i] + 1.0, name="y")
    func = te.create_prim_func([x, y]).with_attr("global_symbol", "add_one")
    built = tvm.compile(tvm.IRModule({"add_one": func}), target=tvm.target.Target(target))
    built.export_library(str(path), fcompile=linker)


def trial_build() -> Iterable[Line]:
    """Builds, links, loads and runs a library of one kernel on the host's target."""
    import numpy as np
    import tvm

    from tvm_dnnfusion.devices import registry
    from tvm_dnnfusion.runtime.link import find_linker

    with tempfile.TemporaryDirectory(prefix="dnnfusion-") as folder:
        path = Path(folder) / "lib.so"
        add_one_library(path, registry.target_dict(registry.host()), find_linker())
        loaded = tvm.runtime.load_module(str(path))
        data = tvm.runtime.tensor(np.arange(64, dtype="float32"))
        out = tvm.runtime.tensor(np.zeros(64, "float32"))
        loaded["add_one"](data, out)
        good = np.array_equal(out.numpy(), np.arange(64, dtype="float32") + 1)
    if good:
        yield Line("build", State.OK, "a library was built, linked, loaded and run")
    else:
        yield Line(
            "build",
            State.FAIL,
            "a library of one kernel computes wrong numbers",
            "the target does not fit this CPU; try --target llvm",
        )


def memory() -> Iterable[Line]:
    """Free memory."""
    import psutil

    free = int(psutil.virtual_memory().available)
    text = f"{free / 2**30:.1f} GiB free"
    if free >= ENOUGH_MEMORY:
        yield Line("memory", State.OK, text)
    else:
        yield Line("memory", State.WARN, text, "close other programs before building large models")


def cache() -> Iterable[Line]:
    """The cache folder can be written."""
    folder = settings.read().cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Line(
            "cache",
            State.FAIL,
            f"{folder}: {error.strerror or error}",
            "set DNNFUSION_CACHE to a folder that can be written",
        )
        return
    yield Line("cache", State.OK, f"{folder} can be written")


def database() -> Iterable[Line]:
    """The profile database reads well; it is neither made nor mended here."""
    from tvm_dnnfusion.profile.database import FILE_NAME, ProfileError, read_entries

    path = settings.read().cache / FILE_NAME
    if not path.exists():
        yield Line("profile database", State.OK, f"{path}: none yet")
        return
    try:
        rows = len(read_entries(path))
    except ProfileError as error:
        yield Line(
            "profile database",
            State.WARN,
            str(error),
            "nothing: its next use sets the file aside and begins a new one",
        )
        return
    yield Line("profile database", State.OK, f"{path}: {rows} measurements")
