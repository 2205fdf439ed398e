"""The device behind a Python RPC server, as on a board."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, rpc

from tests.opencl import nets

ROOT = Path(__file__).resolve().parents[2]
# The server's worker is a process of its own: it has the device because TVM loads entry points.
SERVER = """
import sys
from tvm.rpc.server import Server
server = Server("127.0.0.1", port=9850, port_end=9950)
print(server.port, flush=True)
sys.stdin.read()
"""


def _installed(folder: Path) -> str:
    """A PYTHONPATH on which this package is installed with the entry points of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    line = re.search(r'entry-points."tvm.backends"]\n(\w+) = "([^"]+)"', text)
    assert line is not None
    info = folder / "dnnfusion_entry-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dnnfusion-entry\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tvm.backends]\n{line[1]} = {line[2]}\n")
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.fixture(scope="module")
def remote(device: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = _installed(tmp_path_factory.mktemp("site"))
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        yield rpc.connect("127.0.0.1", int(server.stdout.readline()), session_timeout=120)
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the server's own worker would keep the port
        server.wait()


def test_values_and_times_over_rpc(remote: Any, tmp_path: Path) -> None:
    tvm.compile(nets.module(), target=nets.target()).export_library(str(tmp_path / "remote.so"))
    remote.upload(str(tmp_path / "remote.so"))
    gpu = remote.cl(0)
    assert gpu.exist
    machine = relax.VirtualMachine(remote.load_module("remote.so"), [gpu, remote.cpu(0)])
    args = [tvm.runtime.tensor(a, gpu) for a in nets.arrays()]
    out = machine["main"](*args).numpy()
    np.testing.assert_allclose(out, nets.expected(*nets.arrays()), rtol=1e-5, atol=1e-6)
    times = machine.time_evaluator("main", gpu, number=2, repeat=2)(*args).results
    assert all(0 < t < 1 for t in times)


def test_errors_come_back_over_rpc(remote: Any) -> None:
    with pytest.raises(Exception, match="there is no device opencl:42"):
        tvm.runtime.tensor(np.zeros(1, "float32"), remote.cl(42))
