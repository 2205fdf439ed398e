"""A library of a small model with inputs and results, and servers for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.devices.sessions import servers
from tests.runtime.models import TARGET, fused, results
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
