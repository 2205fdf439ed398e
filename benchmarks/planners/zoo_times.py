"""Planning time of every planner on every network of the zoo: processor seconds, 128 KB, brr.

python -m benchmarks.planners.zoo_times --output rows.jsonl      goes on where it stopped
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

LIMIT_S = 10.0
"""Processor seconds of one search."""
PLANNERS = ("memory", "optimus-online", "efficient-s", "dnnvm", "optimus", "get")


def measured(path: Path) -> list[dict[str, object]]:
    """One row for each planner on an ONNX file."""
    from benchmarks.planners.tables import limited
    from tvm_dnnfusion.cli.build import load_model
    from tvm_dnnfusion.cost.memory import Setting, memory_model, network_of
    from tvm_dnnfusion.frontend.relax import from_relax
    from tvm_dnnfusion.planners.memory import get_partitioner, partition
    from tvm_dnnfusion.rewrite import RewriteOptions, rewrite

    graph = rewrite(from_relax(load_model(str(path), None)).graph, RewriteOptions()).graph
    network = network_of(graph)
    rows: list[dict[str, object]] = []
    for planner in PLANNERS:
        options = {"explainer": "informed", "search": "local"} if planner == "get" else {}
        model = memory_model("brr", network, Setting(128 * 1024))
        began = time.process_time()
        result = partition(get_partitioner(planner, **options), model, limited(LIMIT_S))
        rows.append({"network": path.stem, "layers": network.n, "planner": planner,
                     "cpu_seconds": time.process_time() - began, "complete": result.complete,
                     "dram_mib": result.dram_bytes / 2**20})  # fmt: skip
    return rows


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/tvm-dnnfusion/zoo")
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    done: list[dict[str, object]] = []
    if args.output.is_file():
        done = [json.loads(x) for x in args.output.read_text(encoding="utf-8").splitlines()]
    for path in sorted(args.folder.glob("*.onnx")):
        wanted = not args.only or path.stem in args.only
        if not wanted or any(r["network"] == path.stem for r in done):
            continue
        try:
            rows = measured(path)
        except Exception as error:  # one network that cannot be planned is a row, not the end
            rows = [{"network": path.stem, "error": f"{type(error).__name__}: {error}"[:200]}]
        done += rows
        with args.output.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(r) + "\n" for r in rows)
        print(rows, flush=True)
    print(table(done))


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown: processor seconds, and MiB in brackets; * stopped at the limit."""
    lines = [
        "| network | layers | " + " | ".join(PLANNERS) + " |",
        "|---" * (2 + len(PLANNERS)) + "|",
    ]
    for name in dict.fromkeys(str(r["network"]) for r in rows):
        mine = {str(r.get("planner")): r for r in rows if r["network"] == name}
        if "None" in mine:
            lines.append(f"| {name} | {mine['None']['error']} |" + " |" * len(PLANNERS))
            continue
        cells = [
            f"{float(str(r['cpu_seconds'])):.2f}{'' if r['complete'] else '*'}"
            f" ({float(str(r['dram_mib'])):.1f})"
            for r in (mine[p] for p in PLANNERS if p in mine)
        ]
        lines.append(f"| {name} | {mine['memory']['layers']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
