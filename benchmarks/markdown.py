"""A latency report as Markdown: times and ratios, the paper's breakdown, accuracy and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.tables import OURS, Report, Result, geometric_mean

BUSY = 0.05
"""Share of processor time taken by others above which a time is named as disturbed."""

ROUGH = 1e-3
"""Deviation above which a time is named as that of a less exact runtime."""

HEADINGS = {
    "dnnfusion": "this library",
    "ort": "ONNX Runtime",
    "openvino": "OpenVINO",
    "mnn": "MNN",
    "torch": "torch eager",
    "inductor": "torch.compile",
    "zero": "TVM zero",
}
VARIANTS = {
    "unfused": "no rewriting, no fusion",
    "rewritten": "rewriting",
    "fuseops": "rewriting, FuseOps' plan",
    "dnnfusion": "rewriting and fusion",
}
"""This library in parts, all with its own schedules."""


def to_markdown(report: Report) -> str:
    """The tables that the results allow, and what must be said of them."""
    parts = [_heading(report), _latency(report)]
    if {"fuseops", "rewritten", "unfused"} & report.peers:
        parts += ["What rewriting and fusion bring under the same schedules:", _breakdown(report)]
    if any(r.error is not None or r.memory_mb is not None for r in report.results):
        parts += [_QUALITY, _quality(report)]
    if any(r.slowest is not None for r in report.results):
        parts += ["The kernel with most time beyond what its FLOPs need:", _slowest(report)]
    return "\n\n".join([*parts, *_notes(report)]) + "\n"


_QUALITY = (
    "Root mean square of the error against double precision, over that of the outputs; memory that "
    "a process holds for weights and activations; time to compile and run once:"
)


def _heading(report: Report) -> str:
    m = report.machine
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"Median latency, float32, batch 1, {m['threads']} threads on {m['cpu']} (measured peak "
        f"{m['peak_gflops']} GFLOP/s, {m['bandwidth_gbs']} GB/s). {versions}. "
        f"{report.rounds} interleaved rounds, one process per model; ratios above 1 mean that this "
        "library is faster."
    )


def _latency(report: Report) -> str:
    peers = [peer for peer in HEADINGS if peer in report.peers]
    others = [peer for peer in peers if peer != OURS]
    ours = OURS in peers
    header = ["model", *(f"{HEADINGS[p]} ms" for p in peers)]
    header += ["of the peak", "vs the best"] if ours else []
    header += [f"vs {HEADINGS[p]}" for p in others] if ours else []
    rows: list[list[str]] = []
    for model in report.models:
        row = [model, *(_ms(report, model, peer) for peer in peers)]
        if ours:
            best = report.best_rival(model)
            against = ratio(report.ratio(model, best)) if best is not None else ""
            row += [_share(report, model), against]
            row += [ratio(report.ratio(model, p)) for p in others]
        rows.append(row)
    if ours:
        blanks = [""] * (len(peers) + 1)
        means = [ratio(report.mean_ratio(p)) for p in others]
        rows.append(["geometric mean", *blanks, ratio(report.mean_against_best()), *means])
    return table(header, rows)


def _breakdown(report: Report) -> str:
    """The paper's steps: without either, rewriting, fusion; and FuseOps' plan beside ours."""
    names = [name for name in VARIANTS if name in report.peers]
    steps: dict[str, Callable[[str], float | None]] = {
        "rewriting brings": lambda m: report.ratio(m, "unfused", "rewritten"),
        "fusion brings": lambda m: report.ratio(m, "rewritten"),
        "vs FuseOps' plan": lambda m: report.ratio(m, "fuseops"),
    }
    rows = [
        [m, *(_ms(report, m, n) for n in names), *(ratio(step(m)) for step in steps.values())]
        for m in report.models
    ]
    means = [ratio(geometric_mean(step(m) for m in report.models)) for step in steps.values()]
    rows.append(["geometric mean", *([""] * len(names)), *means])
    return table(["model", *(f"{VARIANTS[n]} ms" for n in names), *steps], rows)


def _quality(report: Report) -> str:
    peers = [p for p in (OURS, "ort") if p in report.peers]
    header = ["model", *(f"error, {HEADINGS[p]}" for p in peers)]
    header += [f"MB, {HEADINGS[p]}" for p in peers]
    header += ["compile s, this library"]
    rows = []
    for model in report.models:
        found = [report.find(model, peer) for peer in peers]
        errors = ["" if r is None or r.error is None else f"{r.error:.1e}" for r in found]
        sizes = ["" if r is None or r.memory_mb is None else f"{r.memory_mb:.0f}" for r in found]
        ours = report.find(model, OURS)
        compiled = "" if ours is None else f"{ours.compile_s:.0f}"
        rows.append([model, *errors, *sizes, compiled])
    return table(header, rows)


def _slowest(report: Report) -> str:
    rows = []
    for model in report.models:
        found = report.find(model, OURS)
        if found is not None and found.slowest is not None:
            worst = found.slowest
            times = [str(worst.calls), f"{worst.us / 1e3:.3g}"]
            rows.append(
                [model, f"`{worst.kernel}`", *times, f"{worst.share:.0%}", f"{worst.of_peak:.0%}"]
            )
    return table(["model", "kernel", "calls", "ms", "of the model", "of the peak"], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio(value: float | None) -> str:
    """A ratio, or nothing."""
    return "" if value is None else f"{value:.2f}x"


def _ms(report: Report, model: str, peer: str) -> str:
    found = report.find(model, peer)
    if found is None:
        return ""
    if found.timing is None:
        return "failed"
    mark = "\\*" if found.timing.rounds < report.rounds else ""
    return f"{found.timing.median_ms:.3g}{mark}"


def _share(report: Report, model: str) -> str:
    """FLOPs of the graph that we run over our median, as a share of the measured peak."""
    ours, peak = report.find(model, OURS), float(str(report.machine["peak_gflops"]))
    if ours is None or ours.timing is None or not ours.flops or not peak:
        return ""
    return f"{ours.flops / (ours.timing.median_ms * 1e-3) / (peak * 1e9):.0%}"


def _notes(report: Report) -> Sequence[str]:
    notes: list[str] = []
    notes.append(_quiet(report))
    fewer = [f"{r.model}/{r.peer} {r.timing.rounds}" for r in _fewer(report) if r.timing]
    if fewer:
        notes.append(f"\\* fewer rounds, to bound the time: {', '.join(fewer)}.")
    rough = [f"{r.model}/{r.peer} {r.difference:.1g}" for r in report.results if _is_rough(r)]
    if rough:
        notes.append(f"Further than {ROUGH:g} from ONNX Runtime's outputs: {', '.join(rough)}.")
    failed = [f"- {r.model}, {r.peer}: {r.problem}" for r in report.results if r.problem]
    if failed:
        notes.append("Without a time:\n\n" + "\n".join(failed))
    return notes


def _quiet(report: Report) -> str:
    """What else the machine did while times were taken."""
    timed = [(r, r.timing.others) for r in report.results if r.timing is not None]
    known = [(r, others) for r, others in timed if others is not None]
    most = f"{max(others for _, others in known):.0%}" if known else "an unknown share"
    notes = [f"Others took at most {most} of the processors' time while a peer was timed."]
    busy = [f"{r.model}/{r.peer} {others:.0%}" for r, others in known if others > BUSY]
    notes += [f"Disturbed: {', '.join(busy)}."] if busy else []
    blind = dict.fromkeys(r.model for r, others in timed if others is None)
    notes += [f"Not recorded: {', '.join(blind)}."] if known and blind else []
    return " ".join(notes)


def _is_rough(result: Result) -> bool:
    return result.timing is not None and result.difference > ROUGH


def _fewer(report: Report) -> list[Result]:
    return [r for r in report.results if r.timing is not None and r.timing.rounds < report.rounds]
