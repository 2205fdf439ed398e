"""Latency and the profile by kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.runtime.models import TARGET, fused
from tvm_dnnfusion.devices.server import Instrument
from tvm_dnnfusion.runtime import (
    BenchOptions,
    BenchReport,
    InputsError,
    Module,
    bench,
    build,
    random_inputs,
)
from tvm_dnnfusion.runtime.bench import BUILTIN

OPTIONS = BenchOptions(runs=20, warmup_s=0.02, wall_s=1.0)


@pytest.fixture(scope="module")
def module() -> Module:
    built = build(fused(), TARGET)
    return replace(built, kernels={"fused_matmul_relu": ("MatMul_1", "Relu_2")})


@pytest.fixture(scope="module")
def report(module: Module) -> BenchReport:
    return bench(module, random_inputs(module.signature), threads=1, options=OPTIONS)


def test_percentiles_are_in_order_and_counts_are_stated(report: BenchReport) -> None:
    assert 0 < report.min_us <= report.median_us <= report.p90_us
    assert (report.samples, report.threads.count) == (20, 1)
    assert report.warmup_runs >= 2
    assert report.runs_per_sample > 1, "a model of microseconds is timed in groups"


def test_every_kernel_is_there_once_with_its_layers(report: BenchReport) -> None:
    names = [k.name for k in report.kernels]
    assert sorted(names) == sorted({"tir_exp", "fused_matmul_relu", "sum", BUILTIN})
    by_name = {k.name: k for k in report.kernels}
    assert by_name["fused_matmul_relu"].origins == ("MatMul_1", "Relu_2")
    assert by_name["sum"].origins == ()
    assert by_name["sum"].calls == 1.0
    assert sum(k.share for k in report.kernels) == pytest.approx(1.0)
    assert [k.us for k in report.kernels] == sorted((k.us for k in report.kernels), reverse=True)


def test_the_profile_can_be_left_out_and_few_runs_are_made_of_slow_models(module: Module) -> None:
    inputs = random_inputs(module.signature)
    quick = BenchOptions(runs=1000, warmup_s=0.0, wall_s=1e-6, profile=False)
    report = bench(module, inputs, threads=1, options=quick)
    assert (report.kernels, report.samples, report.warmup_runs) == ((), 3, 2)


def test_threads_are_the_modules_own_unless_given(module: Module) -> None:
    inputs = random_inputs(module.signature)
    quick = BenchOptions(runs=3, warmup_s=0.0, profile=False)
    own = bench(replace(module, threads=2), inputs, options=quick)
    assert own.threads.count == 2
    assert bench(replace(module, threads=2), inputs, threads=1, options=quick).threads.count == 1


def test_inputs_that_do_not_fit_are_named(module: Module) -> None:
    with pytest.raises(InputsError, match=r"in\.x"):
        bench(module, {}, options=OPTIONS)


def test_time_of_calls_inside_a_call_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = iter([0, 10, 30, 30, 100, 100])
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(ticks))
    instrument = Instrument()
    instrument(None, "outer", True, None)
    instrument(None, "inner", True, None)
    instrument(None, "inner", False, None)
    instrument(None, "outer", False, None)
    assert instrument.rows == [("inner", 20), ("outer", 80)]
