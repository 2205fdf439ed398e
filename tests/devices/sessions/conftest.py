"""A library of a small model with inputs and results, and servers for all tests of a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.devices.sessions import servers
from tests.runtime.models import TARGET, fused, results
from tvm_dnnfusion.devices.sessions import tracker
from tvm_dnnfusion.profile.arrays import Array


@dataclass(frozen=True)
class Net:
    """The library on disk, one set of inputs and what it computes of them."""

    library: Path
    inputs: list[Array]
    expected: list[Array]


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Net:
    import tvm

    path = tmp_path_factory.mktemp("net") / "net.so"
    tvm.compile(fused(), target=tvm.target.Target(TARGET)).export_library(str(path))
    rng = np.random.default_rng(0)
    x, w = (rng.normal(0, 1, s).astype("float32") for s in ((4, 8), (8, 16)))
    return Net(path, [x, w], list(results({"in.x": x, "in/w": w}).values()))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Process]:
    """Our server."""
    with servers.server(tmp_path_factory.mktemp("ours")) as process:
        yield process


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Process]:
    """TVM's server."""
    with servers.stock(tmp_path_factory.mktemp("stock")) as process:
        yield process


@pytest.fixture(scope="session")
def harsh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels of one int32: `nap` sleeps so many microseconds, `signal` raises that signal."""
    import tvm
    from tvm import te, tirx

    def kernel(name: str, symbol: str):
        x = te.placeholder((1,), "int32", name="x")
        y = te.compute((1,), lambda i: tirx.call_extern("int32", symbol, x[i]), name="y")
        return te.create_prim_func([x, y]).with_attr("global_symbol", name)

    path = tmp_path_factory.mktemp("harsh") / "harsh.so"
    kernels = {"nap": kernel("nap", "usleep"), "signal": kernel("signal", "raise")}
    tvm.compile(tvm.IRModule(kernels), target="llvm").export_library(str(path))
    return path


@pytest.fixture(scope="session")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose result takes 4 TiB."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 1), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.broadcast_to(x, (1 << 20, 1 << 20)))
        builder.emit_func_output(y)
    path = tmp_path_factory.mktemp("huge") / "huge.so"
    tvm.compile(builder.get(), target="llvm").export_library(str(path))
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[servers.Process, ...]]:
    """A tracker and two servers under the key "phone"."""
    folder = tmp_path_factory.mktemp("fleet")
    with servers.tracker(folder) as tracking:
        options = (f"--tracker=127.0.0.1:{tracking.port}", "--key=phone")
        with servers.server(folder, *options) as one, servers.server(folder, *options) as two:
            wait_for(tracking.port, devices=2)
            yield tracking, one, two


def wait_for(port: int, devices: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if sum(status.free for status in tracker.summary("127.0.0.1", port)) == devices:
            return
        time.sleep(0.1)
    raise AssertionError(tracker.summary("127.0.0.1", port))
