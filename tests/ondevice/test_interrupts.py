"""A signal to a bench on a device: what is kept, and what is said of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from benchmarks.models import load
from tests.cli.conftest import call  # noqa: F401  # a fixture
from tvm_dnnfusion.devices.virtual import process
from tvm_dnnfusion.ondevice.records import read

LONGEST_S = 120.0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_measuring_keeps_the_samples(
    sent: signal.Signals, call: Callable, phone: process.Phone, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    model, out = tmp_path / "attention.onnx", tmp_path / "out"
    onnx.save(load("attention"), str(model))
    words = ["bench", str(model), "--device", f"rpc://{phone.host}:{phone.port}", "--target",
             "cortex-a53", "--repeat", "40", "--pause", "0.1", "--warmup", "0", "--max-time", "99",
             "--threads", "1", "--no-profile", "--columns", "OurB", "-o", str(out)]  # fmt: skip
    began = subprocess.Popen(
        [sys.executable, "-m", "tvm_dnnfusion.cli", *words],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert began.stderr is not None
    said = ""
    for line in began.stderr:
        said += line
        if line.startswith("compile OurB: done"):
            break
    time.sleep(2.0)  # of 4 s that the pauses alone take
    os.kill(began.pid, sent)
    said += began.communicate(timeout=LONGEST_S)[1]
    assert began.returncode == 4, said
    kept = read(out / "bench.json")
    assert kept is not None
    samples = kept.results[0].samples_us
    assert 0 < len(samples) < 40 and kept.results[0].problem == "interrupted"
    assert f"keeps OurB ({len(samples)} samples); the same command goes on from there" in said
    again = call(*words)
    assert again.code == 0 and f"OurB: goes on after {len(samples)} samples" in again.err
    done = read(out / "bench.json")
    assert done is not None and not done.results[0].problem
    assert done.results[0].samples_us[: len(samples)] == samples
    assert len(done.results[0].samples_us) == 40


def test_a_signal_before_anything_is_measured(call: Callable, tmp_path: Path) -> None:  # noqa: F811
    """With nobody at the other end; TVM's own errors of an interrupt are taken for one."""
    from tvm_dnnfusion.cli import ondevice

    said = re.escape(f"nothing to keep in {tmp_path}")
    with (
        pytest.raises(ondevice.Interrupted, match=said),
        ondevice._saying_what_is_kept(tmp_path / "bench.json"),
    ):
        raise RuntimeError("Error in packed function: KeyboardInterrupt")
    with pytest.raises(RuntimeError, match="another"), ondevice._saying_what_is_kept(None):
        raise RuntimeError("another")
