"""Measuring: when sampling ends, and that real kernels can be measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.profile.measure import (
    Limits,
    MeasureError,
    measure_primfunc,
    sample,
)

TARGET = registry.target_dict(registry.host())


class Kernel:
    """A kernel of known time on a clock of its own; `times` is asked per timing."""

    def __init__(self, times: Callable[[int], float]) -> None:
        self.times = times
        self.calls: list[int] = []
        self.now_s = 0.0

    def run(self, calls: int) -> float:
        self.calls.append(calls)
        us = self.times(len(self.calls))
        self.now_s += us * calls / 1e6
        return us

    def clock(self) -> float:
        return self.now_s


def test_a_steady_kernel_needs_the_least_number_of_samples() -> None:
    kernel = Kernel(lambda _: 10.0)
    found = sample(kernel.run, Limits(), kernel.clock)
    assert (found.median_us, found.spread, found.samples) == (10.0, 0.0, Limits().min_samples)
    assert kernel.calls[1] == 2_000
    assert set(kernel.calls[2:]) == {200}


def test_the_first_slow_runs_do_not_count() -> None:
    kernel = Kernel(lambda n: 900.0 if n <= 2 else 10.0)
    assert sample(kernel.run, Limits(), kernel.clock).median_us == 10.0


def test_a_noisy_kernel_is_sampled_to_the_limit_and_says_so() -> None:
    kernel = Kernel(lambda n: 10.0 + 5.0 * (n % 2))
    found = sample(kernel.run, Limits(), kernel.clock)
    assert found.samples == Limits().max_samples
    assert found.spread > 0.3


def test_a_burst_of_load_is_waited_out() -> None:
    kernel = Kernel(lambda n: 31.0 if 4 <= n < 40 else 10.0 + 0.01 * (n % 3))
    found = sample(kernel.run, Limits(), kernel.clock)
    assert found.median_us < 10.1 and found.spread < 0.01
    assert 36 + Limits().min_samples <= found.samples < 50


def test_a_kernel_slower_than_the_wall_limit_runs_once() -> None:
    kernel = Kernel(lambda _: 4e6)
    found = sample(kernel.run, Limits(wall_s=3.0), kernel.clock)
    assert (found.median_us, found.samples, kernel.calls) == (4e6, 1, [1])


def test_the_wall_limit_holds_for_a_slow_kernel() -> None:
    kernel = Kernel(lambda _: 2e6)
    found = sample(kernel.run, Limits(wall_s=3.0), kernel.clock)
    assert (found.median_us, found.samples) == (2e6, 1)
    assert kernel.now_s <= 6.0


@I.ir_module
class Small:
    @R.function
    def main(x: R.Tensor((64, 64), "float32"), i: R.Tensor((4,), "int64")):
        with R.dataflow():
            a = R.matmul(x, x)
            b = R.take(a, i, axis=0, mode="clip")
            R.output(b)
        return b


@I.ir_module
class Symbolic:
    @R.function
    def main(x: R.Tensor(("n", 8), "float32")):
        with R.dataflow():
            a = R.exp(x)
            R.output(a)
        return a


def test_kernels_are_measured() -> None:
    with tvm.target.Target(TARGET):
        lowered = relax.transform.LegalizeOps()(Small)
    limits = Limits(wall_s=0.5, warmup_us=1_000.0)
    kernels = {
        str(g.name_hint): measure_primfunc(f, TARGET, threads=1, limits=limits)
        for g, f in lowered.functions.items()
        if isinstance(f, tvm.tirx.PrimFunc)
    }
    assert set(kernels) == {"matmul", "take"}
    assert kernels["matmul"].median_us > 10 * kernels["take"].median_us > 0


def test_symbolic_shapes_are_refused_by_name() -> None:
    with tvm.target.Target(TARGET):
        lowered = relax.transform.LegalizeOps()(Symbolic)
    (kernel,) = (f for f in lowered.functions.values() if isinstance(f, tvm.tirx.PrimFunc))
    with pytest.raises(MeasureError, match="has no static shape"):
        measure_primfunc(kernel, TARGET)
