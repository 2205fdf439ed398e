"""Threads: what is asked for is reported, in force, and changes no result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvm_dnnfusion
from tests import models
from tvm_dnnfusion.devices.cpu import processors
from tvm_dnnfusion.devices.threads import ThreadError, configure, default_count
from tvm_dnnfusion.runtime.module import Module, run
from tvm_dnnfusion.runtime.signature import signature_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "conv3d"


def test_the_count_asked_for_is_reported_and_in_force():
    made = tvm_dnnfusion.compile(models.load("se_block"), threads=1)
    assert (made.threads.count, made.threads.how) == (1, "asked")


def test_nobody_asking_gets_a_sensible_count(monkeypatch: pytest.MonkeyPatch):
    for variable in ("DNNFUSION_THREADS", "TVM_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    configure(1)  # what another test asked for must not stay in force
    made = tvm_dnnfusion.compile(models.load("se_block"))
    count, why = default_count()
    assert (made.threads.count, made.threads.how, made.threads.why) == (count, "cores", why)


def test_results_are_the_same_with_any_number_of_threads():
    made = tvm_dnnfusion.compile(models.load(NAME))
    module = Module(made.executable, signature_of(made.module))
    inputs = models.inputs(NAME)
    counts = range(1, processors() + 1)
    found = [run(module, inputs, threads=n) for n in counts]
    assert [r.threads.count for r in found] == [*counts]
    for other in found[1:]:
        for name, array in found[0].outputs.items():
            np.testing.assert_array_equal(other.outputs[name], array)


def test_no_threads_are_refused():
    with pytest.raises(ThreadError, match="at least one"):
        tvm_dnnfusion.compile(models.load("se_block"), threads=0)


_SCRIPT = """
import tvm_dnnfusion
from tests import models
print(*vars_of(tvm_dnnfusion.compile(models.load("se_block")).threads))
""".replace("vars_of(", "(lambda r: (r.count, r.how))(")


@pytest.mark.parametrize("variable", ["DNNFUSION_THREADS", "TVM_NUM_THREADS"])
def test_the_environment_decides_where_nobody_asks(variable: str):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), variable: "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", variable]
