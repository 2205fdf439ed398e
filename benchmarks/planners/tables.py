"""The tables, as Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import lru_cache

from benchmarks.planners import papers
from benchmarks.planners.networks import build
from tvm_dnnfusion.cost.memory import (
    Accounting,
    MemoryModel,
    Network,
    Setting,
    memory_model,
    network_of,
)
from tvm_dnnfusion.cost.memory.published import PublishedModel
from tvm_dnnfusion.devices import registry
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.planners import plan
from tvm_dnnfusion.planners.memory import Budget, Result, get_partitioner, partition
from tvm_dnnfusion.planners.memory.limited import Limited
from tvm_dnnfusion.planners.memory.linear import flags_of
from tvm_dnnfusion.planners.memory.search import singles
from tvm_dnnfusion.planners.plan import Plan

MIB = 2**20
BASELINES = ("optimus", "efficient-s", "dnnvm", "none")
PLANNERS = ("memory", "optimus", "optimus-online", "efficient-s", "dnnvm", "none")
FULL = ("alexnet", "vgg16", "vgg19", "squeezenet", "mobilenet-v1", "mobilenet-v2",
        "mobilenet-v3-large", "resnet18", "resnet50", "resnet152", "googlenet", "efficientnet-b0",
        "efficientnet-b3", "deeplab-v3", "randwire-a")  # fmt: skip
OTHERS = ("get", "dnnfusion", "tvm")
"""GET by the informed splitter in a local search; plans made for other ends, held to the buffer."""
LIMIT_S = 10.0
"""Processor seconds of each search; only Optimus' off-line search on wide networks meets it."""
GET_PLANS = 500


def limited(seconds: float = LIMIT_S) -> Budget:
    """A limit in processor seconds: what else runs on the machine does not end a search."""
    return Budget(seconds, clock=time.process_time)


@lru_cache
def network(name: str) -> Network:
    """A network of the tables."""
    return network_of(build(name))


def moved(name: str, planner: str, kib: int, batch: int) -> float:
    """MiB in `paper` accounting, each method under its own published model."""
    setting = Setting(kib * 1024, 2, batch, Accounting.PAPER)
    flags = flags_of(planner)
    model = PublishedModel(network(name), setting, *([flags] if flags else []))
    if planner == "none":
        return sum(model.evaluate(g).moved_bytes for g in singles(model)) / MIB
    found = partition(get_partitioner(planner), model, limited())
    return sum(c.moved_bytes for c in found.costs) / MIB


def published() -> str:
    """Optimus against its baselines, 128 KB, batch 4."""
    rows: list[list[str]] = []
    for name, printed in papers.BATCH4.items():
        for planner, theirs in zip(BASELINES, printed):
            rows.append(_pair(name, planner, theirs, moved(name, planner, 128, 4)))
    head = ("network", "method", "authors", "here", "difference", "why")
    return section("Published accounting: methods, 128 KB, batch 4", head, rows)


def sizes() -> str:
    """Optimus over buffers and batches; SqueezeNet over buffers."""
    rows: list[list[str]] = []
    for name, printed in papers.OPTIMUS_SIZES.items():
        settings = [(kib, batch) for batch in (1, 4) for kib in (128, 256, 512)]
        for (kib, batch), theirs in zip(settings, printed):
            ours = moved(name, "optimus", kib, batch)
            rows.append(_pair(name, f"{kib} KB, batch {batch}", theirs, ours))
    for kib, printed in papers.SQUEEZENET.items():
        for planner, theirs in zip(BASELINES, printed):
            ours = moved("squeezenet-optimus", planner, kib, 4)
            rows.append(_pair("squeezenet-optimus", f"{planner}, {kib} KB, batch 4", theirs, ours))
    return section("Published accounting: buffers",
                    ("network", "case", "authors", "here", "difference", "why"), rows)  # fmt: skip


def batches() -> str:
    """Batch sizes at 128 KB."""
    rows: list[list[str]] = []
    for (name, batch), printed in papers.BATCHES.items():
        for planner, theirs in zip(BASELINES, printed):
            found = _pair(name, planner, theirs, moved(name, planner, 128, batch))
            rows.append([name, f"{planner}, batch {batch}", *found[2:]])
    return section("Published accounting: batches, 128 KB",
                    ("network", "case", "authors", "here", "difference", "why"), rows)  # fmt: skip


