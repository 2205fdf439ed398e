"""The steps of one model: our tuning, TVM's, and timing."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms

from benchmarks.models import inputs, load
from benchmarks.tuning.__main__ import folder_of
from tvm_dnnfusion.api import compile as compile_model
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.devices.threads import configure
from tvm_dnnfusion.frontend import load as to_relax
from tvm_dnnfusion.pipeline import Options, fuse
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.tuning.factory import make_runner, proposer
from tvm_dnnfusion.tuning.tasks import tasks_of
from tvm_dnnfusion.tuning.tuner import Tuner

TOLERANCE = 1e-3
"""Largest difference of an output from the untuned one's, relative to its largest element."""


def ours(model: str, options: argparse.Namespace) -> int:
    """Tune our blocks up to the budget."""
    folder = _made(model, options)
    runner = make_runner("local", target_dict(host()), options.threads, 30.0)
    try:
        fused = fuse(to_relax(load(model), None), Options(device=host()))
        with TuningDB(folder / "tuning.sqlite") as db:
            tuner = Tuner(tasks_of(fused), db, runner, proposer(options.search))
            tuner.run(options.trials)
            print(f"{model}: {tuner.trials} trials")
    finally:
        runner.close()
    return 0


def tvm_module(model: str) -> tvm.IRModule:
    """The model as TVM's `static_shape_tuning` tunes it: its own fused functions."""
    target = tvm.target.Target(target_dict(host()))
    with target:
        return relax.get_pipeline("zero")(to_relax(load(model), None))


def _database(folder: Path) -> Any:
    work = folder / "metaschedule"
    work.mkdir(parents=True, exist_ok=True)
    return ms.database.JSONDatabase(
        path_workload=str(work / "database_workload.json"),
        path_tuning_record=str(work / "database_tuning_record.json"),
    )


def tvm_step(model: str, options: argparse.Namespace) -> int:
    """MetaSchedule on TVM's fused functions, with as many trials as are missing."""
    folder = _made(model, options)
    database = _database(folder)
    left = options.trials - len(database.get_all_tuning_records())
    if left > 0:
        ms.relax_integration.tune_relax(
            tvm_module(model), {}, tvm.target.Target(target_dict(host())),
            str(folder / "metaschedule"), left, num_trials_per_iter=min(32, left),
            database=database, cost_model="xgb", num_tuning_cores=options.threads,
            builder=ms.builder.LocalBuilder(max_workers=options.threads, timeout_sec=60.0),
            runner=ms.runner.LocalRunner(timeout_sec=30.0),
        )  # fmt: skip
    return 0


def time_step(model: str, options: argparse.Namespace) -> int:
    """Build all that there is and time it in interleaved rounds."""
    configure(options.threads)
    folder = _made(model, options)
    source, feed = load(model), inputs(model)
    records = folder / "tuning.sqlite"
    found: dict[str, object] = {"threads": options.threads, "rounds": options.rounds}
    runs = {"untuned": _run(compile_model(source, threads=options.threads).executable, feed)}
    if records.exists():
        tuned = compile_model(source, threads=options.threads, tuning_records=records)
        runs["tuned"] = _run(tuned.executable, feed)
        with TuningDB(records, read_only=True) as db:
            found["trials"] = sum(p.trials for p in db.progress())
    if (folder / "metaschedule").exists():
        database = _database(folder)
        found["tvm_trials"] = len(database.get_all_tuning_records())
        if found["tvm_trials"]:
            runs["tvm"] = _run(_tuned_by_tvm(model, database), feed)
    _compare(runs)
    found |= _timed({name: call for name, (call, _) in runs.items()}, options.rounds)
    (folder / "time.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _tuned_by_tvm(model: str, database: Any) -> Any:
    target = tvm.target.Target(target_dict(host()))
    with target, database:
        mod = relax.transform.MetaScheduleApplyDatabase()(tvm_module(model))
    return tvm.compile(mod, target=target)


def _run(executable: Any, feed: dict[str, np.ndarray]) -> tuple[Callable[[], float], Any]:
    """A function that runs once and gives the milliseconds, and the first output."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    arguments = [tvm.runtime.tensor(a) for a in feed.values()]
    result = machine["main"](*arguments)

    def call() -> float:
        began = time.perf_counter()
        machine["main"](*arguments)
        return (time.perf_counter() - began) * 1e3

    while not hasattr(result, "numpy"):
        result = result[0]
    return call, result.numpy()


def _compare(runs: dict[str, tuple[Any, Any]]) -> None:
    expected = runs["untuned"][1]
    scale = float(np.abs(expected).max())
    for name, (_, found) in runs.items():
        error = float(np.abs(found - expected).max()) / scale
        if not error <= TOLERANCE:
            raise SystemExit(f"{name} differs from untuned by {error:.2e} of the largest element")


def _timed(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median milliseconds over rounds in which each has a turn."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            runs[name]()
            samples[name].append(statistics.median(runs[name]() for _ in range(3)))
    return {name: statistics.median(times) for name, times in samples.items()}


def _made(model: str, options: argparse.Namespace) -> Path:
    folder = folder_of(model, options.output)
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
    return folder


STEPS = {"ours": ours, "tvm": tvm_step, "time": time_step}
