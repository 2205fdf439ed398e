"""Modules for OpenCL run in TVM's virtual machine: values, files, times, errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.opencl import nets


@pytest.fixture(scope="module")
def executable(device: Any) -> Any:
    return tvm.compile(nets.module(), target=nets.target())


def _machine(executable: Any, device: Any) -> Any:
    return relax.VirtualMachine(executable, [device, tvm.cpu()])


def _inputs(device: Any) -> list[Any]:
    return [tvm.runtime.tensor(a, device) for a in nets.arrays()]


def test_values_in_memory(executable: Any, device: Any) -> None:
    out = _machine(executable, device)["main"](*_inputs(device)).numpy()
    np.testing.assert_allclose(out, nets.expected(*nets.arrays()), rtol=1e-5, atol=1e-6)


def test_values_after_export_and_load(executable: Any, device: Any, tmp_path: Path) -> None:
    executable.export_library(str(tmp_path / "net.so"))
    loaded = tvm.runtime.load_module(str(tmp_path / "net.so"))
    out = _machine(loaded, device)["main"](*_inputs(device)).numpy()
    np.testing.assert_allclose(out, nets.expected(*nets.arrays()), rtol=1e-5, atol=1e-6)


def test_time_evaluator_reads_the_devices_clock(executable: Any, device: Any) -> None:
    timer = _machine(executable, device).time_evaluator("main", device, number=3, repeat=2)
    times = timer(*_inputs(device)).results
    assert len(times) == 2 and all(0 < t < 1 for t in times)


def test_threads_share_a_module(executable: Any, device: Any) -> None:
    """Two threads launch the same kernels on different inputs: arguments must not mix."""
    x, w, b = nets.arrays()
    wrong: list[int] = []

    def work(scale: int) -> None:
        machine = _machine(executable, device)
        args = [tvm.runtime.tensor(a, device) for a in (x * np.float32(scale), w, b)]
        for _ in range(50):
            out = machine["main"](*args).numpy()
            if not np.allclose(out, nets.expected(x * scale, w, b), rtol=1e-4, atol=1e-5):
                wrong.append(scale)

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tensors_keep_their_bytes(device: Any) -> None:
    for array in (np.arange(7, dtype="int8"), np.zeros((0, 4), "float32"), np.ones((), "float16")):
        assert np.array_equal(tvm.runtime.tensor(array, device).numpy(), array)
    source = tvm.runtime.tensor(np.arange(100, dtype="int64"), device)
    assert np.array_equal(source.copyto(device).numpy(), np.arange(100))


def test_a_device_that_is_not_there(device: Any) -> None:
    assert device.exist and not tvm.opencl(99).exist
    with pytest.raises(RuntimeError, match=r"there is no device opencl:99; this machine has"):
        tvm.runtime.tensor(np.zeros(1, "float32"), tvm.opencl(99))


def test_too_large_a_buffer(device: Any) -> None:
    with pytest.raises(RuntimeError, match=r"out of memory: a buffer of .* the largest on"):
        tvm.runtime.empty((1 << 46,), "float32", device)
    assert tvm.runtime.tensor(np.ones(3, "float32"), device).numpy().sum() == 3  # goes on
