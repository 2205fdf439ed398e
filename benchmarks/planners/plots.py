"""Pictures: DRAM traffic against buffer size, a line for each planner."""

from __future__ import annotations

from pathlib import Path

from benchmarks.planners.sweeps import SHOWN, SIZES, found
from benchmarks.planners.tables import MIB, PLANNERS


def draw(folder: Path) -> None:
    """One picture for each network. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        for planner in PLANNERS:
            costs = [found(name, planner, s).dram_bytes / MIB for s in SIZES]
            axes.plot(SIZES, costs, "o-", label=planner)
        axes.set(xscale="log", yscale="log", xlabel="buffer, KB", ylabel="DRAM, MiB", title=name)
        axes.set_xticks(SIZES, [str(s) for s in SIZES])
        axes.legend()
        figure.savefig(folder / f"dram-{name}.svg", bbox_inches="tight")
        pyplot.close(figure)
