"""What the phone bench measures and what it finds, as plain values that become JSON and come back.

The three columns are those of the paper's evaluation: OurB without fusion, OurB+ with the fusion
that other frameworks do, DNNF with graph rewriting and DNNFusion's plan; all with our schedules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Variant:
    """One column: its name in the paper, the planner's name, and whether the graph is rewritten."""

    name: str
    planner: str
    rewrite: bool
    means: str


VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("OurB", "none", False, "no fusion"),
        Variant("OurB+", "tvm", False, "TVM's FuseOps plan"),
        Variant("DNNF", "dnnfusion", True, "rewriting and DNNFusion's plan"),
    )
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of a profile: calls and microseconds per run, share of all, source layers.

    `instructions` are those of all its calls in one run, 0 where the device counts none.
    """

    name: str
    calls: float
    us: float
    share: float
    origins: tuple[str, ...]
    instructions: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """One column of one model.

    `problem` says why there is no time ("" where there is one): a wrong result, a crash. Errors are
    the largest over all outputs, relative to the outputs' root mean square. `celsius` and `mhz` are
    the hottest zone and the clocks before and after, where the device says. `lost` tells of each
    time that the device went away meanwhile; `library_bytes` is what was sent.
    """

    variant: str
    kernels: int
    library_bytes: int
    problem: str = ""
    error: float = 0.0
    samples_us: tuple[float, ...] = ()
    runs_per_sample: int = 0
    warmup_runs: int = 0
    median_us: float = 0.0
    p90_us: float = 0.0
    min_us: float = 0.0
    celsius: tuple[float | None, float | None] = (None, None)
    mhz: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    lost: tuple[str, ...] = ()
    profile: tuple[Kernel, ...] = ()
    instructions: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One model on one device.

    `decides` is what was measured and how, `key` a digest of it: results of another key are not
    mixed in when a run goes on. `made` is when it began, by this machine's clock.
    `emulated` is what emulates the device, "" for a real one: times are then the emulator's.
    `float16` is whether convolutions and products were computed in it, `float16_sums` what sums of
    float16 were kept in.
    """

    key: str
    model: str
    device: str
    address: str
    target: Mapping[str, object]
    machine: str
    system: str
    processors: int
    threads: int
    emulated: str
    float16: bool = False
    float16_sums: str = "float16"
    results: tuple[Result, ...] = field(default_factory=tuple)
    decides: Mapping[str, object] = field(default_factory=dict)
    made: str = ""

    def done(self) -> tuple[Result, ...]:
        """The columns that need not be measured again: those with a time."""
        return tuple(r for r in self.results if not r.problem)

    def differs(self, other: Report) -> str:
        """Names of what decides the measurement and is not the same in both."""
        names = [n for n in {**self.decides, **other.decides}
                 if self.decides.get(n) != other.decides.get(n)]  # fmt: skip
        return ", ".join(names) or "the version of this package"

    def result(self, variant: str) -> Result | None:
        """The column of that name."""
        return next((r for r in self.results if r.variant == variant), None)


def key_of(decides: Mapping[str, object]) -> str:
    """Twelve hexadecimal digits of what decides a measurement."""
    text = json.dumps(decides, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def to_json(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(asdict(report), indent=1) + "\n"


def read(path: Path) -> Report | None:
    """A report that `to_json` wrote; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError):
        return None
