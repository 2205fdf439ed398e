"""GET against its random-splitting baseline: tables II to V and figure 5 of arXiv 2501.00636.

python -m benchmarks.planners.get_plans --table 2 --output get_table2.jsonl

Paper accounting, 16-bit words, batch 1; nodes are primitive operators, biases lie in their
convolutions as in ONNX. LBDF leaves operators whose weights exceed the buffer out of the sum, as
the paper does. Each row is written as soon as it is measured, and a run goes on where one stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.planners.get_papers import PAPER
from benchmarks.planners.networks import build
from benchmarks.planners.tables import limited
from tvm_dnnfusion.cost.memory import Accounting, MemoryModel, Setting, memory_model, network_of
from tvm_dnnfusion.ecg.graph import Graph, map_refs
from tvm_dnnfusion.planners.get.explainers import make_explainer
from tvm_dnnfusion.planners.get.planner import GetSearch, space_of
from tvm_dnnfusion.planners.get.split import Explainer
from tvm_dnnfusion.planners.memory import get_partitioner, partition
from tvm_dnnfusion.planners.memory.search import Partition

MIB = 1 << 20
EXPLAINERS = ("random", "gnne", "pg", "rg", "informed")
"""The baseline, the paper's three, and ours that needs no network."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of a table, for one seed."""

    network: str
    scheme: str
    search: str
    kib: int
    plans: int
    explainer: str
    seed: int


def cases(table: int, seeds: int, explainers: Iterable[str]) -> list[Case]:
    """The cells of a table, the seeds of one cell apart: rows fill evenly.

    Tables II to IV have the planner `memory` beside the searches, for what they might have found.
    """
    found: list[tuple[str, str, str, int, int]] = []
    if table == 2:
        found = [
            (n, m, s, kib, 5000)
            for n, m, search, kib in PAPER
            if kib == 256
            for s in (("nsga2", "nsga2-plain") if search == "nsga2" else (search,))
        ]
    elif table in (3, 4):
        search = "local" if table == 3 else "random"
        found = [(*key, 2000) for key in PAPER if key[3] == 128 and key[2] == search]
    elif table == 5:
        found = [("mobilenet-v2", "lbdf", search, 128, 2000) for search in ("local", "random")]
    else:  # figure 5
        rows = (("squeezenet", "brr", "local"), ("mobilenet-v2", "lbdf", "local"),
                ("vgg16", "lbdf", "random"))  # fmt: skip
        found = [(*row, 128, 4000) for row in rows]
    ours = dict.fromkeys((n, m, "memory", kib) for n, m, _, kib, _ in found if table < 5)
    return [Case(*key, plans=0, explainer="", seed=0) for key in ours] + [
        Case(network, scheme, search, kib, plans, explainer, seed)
        for seed in range(seeds)
        for network, scheme, search, kib, plans in found
        for explainer in explainers
    ]


def without_biases(graph: Graph) -> Graph:
    """The graph with additions of a constant to a convolution or product left out."""
    moved: dict[str, str] = {}
    kept = []
    for op in graph.ops:
        before = graph.producers.get(op.inputs[0]) if op.inputs else None
        heavy = before is not None and before.kind in ("nn.conv2d", "matmul")
        if op.kind == "add" and heavy and op.inputs[1] in graph.constants:
            moved[op.outputs[0]] = moved.get(op.inputs[0], op.inputs[0])
        else:
            kept.append(replace(op, args=tuple(map_refs(a, moved) for a in op.args)))
    return graph.rebuild(kept, outputs=tuple(moved.get(t, t) for t in graph.outputs))


def model_of(network: str, scheme: str, kib: int) -> MemoryModel:
    """A memory model with nothing in its memory."""
    layers = network_of(without_biases(build(network)), merge=False)
    return memory_model(scheme, layers, Setting(kib * 1024, accounting=Accounting.PAPER))


