"""Latency of one kernel, robustly.

Warm-up, then samples of some milliseconds each until their spread is small, within a wall limit.
Data stays in cache between runs, as it does between the kernels of a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_dnnfusion.devices.threads import ThreadReport, call_with
from tvm_dnnfusion.profile.arrays import random_array
from tvm_dnnfusion.profile.records import Measurement

_SYMBOL = "measured_kernel"
QUIET_OVER_MIN = 1.1
"""A quiet window counts only this close to the fastest sample: load from other programs can slow a
kernel down evenly. On a 2-core guest under load whole windows were three times the minimum."""


class MeasureError(RuntimeError):
    """Something that cannot be measured: symbolic shapes, an argument that is not a tensor."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to measure.

    Sampling ends when the last `min_samples` have a spread (interquartile range over median) of at
    most `spread` and are near the fastest one, at `max_samples`, or after `wall_s` seconds. A
    sample is one timing of as many calls as take `sample_us`: 2 ms is two hundred times what a
    thread pool takes to wake. The first `warmup_us` are not counted.
    """

    spread: float = 0.05
    min_samples: int = 7
    max_samples: int = 200
    sample_us: float = 2_000.0
    warmup_us: float = 20_000.0
    wall_s: float = 3.0


def sample(
    run: Callable[[int], float],
    limits: Limits = Limits(),
    clock: Callable[[], float] = time.monotonic,
) -> Measurement:
    """Time `run(calls) -> microseconds per call` until it is steady.

    The result is that of the steady samples, or of all where they never were; its `spread` tells.
    At least one sample is taken, however slow the kernel is; the spread of a single one is 0.
    """
    deadline = clock() + limits.wall_s
    once = max(run(1), 1e-3)
    if clock() >= deadline:
        return Measurement(once, 0.0, 1)
    warmup = int(min(limits.warmup_us / once, 10_000))
    if warmup > 1 and clock() < deadline:
        once = max(run(warmup), 1e-3)
    calls = max(1, round(limits.sample_us / once))
    times: list[float] = []
    while not times or (len(times) < limits.max_samples and clock() < deadline):
        times.append(run(calls))
        window = times[-limits.min_samples :]
        if len(window) == limits.min_samples and is_quiet(window, min(times), limits.spread):
            return Measurement(float(np.median(window)), spread(window), len(times))
    return Measurement(float(np.median(times)), spread(times), len(times))


def is_quiet(window: list[float], fastest: float, limit: float) -> bool:
    """Whether samples agree with each other and with the fastest of all."""
    return spread(window) <= limit and float(np.median(window)) <= QUIET_OVER_MIN * fastest


def spread(times: list[float]) -> float:
    """Interquartile range over median."""
    low, middle, high = np.percentile(times, (25, 50, 75))
    return float((high - low) / middle) if middle > 0 else 0.0


class Built:
    """A kernel built for this machine. Arguments are made when it is measured: random, indices 0.

    Raises MeasureError for symbolic shapes and for parameters that are not buffers.
    """

    def __init__(self, func: Any, target: Mapping[str, object], seed: int = 0) -> None:
        import tvm

        self._kinds, self._seed = parameters(func), seed
        built = tvm.compile(func.with_attr("global_symbol", _SYMBOL), target=_target(target))
        self._library = built.jit()

    def measure(self, threads: int | None = None, limits: Limits = Limits()) -> Measurement:
        """Latency with so many threads (None: as `devices.threads` chooses)."""
        import tvm

        rng = np.random.default_rng(self._seed)
        arguments = [
            tvm.runtime.tensor(random_array(shape, dtype, rng, int_high=1), tvm.cpu())
            for shape, dtype in self._kinds
        ]

        def run(calls: int) -> float:
            timer = self._library.time_evaluator(_SYMBOL, tvm.cpu(), number=calls, repeat=1)
            return float(timer(*arguments).results[0]) * 1e6

        def body(_: ThreadReport) -> Measurement:
            return sample(run, limits)

        return call_with(threads, body)


def measure_primfunc(
    func: Any,
    target: Mapping[str, object],
    *,
    threads: int | None = None,
    limits: Limits = Limits(),
    seed: int = 0,
) -> Measurement:
    """Build one PrimFunc and measure it on random inputs; indices are 0.

    Raises MeasureError for symbolic shapes and for parameters that are not buffers.
    """
    return Built(func, target, seed).measure(threads, limits)


def _target(target: Mapping[str, object]) -> Any:
    from tvm.target import Target

    return target if isinstance(target, Target) else Target(dict(target))


def parameters(func: Any) -> list[tuple[tuple[int, ...], str]]:
    """Shape and dtype of each parameter of a function.

    Raises MeasureError where one is no buffer, or its shape is symbolic.
    """
    out: list[tuple[tuple[int, ...], str]] = []
    for param in func.params:
        shape = static_shape(param.ty)
        if shape is None:
            raise MeasureError(f"parameter {param.name} has no static shape: {param.ty}")
        out.append((shape, str(param.ty.dtype)))
    return out


def static_shape(kind: Any) -> tuple[int, ...] | None:
    """Shape of a tensor or buffer type; None where it is symbolic, unknown or not a tensor."""
    shape = getattr(kind, "shape", None)
    if shape is None:
        return None
    try:
        return tuple(int(d) for d in shape)
    except (TypeError, ValueError):
        return None
