"""Golden numbers of executed instructions on ARM, and the same results there as here.

The emulator's counts are exact: a kernel that takes more than its number has become worse. Those
that become better should have theirs lowered: `python -m benchmarks.instructions` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from benchmarks import models
from benchmarks.instructions.builds import Build, build
from benchmarks.instructions.ideal import HEAVY
from benchmarks.kernels.cases import Case, cases
from tests.phone import needs_counts
from tvm_dnnfusion.devices.sessions import Session
from tvm_dnnfusion.devices.sessions.records import KernelCount
from tvm_dnnfusion.runtime.reference import run_onnx

CORE = "cortex-a76"

GOLDEN = {
    "matmul-128x768x768": 1.222,
    "matmul-197x768x768": 1.221,
    "conv1x1-64-256-56": 1.383,
    "conv1x1-256-64-56": 1.283,
    "conv1x1-512-128-28": 1.283,
    "conv7x7-3-64-224-s2": 1.327,
    "conv3x3-64-64-56": 0.650,
    "conv3x3-256-256-14": 0.569,
    "conv3x3-128-128-56-s2": 1.351,
    "depthwise3x3-96-96-112-s2": 7.119,
    "depthwise3x3-192-192-28": 2.856,
    "depthwise3x3-384-384-14": 3.909,
    "attention": 1.643,
}
"""Instructions per four multiply-adds of the direct algorithm, conversions of the layout at both
ends of the one-operator model included."""

SLACK = 1.005
"""Counts are exact for one LLVM: this is for another release of it."""

OF_IDEAL = 1.15
"""The mark for heavy kernels."""

ABOVE = {"squeezenet": {"b000": 1.33, "b002": 1.20}}
"""Heavy kernels that miss it, by the beginnings of their names (docs/arm.md says why)."""

SHARE = 0.01
"""Of a model's multiply-adds: kernels with as many are heavy."""

WHOLE = ("se_block", "attention", "conv3d", "transformer", "unet", "shufflenet", "squeezenet")
"""Models that are compared here. `python -m benchmarks.instructions` compares all: its results hold
the differences of the larger ones, which take minutes each."""

TENTH = ("se_block", "squeezenet")
"""Models whose counts are held against TVM zero's."""


def _case(name: str) -> Case:
    return next(c for c in cases() if c.name == name)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Build]:
    """A model of `WHOLE` compiled by this library, once."""
    made: dict[str, Build] = {}

    def build_once(name: str) -> Build:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = build(models.load(name), "dnnfusion", CORE, folder)
        return made[name]

    return build_once


@needs_counts
@pytest.mark.parametrize("name", GOLDEN)
def test_instructions_of_a_kernel(arm_session: Session, tmp_path: Path, name: str) -> None:
    case = _case(name)
    model = case.build()
    feed = models.feed_for(model)
    made = build(model, "dnnfusion", CORE, tmp_path)
    program = arm_session.load(made.library)
    (found,) = program.run(list(feed.values()))
    (expected,) = run_onnx(model, feed).values()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    counts = [c for _, c in program.counts(list(feed.values()))]
    total = sum(c["all"] for c in counts)
    assert total == sum(c["all"] for _, c in program.counts(list(feed.values())))
    assert 4 * total / (case.flops / 2) <= SLACK * GOLDEN[name]
    for kernel, need in made.needs.items():
        assert (need.ideal > 0) == (need.kind in HEAVY)
        own = sum(c["all"] for k, c in program.counts(list(feed.values())) if k == kernel)
        assert not need.ideal or own <= OF_IDEAL * need.ideal
    if case.bound == "compute":
        assert sum(c["vector"] + c["vector_load_store"] for c in counts) > 0.88 * total


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_model_computes_on_arm_what_onnx_runtime_does_here(
    arm_session: Session, ours: Callable[[str], Build], name: str
) -> None:
    model, feed = models.load(name), models.inputs(name)
    program = arm_session.load(ours(name).library)
    found = program.run(list(feed.values()))
    for got, want in zip(found, run_onnx(model, feed).values(), strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@needs_counts
@pytest.mark.slow
@pytest.mark.parametrize("name", TENTH)
def test_a_tenth_of_what_tvm_zero_executes(
    arm_session: Session, ours: Callable[[str], Build], tmp_path: Path, name: str
) -> None:
    model, feed = models.load(name), models.inputs(name)
    totals: dict[str, int] = {}
    for peer in ("dnnfusion", "zero"):
        made = ours(name) if peer == "dnnfusion" else build(model, peer, CORE, tmp_path)
        counts = arm_session.load(made.library).counts(list(feed.values()))
        totals[peer] = sum(c["all"] for _, c in counts)
        if peer == "dnnfusion":
            _near_the_ideal(name, made, counts)
    assert 10 * totals["dnnfusion"] <= totals["zero"]


def _near_the_ideal(name: str, made: Build, counts: Sequence[KernelCount]) -> None:
    """Every heavy kernel is within the mark; those that are known not to be, within theirs."""
    macs = sum(need.macs for need in made.needs.values())
    for kernel, need in made.needs.items():
        if need.kind not in HEAVY or need.macs < SHARE * macs:
            continue
        own = sum(c["all"] for k, c in counts if k == kernel)
        most = ABOVE.get(name, {}).get(kernel.partition("_")[0], OF_IDEAL)
        assert 0 < own <= most * need.ideal, (kernel, own / need.ideal)
