"""Pictures: DRAM traffic against buffer size, a line for each planner."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.planners.sweeps import SHOWN, SIZES, found
from benchmarks.planners.tables import MIB, PLANNERS


def draw(folder: Path) -> None:
    """A picture for each network, and figures as JSON. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    costs = {n: {p: [found(n, p, s).dram_bytes / MIB for s in SIZES] for p in PLANNERS}
             for n in SHOWN}  # fmt: skip
    text = json.dumps({"kib": SIZES, "dram_mib": costs}, indent=1) + "\n"
    (folder / "planners-buffers.json").write_text(text, encoding="utf-8")
    for name in SHOWN:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        for planner in PLANNERS:
            axes.plot(SIZES, costs[name][planner], "o-", label=planner)
        axes.set(xscale="log", yscale="log", xlabel="buffer, KB", ylabel="DRAM, MiB", title=name)
        axes.set_xticks(SIZES, [str(s) for s in SIZES])
        axes.legend()
        figure.savefig(folder / f"dram-{name}.svg", bbox_inches="tight")
        pyplot.close(figure)