def full() -> str:
    """Every planner with everything charged; a planner that is stopped keeps its best plan."""
    rows: list[list[str]] = []
    for kind, kib in (("brr", 128), ("lbdf", 256), ("tiles", 256)):
        for name in FULL:
            found = {p: _found(name, kind, kib, p) for p in (*PLANNERS, *OTHERS)}
            rows.append([name, kind, str(kib), *(_mib(f) for f in found.values()),
                         _saving(found), least(list(found.values()))])  # fmt: skip
    head = ("network", "model", "KB", *PLANNERS, *OTHERS, "saving %", "`memory` least")
    return section("Everything charged, batch 1", head, rows, _FULL_NOTE)


_FULL_NOTE = f"""`*`: stopped after {LIMIT_S:.0f} processor seconds. `get`: informed splitter, local
search, {GET_PLANS} plans. `dnnfusion`, `tvm` (FuseOps): their plans, cut where they do not fit.
saving: of `memory` against efficient-s, dnnvm and none.

"""


def least(results: Sequence[Result]) -> str:
    """Whether none of the results moves less than the first."""
    return "yes" if results[0].dram_bytes <= min(r.dram_bytes for r in results) else "NO"


def times() -> str:
    """Seconds of every planner at 128 KB, everything charged."""
    rows: list[list[str]] = []
    for name in FULL:
        row = [name, str(network(name).n)]
        for p in PLANNERS[:-1]:
            began = time.process_time()
            found = partition(get_partitioner(p), _model(name, "brr", 128, 1), limited())
            star = "" if found.complete else "*"
            row.append(f"{time.process_time() - began:.2f}{star}")
        rows.append(row)
    return section("Planning time in CPU seconds, 128 KB", ("network", "layers", *PLANNERS[:-1]),
                    rows)  # fmt: skip


@lru_cache
def _found(name: str, kind: str, kib: int, planner: str) -> Result:
    model = _model(name, kind, kib, 1)
    if planner == "none":
        groups = singles(model)
        return Result(groups, tuple(model.evaluate(g) for g in groups), 0.0, 0, True)
    if planner in ("dnnfusion", "tvm"):
        return partition(Limited(_other(name, planner)), model)
    options = {"explainer": "informed", "search": "local", "plans": GET_PLANS}
    return partition(get_partitioner(planner, **(options if planner == "get" else {})), model,
                     limited())  # fmt: skip


@lru_cache
def _other(name: str, planner: str) -> Plan:
    return plan(extend(build(name)), planner, device=registry.get("host"))


def dram(name: str, kind: str, kib: int, planner: str) -> float:
    """MiB with everything charged, batch 1."""
    return _found(name, kind, kib, planner).dram_bytes / MIB


def _model(name: str, kind: str, kib: int, batch: int, accounting: Accounting = Accounting.FULL
           ) -> MemoryModel:  # fmt: skip
    return memory_model(kind, network(name), Setting(kib * 1024, 2, batch, accounting))


def _saving(found: dict[str, Result]) -> str:
    ours = found["memory"].dram_bytes
    return " / ".join(f"{100 * (1 - ours / found[p].dram_bytes):.0f}" for p in PLANNERS[3:])


def _mib(found: Result) -> str:
    return f"{found.dram_bytes / MIB:.2f}{'' if found.complete else '*'}"


def _pair(name: str, case: str, theirs: float, ours: float) -> list[str]:
    known = (case.partition(", batch")[0], case.partition(",")[0])
    why = next((papers.REASONS[name, c] for c in known if (name, c) in papers.REASONS), "")
    apart = 100 * (ours / theirs - 1)
    shown = why if abs(apart) > 3 else ""
    return [name, case, f"{theirs:g}", f"{ours:.2f}", f"{apart:+.1f} %", shown]


def section(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = ""
            ) -> str:  # fmt: skip
    """A table under a heading, as Markdown."""
    lines = [f"## {title}", "", note + "| " + " | ".join(columns) + " |",
             "|" + "---|" * len(columns)]  # fmt: skip
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, ""])
