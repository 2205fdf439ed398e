"""Results of a latency run as JSON and as a Markdown table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rounds import Timing

OURS = "dnnfusion"
BUSY = 0.5
"""Load average before the run above which the table says that the machine was not idle."""

HEADINGS = {
    "dnnfusion": "this library",
    "fuseops": "FuseOps' plan",
    "zero": "TVM zero",
    "ort": "ONNX Runtime",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One peer on one model: a timing, or the reason why there is none.

    `difference` is the largest deviation from ONNX Runtime's outputs over their largest value.
    """

    model: str
    peer: str
    timing: Timing | None
    difference: float = 0.0
    compile_s: float = 0.0
    flops: int = 0
    problem: str = ""


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
    def peers(self) -> tuple[str, ...]:
        """Peers that took part, ours first."""
        seen = {r.peer for r in self.results}
        return tuple(name for name in HEADINGS if name in seen)

    def speedup(self, model: str, peer: str) -> float | None:
        """How many times faster than `peer` this library is on a model."""
        ours, theirs = self.find(model, OURS), self.find(model, peer)
        if ours is None or theirs is None or ours.timing is None or theirs.timing is None:
            return None
        return theirs.timing.median_ms / ours.timing.median_ms

    def mean_speedup(self, peer: str) -> float | None:
        """Geometric mean of the speed-ups over the models on which both ran."""
        ratios = [r for model in self.models if (r := self.speedup(model, peer)) is not None]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def to_json(report: Report) -> str:
    """The report with its geometric means."""
    others = [peer for peer in report.peers if peer != OURS]
    data = {
        **asdict(report),
        "geometric_mean_speedup": {peer: report.mean_speedup(peer) for peer in others},
    }
    return json.dumps(data, indent=2) + "\n"


def to_markdown(report: Report) -> str:
    """Medians in ms per model and peer, and speed-ups of this library."""
    others = [peer for peer in report.peers if peer != OURS] if OURS in report.peers else []
    header = ["model", *(f"{HEADINGS[p]} ms" for p in report.peers)]
    header += ["of the peak"] if others else []
    header += [f"vs {HEADINGS[p]}" for p in others]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for model in report.models:
        cells = [_cell(report.find(model, peer), report.rounds) for peer in report.peers]
        share = [_share(report, model)] if others else []
        rows.append([model, *cells, *share, *(_ratio(report.speedup(model, p)) for p in others)])
    if others:
        blanks = [""] * (len(report.peers) + 1)
        means = (_ratio(report.mean_speedup(p)) for p in others)
        rows.append(["geometric mean", *blanks, *means])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return "\n\n".join([_heading(report), table, *_notes(report)]) + "\n"


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


def _heading(report: Report) -> str:
    m = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"Median latency, float32, batch 1, {m['threads']} threads on {m['cpu']} (measured peak "
        f"{m['peak_gflops']} GFLOP/s, {m['bandwidth_gbs']} GB/s). {versions}. "
        f"{report.rounds} interleaved rounds in one process; ratios above 1 mean that this library "
        "is faster."
    )


def _cell(result: Result | None, rounds: int) -> str:
    if result is None:
        return ""
    if result.timing is None:
        return "failed"
    mark = "\\*" if result.timing.rounds < rounds else ""
    return f"{result.timing.median_ms:.3g}{mark}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _share(report: Report, model: str) -> str:
    """FLOPs of the graph that we run over our median, as a share of the measured peak."""
    ours, peak = report.find(model, OURS), float(str(report.machine["peak_gflops"]))
    if ours is None or ours.timing is None or not ours.flops or not peak:
        return ""
    return f"{ours.flops / (ours.timing.median_ms * 1e-3) / (peak * 1e9):.0%}"


def _notes(report: Report) -> Sequence[str]:
    notes: list[str] = []
    load = float(str(report.machine["load_average"]))
    if load > BUSY:
        notes.append(f"The machine was busy (load average {load} before the run): not for quoting.")
    fewer = [
        f"{r.model}/{r.peer} {r.timing.rounds}"
        for r in report.results
        if r.timing is not None and r.timing.rounds < report.rounds
    ]
    if fewer:
        notes.append(f"\\* fewer rounds, to bound the time: {', '.join(fewer)}.")
    failed = [f"- {r.model}, {r.peer}: {r.problem}" for r in report.results if r.problem]
    if failed:
        notes.append("Without a time:\n\n" + "\n".join(failed))
    return notes
