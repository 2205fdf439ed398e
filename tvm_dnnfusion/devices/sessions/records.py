"""What a session says about its device and its measurements: plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CLUSTERS: Mapping[str, int] = {"all": 0, "big": 1, "little": -1}
"""Core clusters by the affinity mode of TVM's `runtime.config_threadpool`. Big ones are those of
the highest maximum clock, little ones those of the lowest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines in seconds; after each comes an error, never a hang.

    `connect_s`: an answer to a handshake (0.03 s on the same machine, below 1 s over a phone's
    wireless). `queue_s`: a device from a tracker where all are busy. `upload_s`: sending and
    loading a library. `call_s`: one run, or one group of samples. `return_s`: a lost device's way
    back during a benchmark, which may happen `restarts` times. `session_s`: the whole session, kept
    by the server, against clients that vanish; 0 for none.
    """

    connect_s: float = 10.0
    queue_s: float = 60.0
    upload_s: float = 120.0
    call_s: float = 300.0
    return_s: float = 30.0
    restarts: int = 2
    session_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the device says of itself; empty or 0 where its server is not ours and cannot say.

    `machine` is ELF's name of its instruction set, `max_mhz` the highest clock of each core,
    `session` the name of the process that serves us, `emulated` what emulates the device, if that
    is so: its times say nothing about a real one.
    """

    machine: str = ""
    system: str = ""
    processors: int = 0
    max_mhz: tuple[int, ...] = ()
    tvm: str = ""
    session: str = ""
    emulated: str = ""

    @property
    def ours(self) -> bool:
        """Whether the server is `tvm_dnnfusion.devices.server`, which can profile kernels."""
        return bool(self.session)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Temperatures in degrees Celsius by zone and current clocks in MHz; empty where unknown."""

    celsius: Mapping[str, float] = field(default_factory=dict)
    mhz: tuple[int, ...] = ()

    @property
    def hottest(self) -> float | None:
        """The highest temperature; None where none is known."""
        return max(self.celsius.values(), default=None)


@dataclass(frozen=True, slots=True)
class CoolDown:
    """Rests that keep a phone from throttling.

    `pause_s` between samples; before measuring, wait until the hottest zone is below
    `below_celsius`, for at most `at_most_s`.
    """

    pause_s: float = 0.0
    below_celsius: float | None = None
    at_most_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds per run, one per sample of `runs_per_sample` runs, in the order taken.

    `lost` says why the device was lost while measuring, once per loss; the samples before it are
    kept, and the rest were taken after it had come back.
    """

    samples_us: tuple[float, ...]
    runs_per_sample: int
    warmup_runs: int
    lost: tuple[str, ...] = ()

    @property
    def median_us(self) -> float:
        """The median."""
        return float(np.median(self.samples_us))

    @property
    def p90_us(self) -> float:
        """The 90th percentile."""
        return float(np.percentile(self.samples_us, 90))

    @property
    def min_us(self) -> float:
        """The fastest."""
        return min(self.samples_us)

    @property
    def spread(self) -> float:
        """Interquartile range over median."""
        low, high = np.percentile(self.samples_us, (25, 75))
        return float((high - low) / self.median_us)


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """How to time: `samples` groups of runs, each at least `sample_us` long, after `warmup_s`.

    They are fewer, but `FEWEST` at least, where `wall_s` seconds are over before.

    200 us is two hundred times what the timer's call costs.
    """

    samples: int = 20
    sample_us: float = 200.0
    warmup_s: float = 0.2
    cool: CoolDown = CoolDown()
    wall_s: float = math.inf


FEWEST = 3
"""Samples that are taken whatever they cost: a median wants them."""
LIMITS = Limits()
TIMING = TimingOptions()

KernelCall = tuple[str, float]
"""Name of a kernel and the microseconds of one call, without calls inside it."""

KernelCount = tuple[str, Mapping[str, int]]
"""Name of a kernel and its executed instructions by class: "all", of which "branch", "load_store",
"vector_load_store", "vector" and "other"; "multiply_add" are those of "vector" that do both."""
