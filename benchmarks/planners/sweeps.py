"""Planners over buffers, batches, PE arrays and processors, and what fusion saves; as Markdown.

The sweeps of Optimus' evaluation. Its figures for arrays and processors are not among those that
its published program's outputs give (`papers.py`), so that these tables hold ours alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from benchmarks.planners import papers
from benchmarks.planners.tables import (
    BASELINES,
    MIB,
    PLANNERS,
    least,
    limited,
    moved,
    network,
    section,
)
from tvm_dnnfusion.cost.memory import Accounting, MemoryModel, Setting, memory_model
from tvm_dnnfusion.cost.memory.published import PublishedModel
from tvm_dnnfusion.devices.accelerators import ACCELERATORS, DATAFLOWS, DEFAULT, Accelerator
from tvm_dnnfusion.planners.memory import Result, get_partitioner, partition
from tvm_dnnfusion.planners.memory.linear import flags_of
from tvm_dnnfusion.planners.memory.search import singles

SIZES = (16, 32, 64, 128, 256, 512, 1024)
SHOWN = ("squeezenet", "mobilenet-v2", "resnet18", "resnet50")
BATCHES = (1, 2, 4, 6, 8, 16, 32)
KINDS = ("brr", "lbdf", "tiles")
PROCESSORS = ("alexnet", "vgg16", "resnet18", "squeezenet")
ARRAYS = ((16, 128), (32, 128), (16, 256), (32, 256), (8, 512), (16, 512), (32, 512), (64, 512))
"""Side of the PE array, KB of buffer: the pairs of Optimus' evaluation."""
ONLINE = ("resnet152", "efficientnet-b3", "googlenet", "mobilenet-v2")
ONLINE_LIMIT_S = 10.0


@lru_cache
def found(name: str, planner: str, kib: float, batch: int = 1, spec: Accelerator = DEFAULT,
          kind: str = "brr") -> Result:  # fmt: skip
    """A planner's result with everything charged."""
    setting = Setting(int(kib * 1024), 2, batch, Accounting.FULL, spec)
    return searched(memory_model(kind, network(name), setting), planner)


def searched(model: MemoryModel, planner: str) -> Result:
    """The result of a planner, or of every layer alone."""
    if planner == "none":
        groups = singles(model)
        return Result(groups, tuple(model.evaluate(g) for g in groups), 0.0, 0, True)
    return partition(get_partitioner(planner), model, limited())


def _row(label: Sequence[str], results: Sequence[Result]) -> list[str]:
    cells = [f"{r.dram_bytes / MIB:.2f}{'' if r.complete else '*'}" for r in results]
    return [*label, *cells, least(results)]


def buffers() -> str:
    """DRAM over buffers, all planners; the figures behind the plots."""
    rows = [
        _row((name, kind, str(kib)), [found(name, p, kib, kind=kind) for p in PLANNERS])
        for kind in KINDS
        for name in SHOWN
        for kib in SIZES
    ]
    return section("Buffers, everything charged, batch 1 (MiB)",
                   ("network", "model", "KB", *PLANNERS, "`memory` least"), rows)  # fmt: skip


def batches() -> str:
    """DRAM over batches at 128 KB."""
    rows = [
        _row((name, str(batch)), [found(name, p, 128, batch) for p in PLANNERS])
        for name in ("squeezenet", "vgg16")
        for batch in BATCHES
    ]
    return section("Batches, 128 KB, everything charged (MiB)",
                   ("network", "batch", *PLANNERS, "`memory` least"), rows)  # fmt: skip


def arrays() -> str:
    """DRAM and energy over PE arrays and buffers, dataflows and register files."""
    rows: list[list[str]] = []
    for side, kib in ARRAYS:
        flow = replace(DEFAULT.dataflow, unrolled=(("W", side), ("K", side)))
        spec = replace(DEFAULT, name=f"{side} x {side}", pes=side * side, dataflow=flow)
        rows += _energies(f"{side} x {side} PEs", kib, spec)
    for name, flow in DATAFLOWS.items():
        rows += _energies(
            f"dataflow {name.replace('|', '/')}", 128, replace(DEFAULT, name=name, dataflow=flow)
        )
    rows += _energies("512 B registers", 128, ACCELERATORS["optimus-512rf"])
    return section("PE arrays, dataflows, registers: SqueezeNet, batch 4, everything charged",
                   _ENERGY_HEAD, rows)  # fmt: skip


def processors() -> str:
    """The three processors of Optimus' evaluation, with their own buffers."""
    rows: list[list[str]] = []
    for key in ("eyeriss", "shidiannao", "lower-bound"):
        spec = ACCELERATORS[key]
        for name in PROCESSORS:
            rows += _energies(key, spec.buffer_bytes / 1024, spec, name)
    return section("Processors, batch 4, everything charged", _ENERGY_HEAD, rows)


