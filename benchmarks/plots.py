"""Pictures of a latency report: ratios to the best peer, and the breakdown.

python -m benchmarks.plots build/zoo.json     # writes build/zoo-ratio.svg and -breakdown.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.tables import OURS, RIVALS, Report, from_json

STEPS = (("unfused", "neither"), ("rewritten", "rewriting"), (OURS, "and fusion"))
WIDTH_PER_MODEL, HEIGHT = 0.6, 4.0
"""Inches."""

COLOURS = ("#9aa5b1", "#f0a04b", "#4c9f70", "#3465a4")


def main(arguments: list[str] | None = None) -> int:
    """Write the pictures that the results allow; their names are printed."""
    names = sys.argv[1:] if arguments is None else arguments
    if len(names) != 1:
        print("usage: python -m benchmarks.plots REPORT.json", file=sys.stderr)
        return 2
    try:
        import matplotlib
    except ImportError:
        print("pictures need matplotlib: pip install '.[plots]'", file=sys.stderr)
        return 1
    matplotlib.use("svg")
    source = Path(names[0])
    try:
        report = from_json(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{source}: no report of benchmarks.latency ({error})", file=sys.stderr)
        return 2
    made = {
        "ratio": against(report),
        "breakdown": breakdown(report),
    }
    for kind, figure in made.items():
        if figure is not None:
            target = source.with_name(f"{source.stem}-{kind}.svg")
            figure.savefig(target, bbox_inches="tight", metadata={"Date": None})
            print(target)
    return 0


def against(report: Report):
    """Bars per model: each peer's time over ours; above the line at 1 this library is faster."""
    rows = {
        peer: [report.ratio(model, peer) for model in report.models]
        for peer in RIVALS
        if peer in report.peers
    }
    if not rows or OURS not in report.peers:
        return None
    return _bars(report.models, rows, "time over this library's", line=1.0)


def breakdown(report: Report):
    """Bars per model: time over that of the unfused module."""
    if not {peer for peer, _ in STEPS} <= report.peers:
        return None
    rows = {
        label: [report.ratio(model, peer, "unfused") for model in report.models]
        for peer, label in STEPS
    }
    return _bars(report.models, rows, "time over that with neither")


def _bars(
    models: tuple[str, ...],
    rows: dict[str, list[float | None]],
    label: str,
    line: float | None = None,
):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, WIDTH_PER_MODEL * len(models)), HEIGHT))
    axes = figure.subplots()
    width = 0.8 / len(rows)
    for index, (name, values) in enumerate(rows.items()):
        found = [(x, v) for x, v in enumerate(values) if v is not None]
        places = [x + (index - (len(rows) - 1) / 2) * width for x, _ in found]
        axes.bar(places, [v for _, v in found], width, label=name, color=COLOURS[index])
    if line is not None:
        axes.axhline(line, color="black", linewidth=0.8)
    names = [model.rpartition("/")[2] for model in models]
    axes.set_xticks(range(len(models)), names, rotation=60, ha="right")
    axes.set_ylabel(label)
    axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
