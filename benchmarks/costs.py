"""What decides the yellow cells, side by side: measurements, the latency model, the estimate.

    python -m benchmarks.costs                                  # some small models, minutes
    python -m benchmarks.costs squeezenet zoo/mobilenet_v2 --markdown costs.md

Each model is planned five ways: measuring into an empty database, from that database, with the
latency model, with its members that saw no block of the model (left out), and with the analytic
estimate. Planning is timed whole, and the answers alone; without measurements it is the median of
several plannings, each by a cost that knows nothing yet. Plans that differ are compiled and timed
in interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rounds
from benchmarks.models import ZOO_PREFIX, inputs, load
from benchmarks.peers import prepare_library
from tvm_dnnfusion.cost import AnalyticCost, Cost
from tvm_dnnfusion.cost.database import DatabaseCost
from tvm_dnnfusion.cost.learned import Forest, LearnedCost, learned_cost
from tvm_dnnfusion.cost.learned.train import left_out_by
from tvm_dnnfusion.cost.protocol import SettlingCost
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend import load as import_model
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.measuring import block_measurer
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.profile import ProfileDB
from tvm_dnnfusion.rewrite import RewriteOptions, rewrite
from tvm_dnnfusion.schedules.dispatch import VERSION

MODELS = ("squeezenet", "shufflenet", "zoo/mobilenet_v2", "zoo/efficientnet_b0", "zoo/tinybert")
REFERENCE = "measured"
PLANNINGS = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One way of planning a model.

    `same` is whether the blocks are those of the plan with measurements; `latency_ms` that of the
    compiled plan (0: not timed), `ratio` the latency over that with measurements.
    """

    model: str
    cost: str
    plan_s: float
    answers_s: float
    asked: int
    kernels: int
    same: bool
    latency_ms: float = 0.0
    ratio: float = 1.0


class Counting:
    """A cost that counts how many groups it is asked about, and the seconds that it takes."""

    def __init__(self, cost: Cost) -> None:
        self.cost, self.asked, self.seconds = cost, 0, 0.0
        if isinstance(cost, SettlingCost):
            self.settle = partial(self._timed, cost.settle)

    def latency_us(self, ops: Any, graph: Graph) -> Any:
        """As the cost behind."""
        self.asked += 1
        return self._timed(self.cost.latency_us, ops, graph)

    def _timed(self, answer: Any, ops: Any, graph: Graph) -> Any:
        began = time.perf_counter()
        found = answer(ops, graph)
        self.seconds += time.perf_counter() - began
        return found


def without(forest: Forest, model: str) -> Forest | None:
    """The members that saw no block of a model; None where the forest was not trained on it."""
    names = sorted(forest.facts["left_out"])
    if model not in names:
        return None
    blind = left_out_by(names, model)
    trees = np.isin(forest.members, blind)
    members = np.searchsorted(blind, forest.members[trees]).astype(np.int32)
    return replace(forest, roots=forest.roots[trees], members=members)


def measure(name: str, count: int, turns: int) -> list[Row]:
    """Plan a model in every way, then time what differs."""
    model, device = load(name), registry.host()
    graph = rewrite(from_relax(import_model(model)).graph, RewriteOptions()).graph
    with tempfile.TemporaryDirectory() as folder, ProfileDB(Path(folder) / "p.sqlite") as db:
        new = partial(DatabaseCost, db, device, AnalyticCost(device),
                      schedule_version=str(VERSION), threads=count)  # fmt: skip
        costs: dict[str, Callable[[], Cost]] = {
            REFERENCE: lambda: new(block_measurer(device, count)),
            "database": new,
            "learned": lambda: learned_cost(device),
            "analytic": lambda: AnalyticCost(device),
        }
        blind = _blind(learned_cost(device), name)
        if blind is not None:
            costs["left out"] = lambda: LearnedCost(blind, device)
        plans, rows = {}, []
        for cost_name, make in costs.items():
            times = 1 if cost_name == REFERENCE else PLANNINGS
            plans[cost_name], row = _planned(name, cost_name, make, times, graph, device)
            same = _groups(plans[cost_name]) == _groups(plans[REFERENCE])
            rows.append(replace(row, same=same))
    return _timed(rows, plans, name, model, count, turns)


def _blind(cost: Cost, name: str) -> Forest | None:
    """The members of the latency model that saw no block of a model."""
    if not isinstance(cost, LearnedCost):
        return None
    return without(cost.forest, name.removeprefix(ZOO_PREFIX))


def _planned(name: str, cost_name: str, make: Callable[[], Cost], times: int, graph: Graph,
             device: DeviceSpec) -> tuple[Plan, Row]:  # fmt: skip
    """Plan several times from nothing: the plan, and a row with the medians."""
    spent: list[tuple[float, float]] = []
    for _ in range(times):
        counting = Counting(make())
        began = time.perf_counter()
        made = plan(extend(graph), device=device, cost=counting)
        spent.append((time.perf_counter() - began, counting.seconds))
    whole, answers = (round(statistics.median(column), 5) for column in zip(*spent))
    return made, Row(name, cost_name, whole, answers, counting.asked, len(made.blocks), False)


def _groups(made: Plan) -> list[tuple[str, ...]]:
    return sorted(tuple(sorted(b.ops)) for b in made.blocks)


def _timed(
    rows: list[Row], plans: Mapping[str, Plan], name: str, model: Any, count: int, turns: int
) -> list[Row]:
    """Rows with latencies: each different plan once."""
    different = {r.cost: plans[r.cost] for r in rows if r.cost == REFERENCE or not r.same}
    if len(different) == 1:
        return rows
    feed = inputs(name)
    sessions = {
        cost: prepare_library(model, feed, count, plan=made) for cost, made in different.items()
    }
    found = {cost: t.median_ms for cost, t in rounds.measure(sessions, turns).items()}
    base = found[REFERENCE]
    times = {r.cost: found.get(r.cost, base) for r in rows}
    return [replace(r, latency_ms=round(times[r.cost], 3), ratio=round(times[r.cost] / base, 4))
            for r in rows]  # fmt: skip


def markdown(rows: list[Row]) -> str:
    """A table, one line per model and cost."""
    head = "| model | decided by | planning, s | answers, s | asked | kernels | plan | latency |\n"
    lines = [head, "|---|---|---|---|---|---|---|---|\n"]
    for r in rows:
        plan_of = "the same" if r.same else "another"
        latency = f"{r.latency_ms:.2f} ms, x {r.ratio:.3f}" if r.latency_ms else "the same"
        lines.append(
            f"| {r.model} | {r.cost} | {r.plan_s:.3f} | {r.answers_s:.4f} | {r.asked} "
            f"| {r.kernels} | {plan_of} | {latency} |\n"
        )
    return "".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="costs of fusion decisions, side by side")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--threads", type=int, default=registry.host().cores)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", type=Path, default=None, help="append the table to this file")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    rows: list[Row] = []
    for name in options.models:
        print(name, file=sys.stderr, flush=True)
        found = measure(name, options.threads, options.rounds)
        rows += found
        print("\n".join(json.dumps(asdict(r)) for r in found), flush=True)
    if options.markdown is not None:
        with options.markdown.open("a", encoding="utf-8") as out:
            out.write(markdown(rows))


if __name__ == "__main__":
    main()
