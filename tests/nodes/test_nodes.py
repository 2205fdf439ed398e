"""onnx's node test-suite: what TVM alone passes, importing and DNNFusionPass pass too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.nodes.cases import compare
from tests.nodes.suite import listed

ROOT = Path(__file__).parents[2]
SUITE_SECONDS = 800
FEWEST = 1100
"""Cases that the list has at least; far fewer mean that it was made by a broken run."""


def _python(*args: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter: workers are forked, which a process that holds TVM must not do."""
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, text=True, capture_output=True, timeout=seconds
    )


@pytest.mark.slow
def test_what_tvm_passes_also_passes_through_dnnfusion(capsys: pytest.CaptureFixture[str]) -> None:
    done = _python("-m", "tests.nodes.suite", "check", "dnnfusion", seconds=SUITE_SECONDS)
    with capsys.disabled():
        print(f"\n{done.stdout.splitlines()[0] if done.stdout else done.stderr[-2000:]}")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_the_list_is_whole() -> None:
    _, names = listed()
    assert len(names) == len(set(names)) >= FEWEST
    assert sum(name.endswith("@const") for name in names) > FEWEST // 4


BROKEN = """
import os, time
from tests.nodes import cases, workers
from onnx.backend.test.case.node import collect_testcases
workers.CASE_SECONDS = 5.0
found = {c.name: c for c in collect_testcases("Relu")}
names = [f"test_relu_{i}" for i in range(4)]
found.update({name: found["test_relu"] for name in names})
turns = iter(range(9))
def broken(model):
    if next(turns) == 0:
        return cases.tvm_alone(model)
    os.abort() if HOW == "abort" else time.sleep(99)
cases.PIPELINES["broken"] = broken
for name, result in workers.run_all(found, names, "broken", jobs=1):
    print(name, result.outcome.name)
"""


@pytest.mark.parametrize("how, outcome", [("abort", "CRASH"), ("hang", "TIMEOUT")])
def test_a_crash_or_a_hang_costs_one_case_only(how: str, outcome: str) -> None:
    done = _python("-W", "ignore", "-c", BROKEN.replace("HOW", repr(how)), seconds=120)
    assert done.stdout.splitlines() == [
        "test_relu_0 PASS",
        f"test_relu_1 {outcome}",
        "test_relu_2 PASS",  # by a new worker, which passes its first case
        f"test_relu_3 {outcome}",
    ], done.stderr[-2000:]


@pytest.mark.parametrize(
    "want, got, reason",
    [
        (np.float32([1, 2]), np.float32([1, 2.1]), "Not equal"),
        (np.float32([1, 2]), np.float64([1, 2]), "float64 for float32"),
        (np.float32([1, 2]), np.float32([[1, 2]]), r"shape \(1, 2\)"),
        (np.int64([1]), np.int64([2]), "not equal"),
        (np.float32([np.nan]), np.float32([0]), "nan"),
        ([np.float32([1])], np.float32([1]), "one value"),
        ([np.float32([1])], [], "0 values for 1"),
    ],
)
def test_differences_are_seen(want: object, got: object, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        compare(want, got, 1e-3, 1e-7)


def test_equal_values_are_equal() -> None:
    value = [np.float32([1, np.nan]), np.bool_([True])]
    compare(value, [value[0] * np.float32(1.0005), value[1]], 1e-3, 1e-7)


def _on_opencl(*args: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """The listed cases on the OpenCL device; skips where a fresh interpreter finds none."""
    found = _python("-c", "from tvm_dnnfusion import opencl; print(len(opencl.status().devices))",
                    seconds=60)  # fmt: skip
    if not found.stdout.strip().isdigit() or int(found.stdout) == 0:
        pytest.skip("no OpenCL device (PoCL and the extra `opencl` of this package make one)")
    return _python("-m", "tests.nodes.suite", "check", "--on", "opencl", *args, seconds=seconds)


def test_cases_of_operators_that_gpus_had_wrong_on_opencl() -> None:
    for pattern in ("test_bitshift_right_int32", "test_compress_0"):
        done = _on_opencl("-k", pattern, seconds=200)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.mark.slow
def test_what_tvm_passes_also_passes_on_opencl(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--thorough"):
        pytest.skip("a quarter of an hour: with --thorough; the numbers are in docs/gpu.md")
    done = _on_opencl(seconds=3600)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
