"""Results of a run: counts per kernel and per model, in JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.instructions.ideal import HEAVY

SHOWN = 0.01
"""Heavy kernels with a smaller part of their model's multiply-adds are not listed."""
NEAR_IDEAL = 1.15
"""What a heavy kernel may take over its ideal number."""
TENTH = 10.0
"""How many times our instructions TVM zero shall take at the least."""


@dataclass(frozen=True, slots=True)
class Row:
    """All calls of one kernel in one run."""

    kernel: str
    kind: str
    calls: int
    macs: int
    all: int
    simd: int
    multiply_add: int
    ideal: float

    @property
    def over_ideal(self) -> float:
        """Instructions over the ideal number; 0 where there is none."""
        return self.all / self.ideal if self.ideal else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One peer on one model: instructions of all its kernels, or the reason why there are none.

    `difference` is the largest deviation of its outputs, computed on the phone, from those of ONNX
    Runtime on this machine, over their largest value.
    """

    model: str
    peer: str
    macs: int = 0
    all: int = 0
    simd: int = 0
    rows: tuple[Row, ...] = field(default=())
    problem: str = ""
    difference: float = 0.0


def summed(model: str, peer: str, rows: Iterable[Row], difference: float) -> Result:
    """The result of a model from its kernels."""
    found = tuple(sorted(rows, key=lambda r: (-r.all, r.kernel)))
    total = [sum(getattr(r, name) for r in found) for name in ("macs", "all", "simd")]
    return Result(model, peer, *total, found, difference=difference)


def to_json(mcpu: str, results: Sequence[Result]) -> dict[str, Any]:
    """What the file holds."""
    return {"mcpu": mcpu, "results": [asdict(r) for r in results]}


def to_markdown(mcpu: str, results: Sequence[Result]) -> str:
    """Models first, then heavy kernels."""
    parts = [
        f"Instructions executed for {mcpu}, counted on the virtual phone, one thread.\n",
        "## Models\n\nMillions of instructions of all kernels; in brackets per four "
        "multiply-adds of the direct algorithm and the share of SIMD instructions. ONNX Runtime: "
        "its whole library.\n",
        _models(results),
        "## Heavy kernels\n\nConvolutions and products with a hundredth or more of their model's "
        "multiply-adds. The ideal is one instruction per four multiply-adds and the loads of the "
        "register tile (`ideal.py`).\n",
        _kernels(_ours(results)),
        "## Against the marks\n",
        _marks(results),
    ]
    return "\n".join(parts) + "\n"


def _ours(results: Sequence[Result]) -> list[Result]:
    return [r for r in results if r.peer == "dnnfusion"]


def _marks(results: Sequence[Result]) -> str:
    """Which kernels and models are where they should be."""
    rows = [row for r in _ours(results) for row in r.rows if row.ideal and _listed(row, r)]
    near = sum(row.over_ideal <= NEAR_IDEAL for row in rows)
    zero = {r.model: r for r in results if r.peer == "zero" and not r.problem}
    pairs = [(r.model, zero[r.model].all / r.all) for r in _ours(results) if r.model in zero]
    below = [f"{name} ({ratio:.1f})" for name, ratio in pairs if ratio < TENTH]
    return (
        f"{near} of {len(rows)} heavy kernels that have an ideal are within {NEAR_IDEAL} of it. "
        f"{len(pairs) - len(below)} of {len(pairs)} models execute at most a tenth of TVM zero's "
        f"instructions; fewer times: {', '.join(below) or 'none'}.\n"
    )


def _listed(row: Row, result: Result) -> bool:
    return row.macs >= SHOWN * result.macs and row.kind in (*HEAVY, "winograd", "attention")


PEERS = {
    "dnnfusion": "this library",
    "half": "this library, float16",
    "fuseops": "FuseOps' plan, our schedules",
    "zero": "TVM zero",
    "ort": "ONNX Runtime",
}


def _models(results: Sequence[Result]) -> str:
    peers = [p for p in PEERS if any(r.peer == p for r in results)]
    lines = [_line(["model", *(PEERS[p] for p in peers), *(f"{p} / ours" for p in peers[1:])])]
    lines.append(_line(["---", *["---:"] * (2 * len(peers) - 1)]))
    for model in dict.fromkeys(r.model for r in results):
        found = {r.peer: r for r in results if r.model == model}
        ours = found.get("dnnfusion")
        macs = ours.macs if ours else 0
        cells = [_cell(found.get(p), macs) for p in peers]
        lines.append(_line([model, *cells, *(_ratio(found.get(p), ours) for p in peers[1:])]))
    return "\n".join(lines) + "\n"


def _cell(result: Result | None, macs: int) -> str:
    if result is None:
        return ""
    if result.problem:
        return result.problem
    per = f"{4 * result.all / macs:.2f}, " if macs else ""
    off = f", error {result.difference:.0e}" if result.peer == "half" else ""
    return f"{result.all / 1e6:.1f} ({per}{result.simd / result.all:.0%}{off})"


def _ratio(other: Result | None, ours: Result | None) -> str:
    if other is None or ours is None or other.problem or ours.problem:
        return ""
    return f"{other.all / ours.all:.2f}"


def _kernels(results: Sequence[Result]) -> str:
    names = ("model", "kernel", "kind", "calls", "M MACs", "per 4 MACs", "SIMD", "FMA", "of ideal")
    lines = [_line(names), _line(["---"] * 3 + ["---:"] * 6)]
    for result in results:
        for row in result.rows:
            if not _listed(row, result):
                continue
            lines.append(_line([
                result.model, row.kernel, row.kind, str(row.calls), f"{row.macs / 1e6:.1f}",
                f"{4 * row.all / row.macs:.3f}", f"{row.simd / row.all:.0%}",
                f"{row.multiply_add / row.all:.0%}",
                f"{row.over_ideal:.2f}" if row.ideal else "",
            ]))  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
