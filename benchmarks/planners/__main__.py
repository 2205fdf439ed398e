"""Optimus' figures beside ours, and all planners with everything charged (GET: `get_plans`).

python -m benchmarks.planners --output benchmarks/results/planners.md [--plots FOLDER] [--only ...]

Deterministic but for the times. The whole takes some minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.planners import papers, plots, sweeps, tables

SECTIONS = {
    "published": tables.published,
    "sizes": tables.sizes,
    "batches": tables.batches,
    "buffers": sweeps.buffers,
    "more-batches": sweeps.batches,
    "arrays": sweeps.arrays,
    "processors": sweeps.processors,
    "savings": sweeps.savings,
    "energies": sweeps.energies,
    "online": sweeps.online,
    "full": tables.full,
    "times": tables.times,
}


def main() -> None:
    """Print the sections asked for, or write them to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="a Markdown file")
    parser.add_argument("--plots", type=Path, help="folder for pictures; needs matplotlib")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    args = parser.parse_args()
    parts = [papers.HEAD]
    for name in args.only:
        parts.append(SECTIONS[name]())
        print(parts[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(parts), encoding="utf-8")
    if args.plots:
        plots.draw(args.plots)


if __name__ == "__main__":
    main()