@dataclass
class Watched:
    """A budget without limits of its own that notes each improvement: (plans proposed, bytes)."""

    proposed: int = 0
    steps: list[tuple[int, float]] = field(default_factory=list)

    def propose(self, count: int = 1) -> None:
        self.proposed += count

    def spent(self) -> bool:
        return False

    def offer(self, groups: Any, cost: float) -> bool:
        self.steps.append((self.proposed, cost))
        return True

    def report(self, phase: str, done: int, total: int | None = None) -> None: ...


@lru_cache(maxsize=1)
def _shared(network: str, scheme: str, kib: int) -> MemoryModel:
    return model_of(network, scheme, kib)


@lru_cache(maxsize=len(EXPLAINERS))
def _explainer(model: MemoryModel, name: str) -> Explainer | None:
    return make_explainer(name, model, space_of(model))


def measured(case: Case, fresh: bool = False) -> dict[str, Any]:
    """The row of a case: traffic and largest buffer of what may be fused; the search's figures.

    Searches share what they know of groups and explanations, unless `fresh`: then times are those
    of the search alone.
    """
    at = case.network, case.scheme, case.kib
    if case.search == "memory":
        return _ours(case, model_of(*at))
    model = model_of(*at) if fresh else _shared(*at)
    given = None if fresh else _explainer(model, case.explainer)
    search = GetSearch(case.explainer, case.search, case.plans, case.seed, given=given)
    watched, began = Watched(), time.process_time()
    found = _figures(case, model, search.search(model, watched))
    apart = watched.steps[-1][1] - found["dram_mib"] * MIB  # what cannot be fused
    return {
        **asdict(case),
        "fresh": fresh,
        "steps": [(n, round((cost - apart) / MIB, 3)) for n, cost in watched.steps],
        **found,
        "cpu_seconds": time.process_time() - began,
        **(asdict(search.figures) if search.figures else {}),
        "paper_mb": PAPER.get(
            (case.network, case.scheme, case.search.removesuffix("-plain"), case.kib), {}
        ).get(case.explainer),
    }


def _figures(case: Case, model: MemoryModel, plan: Partition) -> dict[str, Any]:
    """Traffic, largest buffer and number of the groups that may be fused."""
    groups = [g for g in plan if not g & model.unfusable()]
    costs = [model.evaluate(g) for g in groups]
    fits = [c.buffer_bytes for c in costs if c.buffer_bytes < case.kib * 1024]
    return {"dram_mib": sum(c.dram_bytes for c in costs) / MIB, "mbu_kib": max(fits) / 1024,
            "groups": len(groups)}  # fmt: skip


def _ours(case: Case, model: MemoryModel) -> dict[str, Any]:
    """The row of the planner `memory`."""
    began = time.process_time()
    plan = partition(get_partitioner("memory"), model, limited())
    found = _figures(case, model, plan.groups)
    return {**asdict(case), "fresh": False, "steps": [(0, round(found["dram_mib"], 3))], **found,
            "cpu_seconds": time.process_time() - began, "seconds": plan.seconds}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing of a table; Ctrl-C keeps what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planners.get_plans")
    parser.add_argument("--table", type=int, choices=(2, 3, 4, 5, 6), required=True,
                        help="table of the paper; 6 is figure 5")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--explainers", default=",".join(EXPLAINERS))
    parser.add_argument("--networks", default="", help="only these, with commas")
    parser.add_argument("--searches", default="", help="only these, with commas")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines; rows are added")
    options = parser.parse_args(arguments)
    done = _rows(options.output)
    wanted = cases(options.table, options.seeds, options.explainers.split(","))
    for case in wanted:
        if options.networks and case.network not in options.networks.split(","):
            continue
        if options.searches and case.search not in options.searches.split(","):
            continue
        if any(all(row[k] == v for k, v in asdict(case).items()) for row in done):
            continue
        row = measured(case, fresh=options.table == 5)
        with options.output.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(f"{case}: {row['dram_mib']:.2f} MiB, {row['seconds']:.0f} s", flush=True)
    return 0


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    sys.exit(main())
