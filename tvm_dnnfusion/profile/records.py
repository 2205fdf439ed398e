"""The records of the profile room: a measurement, and a row of the database. No TVM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """Latency of one kernel or module.

    `median_us` is in microseconds per call; `spread` is the interquartile range divided by the
    median (0.05: half of the samples lie within 5 %); `samples` counts timed samples.
    """

    median_us: float
    spread: float
    samples: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the profile database.

    `key` is `keys.entry_key` of `block` (canonical JSON), `device`, `threads` and `schedule`;
    `when` is UTC in ISO 8601; `library` the version of this library that measured.
    """

    key: str
    block: str
    device: str
    threads: int
    schedule: str
    latency_us: float
    spread: float
    samples: int
    when: str
    library: str
