"""Results of a latency run: records, their JSON, files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rounds import Timing

OURS = "dnnfusion"
RIVALS = ("ort", "openvino", "mnn")
"""Among these the best peer of a model is found."""


@dataclass(frozen=True, slots=True)
class Slowest:
    """The kernel with most time to win: microseconds over all its `calls` in one run, their share
    of the model's time, and the share of the multiply-add peak that it reaches."""

    kernel: str
    calls: int
    us: float
    share: float
    of_peak: float


@dataclass(frozen=True, slots=True)
class Result:
    """One peer on one model: a timing, or the reason why there is none.

    `difference` is the largest deviation from ONNX Runtime's outputs over their largest value,
    `error` the root mean square of the error over that of outputs in double precision, `memory_mb`
    what a process holds for the model.
    """

    model: str
    peer: str
    timing: Timing | None
    difference: float = 0.0
    compile_s: float = 0.0
    flops: int = 0
    problem: str = ""
    error: float | None = None
    memory_mb: float | None = None
    slowest: Slowest | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: where, with what, and every result."""

    machine: Mapping[str, object]
    versions: Mapping[str, str]
    rounds: int
    results: tuple[Result, ...]

    def find(self, model: str, peer: str) -> Result | None:
        """The result of a peer on a model."""
        return next((r for r in self.results if (r.model, r.peer) == (model, peer)), None)

    @property
    def models(self) -> tuple[str, ...]:
        """Models in the order in which they ran."""
        return tuple(dict.fromkeys(r.model for r in self.results))

    @property
    def peers(self) -> frozenset[str]:
        """Peers that took part."""
        return frozenset(r.peer for r in self.results)

    def median_ms(self, model: str, peer: str) -> float | None:
        """Median latency; None where there is none."""
        found = self.find(model, peer)
        return found.timing.median_ms if found is not None and found.timing is not None else None

    def ratio(self, model: str, slower: str, faster: str = OURS) -> float | None:
        """How many times as long `slower` takes as `faster`."""
        above, below = self.median_ms(model, slower), self.median_ms(model, faster)
        return None if above is None or below is None else above / below

    def best_rival(self, model: str) -> str | None:
        """The fastest of the rivals that have a time."""
        times = [(t, p) for p in RIVALS if (t := self.median_ms(model, p)) is not None]
        return min(times)[1] if times else None

    def mean_ratio(self, slower: str, faster: str = OURS) -> float | None:
        """Geometric mean of a ratio over the models on which both ran."""
        return geometric_mean(self.ratio(model, slower, faster) for model in self.models)

    def mean_against_best(self) -> float | None:
        """Geometric mean, over the models, of the best rival's time over ours."""
        return geometric_mean(
            self.ratio(model, best)
            for model in self.models
            if (best := self.best_rival(model)) is not None
        )


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of those that are numbers; None where there is none."""
    found = [value for value in values if value is not None]
    return math.exp(sum(map(math.log, found)) / len(found)) if found else None


def to_json(report: Report) -> str:
    """The report with its geometric means."""
    means = {peer: report.mean_ratio(peer) for peer in sorted(report.peers - {OURS})}
    data = {
        **asdict(report),
        "geometric_mean_speedup": means,
        "geometric_mean_against_best": report.mean_against_best(),
    }
    return json.dumps(data, indent=2) + "\n"


def from_json(text: str) -> Report:
    """A report that `to_json` wrote."""
    data: dict[str, Any] = json.loads(text)
    results = tuple(_result(row) for row in data["results"])
    return Report(data["machine"], data["versions"], data["rounds"], results)


def merge(reports: Iterable[Report]) -> Report:
    """Reports of single models as one: a later result replaces an earlier one of the same pair.

    The machine's figures are those of the last report.
    """
    found = list(reports)
    rows = {(r.model, r.peer): r for report in found for r in report.results}
    versions = {name: v for report in found for name, v in report.versions.items()}
    return Report(found[-1].machine, versions, min(r.rounds for r in found), tuple(rows.values()))


def _result(row: dict[str, Any]) -> Result:
    timing, worst = row["timing"], row.get("slowest")
    return Result(
        **{
            **row,
            "timing": Timing(**timing) if timing else None,
            "slowest": Slowest(**worst) if worst else None,
        }
    )


def write(files: Mapping[Path, str]) -> None:
    """Write all files, each whole; none where one of them cannot be written."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path].write_text(text, encoding="utf-8")
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
