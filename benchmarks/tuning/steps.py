"""The steps of one model: our tuning, TVM's, and timing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import onnx

import tvm_dnnfusion
from benchmarks import machine, rounds
from benchmarks.models import inputs, load
from benchmarks.peers import Arrays, Session, prepare_library, virtual_machine
from benchmarks.subject import difference
from benchmarks.tables import write
from benchmarks.tuning import static_tuning
from benchmarks.tuning.__main__ import TOLERANCE, folder_of
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.frontend import load as to_relax
from tvm_dnnfusion.pipeline import Options, cost_for, fuse
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.signature import signature_of
from tvm_dnnfusion.tuning import sides
from tvm_dnnfusion.tuning.factory import make_runner, proposer
from tvm_dnnfusion.tuning.in_model import Side, settle
from tvm_dnnfusion.tuning.runner import Runner
from tvm_dnnfusion.tuning.tasks import tasks_of
from tvm_dnnfusion.tuning.tuner import Tuner

SECONDS = 12.0
"""Of timing, for each side."""
WAIT_S = 120.0
"""Limit of building and running a candidate: long, for a machine that has other work too."""
RECORDS, THEIRS, FIGURES = "tuning.sqlite", "metaschedule", "time.json"
"""What a model's folder holds: our records, TVM's database, the figures."""


def ours(model: str, options: argparse.Namespace) -> int:
    """Tune our blocks up to the budget: those that an untuned compile makes."""
    folder, device = _made(model, options), host()
    cost = cost_for(None, device, threads=options.threads)
    fused = fuse(to_relax(load(model), None), Options(device=device, cost=cost))
    with closing(_runner(options)) as runner, TuningDB(folder / RECORDS) as db:
        tuner = Tuner(tasks_of(fused), db, runner, proposer(options.search))
        tuner.run(options.trials)
        kept = settle(tuner, partial(_side, load(model), inputs(model), folder, options.threads))
        print(f"{model}: {tuner.trials} trials of {len(tuner.states)} blocks", flush=True)
        print(f"in the model: {kept}", flush=True)
    return 0


@contextmanager
def _side(
    source: onnx.ModelProto, feed: Arrays, folder: Path, threads: int, finds: bool
) -> Generator[Side]:
    """The model on this machine, with new finds or without."""
    with TuningDB(folder / RECORDS, read_only=True, finds=finds) as records:
        compiled = tvm_dnnfusion.compile(source, threads=threads, tuning_records=records)
    module = Module(compiled.executable, signature_of(compiled.original), threads=threads)
    with sides.here(module, compiled.fused.lowered.kernel_of, feed, threads) as side:
        yield side


def theirs(model: str, options: argparse.Namespace) -> int:
    """MetaSchedule on TVM's fused functions, with as many trials as are missing."""
    folder = _made(model, options) / THEIRS
    with closing(_runner(options)) as runner:
        effort = static_tuning.Effort(options.trials, options.population, options.threads)
        found = static_tuning.tune(load(model), folder, effort, runner)
    print(f"{model}: {found} trials of TVM's", flush=True)
    return 0


def _runner(options: argparse.Namespace) -> Runner:
    """The same for both sides."""
    return make_runner("local", target_dict(host()), options.threads, WAIT_S)


def time_step(model: str, options: argparse.Namespace) -> int:
    """Build all that there is, compare outputs, time it in interleaved rounds."""
    folder = _made(model, options)
    source, feed, count = load(model), inputs(model), options.threads
    facts: dict[str, object] = {"machine": asdict(machine.measure(count)), "search": options.search,
                                "population": options.population}  # fmt: skip
    sessions = {"untuned": prepare_library(source, feed, count)}
    if (folder / RECORDS).exists():
        sessions["tuned"] = prepare_library(source, feed, count, tuning_records=folder / RECORDS)
        with TuningDB(folder / RECORDS, read_only=True) as db:
            facts["trials"] = sum(p.trials for p in db.progress())
    facts["tvm_trials"] = static_tuning.trials(folder / THEIRS)
    if facts["tvm_trials"]:
        made = static_tuning.applied(source, folder / THEIRS)
        sessions["tvm"] = virtual_machine(made, list(feed.values()), count)
    facts["errors"] = _compare(sessions)
    found = rounds.measure(sessions, options.rounds, SECONDS)
    facts |= {name: asdict(timing) for name, timing in found.items()}
    write({folder / FIGURES: json.dumps(facts, indent=2) + "\n"})
    return 0


def _compare(sessions: Mapping[str, Session]) -> dict[str, float]:
    """Largest difference of each side's outputs from the untuned model's, relative to its largest
    element. Raises SystemExit where our own tuning changed what is computed."""
    for session in sessions.values():
        session.run()
    expected = sessions["untuned"].outputs()
    errors = {n: difference(s.outputs(), expected) for n, s in sessions.items() if n != "untuned"}
    if not errors.get("tuned", 0.0) <= TOLERANCE:
        raise SystemExit(f"tuned differs by {errors['tuned']:.2e} of the largest element")
    return errors


def _made(model: str, options: argparse.Namespace) -> Path:
    folder = folder_of(model, options.output)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


STEPS = {"ours": ours, "tvm": theirs, "time": time_step}