_ENERGY_HEAD = ("case", "network", "KB", *(f"{p}, MiB" for p in PLANNERS[:1] + PLANNERS[3:]),
                *(f"{p}, 1e9 MACs" for p in PLANNERS[:1] + PLANNERS[3:]))  # fmt: skip


def _energies(case: str, kib: float, spec: Accelerator, name: str = "squeezenet"
              ) -> list[list[str]]:  # fmt: skip
    results = [found(name, p, kib, 4, spec) for p in PLANNERS[:1] + PLANNERS[3:]]
    return [[case, name, f"{kib:g}", *(f"{r.dram_bytes / MIB:.2f}" for r in results),
             *(f"{r.energy / 1e9:.2f}" for r in results)]]  # fmt: skip


def savings() -> str:
    """What Optimus claims to save, in its accounting and with everything charged."""
    rows: list[list[str]] = []
    for name in papers.BATCH4:
        paper = [moved(name, p, 128, 4) for p in BASELINES]
        full = [found(name, p, 128, 4).dram_bytes for p in ("memory", *BASELINES[1:])]
        best = found(name, "memory", 128, 4)
        share = sum(c.weight_bytes for c in best.costs) / best.dram_bytes
        once = 2 * sum(v.weights + v.extras for v in network(name).layers) / best.dram_bytes
        rows.append([name, _saved(paper), _saved(full), f"{100 * share:.0f}", f"{100 * once:.0f}"])
    return section(
        "What fusing saves, 128 KB, batch 4, against efficient-s / dnnvm / none (%)",
        ("network", "Optimus, paper accounting", "`memory`, everything charged",
         "weights in its DRAM %", "each weight once %"),
        rows, papers.SAVINGS)  # fmt: skip


def _saved(costs: Sequence[float]) -> str:
    return " / ".join(f"{100 * (1 - costs[0] / c):.0f}" for c in costs[1:])


def energies() -> str:
    """Energy as Optimus' objective counts it, beside the totals of the authors' report."""
    rows: list[list[str]] = []
    for name, printed in papers.ENERGY.items():
        ours = [_objective(name, p) for p in BASELINES]
        rows.append([name, *(f"{e:.2f}" for e in printed), *(f"{e / 1e10:.2f}" for e in ours),
                     _gains(printed), _gains(ours)])  # fmt: skip
    head = ("network", *(f"{p}, authors" for p in BASELINES), *(f"{p}, here" for p in BASELINES),
            "gains, authors", "gains, here")  # fmt: skip
    return section("Published accounting: energy, 128 KB, batch 4 (1e10 multiply-accumulates)",
                   head, rows, papers.ENERGY_WHY)  # fmt: skip


def _objective(name: str, planner: str) -> float:
    setting, flags = Setting(128 * 1024, 2, 4, Accounting.PAPER), flags_of(planner)
    model = PublishedModel(network(name), setting, *([flags] if flags else []))
    return searched(model, planner).energy


def _gains(costs: Sequence[float]) -> str:
    return " / ".join(f"{c / costs[0]:.2f}" for c in costs[1:])


def online() -> str:
    """The on-line variant against the off-line search: traffic and processor seconds."""
    rows = [_online(name, kib) for kib in (128, 1024) for name in ONLINE]
    note = f"`*`: stopped after {ONLINE_LIMIT_S:.0f} processor seconds without a result; above:" \
        " against the better of off-line and `memory`.\n\n"  # fmt: skip
    return section("On-line against off-line, batch 1, everything charged",
                   ("network", "KB", "on-line MiB", "off-line MiB", "above", "on-line s",
                    "off-line s", "on-line / off-line"), rows, note)  # fmt: skip


def _online(name: str, kib: int) -> list[str]:
    figures: list[tuple[Result, float]] = []
    for planner in ("optimus-online", "optimus"):
        model = memory_model("brr", network(name), Setting(kib * 1024))
        began = time.process_time()
        result = partition(get_partitioner(planner), model, limited(ONLINE_LIMIT_S))
        figures.append((result, time.process_time() - began))
    (quick, fast), (whole, slow) = figures
    star = "" if whole.complete else "*"
    best = min(whole.dram_bytes, found(name, "memory", kib).dram_bytes)
    shown = "none" if star else f"{whole.dram_bytes / MIB:.2f}"
    return [name, str(kib), f"{quick.dram_bytes / MIB:.2f}", shown,
            f"{100 * (quick.dram_bytes / best - 1):+.1f} %", f"{fast:.3f}", f"{slow:.2f}{star}",
            f"{'<' if star else ''}{fast / slow:.2f}"]  # fmt: skip
