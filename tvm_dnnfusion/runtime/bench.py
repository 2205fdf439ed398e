"""How fast a compiled model is, and where its time goes.

Latency is taken by TVM's own timer around whole runs, after a warm-up, one sample per run (or per
group of runs for models of some microseconds). The profile by kernel comes from an instrument in
the virtual machine, in runs of its own: its callback costs some microseconds per kernel, so it
gives shares, not absolute times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_dnnfusion.devices.server import Instrument
from tvm_dnnfusion.devices.threads import ThreadReport, at_most_all, call_with
from tvm_dnnfusion.profile.arrays import Array
from tvm_dnnfusion.runtime.inputs import check_inputs
from tvm_dnnfusion.runtime.module import Module

BUILTIN = "vm.builtin"
"""Name under which the virtual machine's own calls (allocation, checks) are summed."""
SAMPLE_US = 200.0
"""A sample shorter than this is made of several runs: the timer's call costs about 1 us."""
PROFILE_RUNS = 5


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How long to measure: at least `warmup_s`, then `runs` samples, or fewer after `wall_s`."""

    runs: int = 50
    warmup_s: float = 0.2
    wall_s: float = 10.0
    profile: bool = True


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel in the profile: per run of the model, calls and microseconds; share of the total.

    `origins` are the source layers in it.
    """

    name: str
    calls: float
    us: float
    share: float
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Latency of a model in microseconds per run, and its profile by kernel, longest first.

    `samples` timings were taken of `runs_per_sample` runs each, after `warmup_runs`. `spread` is
    the interquartile range over the median.
    """

    median_us: float
    p90_us: float
    min_us: float
    spread: float
    samples: int
    runs_per_sample: int
    warmup_runs: int
    threads: ThreadReport
    kernels: tuple[KernelTime, ...]


def bench(
    module: Module,
    inputs: Mapping[str, Array],
    *,
    threads: int | None = None,
    options: BenchOptions = BenchOptions(),
) -> BenchReport:
    """Measure a model.

    `threads` is the count to use; None takes the module's own, or the machine's default. The report
    says which was in force. Raises InputsError where the inputs do not fit.
    """
    check_inputs(inputs, module.signature)
    count = at_most_all(module.threads) if threads is None else threads
    return call_with(count, lambda report: _bench(module, inputs, report, options))


def _bench(
    module: Module, inputs: Mapping[str, Array], threads: ThreadReport, options: BenchOptions
) -> BenchReport:
    machine = module.new_machine()
    machine.set_input(module.entry, *module.arguments(inputs))
    place = module.places[0]

    def run() -> None:
        machine.invoke_stateful(module.entry)
        place.sync()  # a GPU's calls return before its kernels have run

    once_us, warmups = _warm_up(run, options.warmup_s)
    per_sample = max(1, int(np.ceil(SAMPLE_US / once_us)))
    wall_runs = int(options.wall_s * 1e6 / (once_us * per_sample))
    samples = max(3, min(options.runs, wall_runs))
    times = _timings(machine, module.entry, place, per_sample, samples)
    low, median, high, p90 = np.percentile(times, (25, 50, 75, 90))
    return BenchReport(
        median_us=float(median),
        p90_us=float(p90),
        min_us=float(times.min()),
        spread=float((high - low) / median),
        samples=samples,
        runs_per_sample=per_sample,
        warmup_runs=warmups,
        threads=threads,
        kernels=profile(module, inputs) if options.profile else (),
    )


def _warm_up(run: Callable[[], Any], seconds: float) -> tuple[float, int]:
    """Run for that long; return microseconds of the fastest run and their number."""
    best, count, end = float("inf"), 0, time.perf_counter() + seconds
    while count < 2 or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        best = min(best, (time.perf_counter() - started) * 1e6)
        count += 1
    return max(best, 1e-3), count


def _timings(machine: Any, entry: str, place: Any, per_sample: int, samples: int) -> Array:
    """Microseconds per run, one per sample."""
    timer = machine.time_evaluator("invoke_stateful", place, number=per_sample, repeat=samples)
    return np.asarray(timer(entry).results, dtype=np.float64) * 1e6


def profile(
    module: Module, inputs: Mapping[str, Array], runs: int = PROFILE_RUNS
) -> tuple[KernelTime, ...]:
    """Time per kernel, longest first; calls of one kernel are summed. For the threads in force.

    Of each kernel the fastest of the runs counts: what is more than that is noise.
    """
    machine = module.new_machine()
    arguments = module.arguments(inputs)
    machine[module.entry](*arguments)
    instrument = Instrument()
    instrument.at(module.processor)
    machine.set_instrument(instrument)
    passes: list[list[tuple[str, float]]] = []
    for _ in range(runs):
        instrument.rows.clear()
        machine[module.entry](*arguments)
        passes.append([(name, ns / 1e3) for name, ns in instrument.rows])
    return kernel_times(passes, module.kernels)


def _by_kernel(rows: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    """Kernel -> [calls, microseconds] of one run."""
    out: dict[str, list[float]] = {}
    for name, us in rows:
        row = out.setdefault(BUILTIN if name.startswith("vm.") else name, [0.0, 0.0])
        row[0] += 1
        row[1] += us
    return out


def kernel_times(
    runs: Iterable[Iterable[tuple[str, float]]], origins: Mapping[str, tuple[str, ...]]
) -> tuple[KernelTime, ...]:
    """The profile of several runs, each of rows (name, microseconds) without calls inside."""
    passes = [_by_kernel(rows) for rows in runs]
    names = sorted({name for one in passes for name in one})
    best = {n: min(one[n][1] for one in passes if n in one) for n in names}
    calls = {n: sum(one[n][0] for one in passes if n in one) / len(passes) for n in names}
    total = sum(best.values()) or 1.0
    rows = (
        KernelTime(n, calls[n], best[n], best[n] / total, tuple(origins.get(n, ()))) for n in names
    )
    return tuple(sorted(rows, key=lambda row: (-row.us, row.name)))
