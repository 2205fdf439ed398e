"""TVM's `static_shape_tuning` in a form that goes on where it was stopped.

The pipeline's own steps: TVM prepares its fused functions, with weights that may be packed
(`cpu_weight_prepack`, which it asks for on CPUs), MetaSchedule tunes them into the JSON database of
a folder, and the pipeline with no trials applies that database. The pipeline itself gives each
function 64 trials at a time and skips those for which nothing is left; here the rounds are so
short that every function gets two, functions without a record first, and the gradient-based
scheduler deals out the rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms

from benchmarks.tuning.their_runner import Measure, Prepare
from tvm_dnnfusion.devices.registry import host, target_dict
from tvm_dnnfusion.frontend import load as to_relax
from tvm_dnnfusion.tuning.metaschedule import load_intrinsics
from tvm_dnnfusion.tuning.runner import Runner

ROUND = 32
"""Trials of a function at a time where there are plenty."""
LEAST_ROUND = 2
FULL_POPULATION = 512
"""TVM's own. Smaller ones are evolved for one generation instead of four."""


def target_of_host() -> tvm.target.Target:
    """What both sides are built for."""
    return tvm.target.Target(target_dict(host()))


def prepared(model: onnx.ModelProto) -> tvm.IRModule:
    """The module whose functions are tuned: the pipeline's steps before tuning."""
    steps = (
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.get_pipeline("zero"),
        relax.transform.AttachAttrLayoutFreeBuffers(),
    )
    with target_of_host():
        return tvm.transform.Sequential(steps)(to_relax(model, None))


def applied(model: onnx.ModelProto, folder: Path) -> Any:
    """The model built with what a folder's database holds, by TVM's pipeline itself."""
    target = target_of_host()
    pipeline = relax.get_pipeline(
        "static_shape_tuning", total_trials=0, target=target, work_dir=str(folder),
        cpu_weight_prepack=True,
    )  # fmt: skip
    return tvm.compile(pipeline(to_relax(model, None)), target=target)


def database(folder: Path) -> Any:
    """The JSON database of a folder, made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return ms.database.JSONDatabase(work_dir=str(folder))


def trials(folder: Path) -> int:
    """Records of a folder, those of candidates that failed among them."""
    return len(database(folder).get_all_tuning_records()) if folder.exists() else 0


@dataclass(frozen=True, slots=True)
class Effort:
    """How to search: trials in all, individuals of a population, threads."""

    trials: int
    population: int
    threads: int


def tune(model: onnx.ModelProto, folder: Path, effort: Effort, runner: Runner) -> int:
    """Tune until the folder's database holds so many trials; how many it holds.

    Costs minutes of a processor per function and round on top of the trials: TVM makes a population
    of schedules and ranks it by its model, which answers at random before it has 100 trials.
    """
    load_intrinsics()
    kept, target = database(folder), target_of_host()
    tasks = ms.relax_integration.extract_tasks(prepared(model), target)
    each = max(LEAST_ROUND, min(ROUND, effort.trials // (2 * len(tasks))))
    new = [task for task in tasks if not kept.has_workload(task.dispatched[0])]
    for chosen, most in ((new, each * len(new)), (tasks, effort.trials)):
        left = min(most, effort.trials - len(kept.get_all_tuning_records()))
        if chosen and left > 0:
            _tune(chosen, kept, folder, replace(effort, trials=left), each, runner)
    return len(kept.get_all_tuning_records())


def _tune(
    tasks: Sequence[Any], kept: Any, folder: Path, effort: Effort, each: int, runner: Runner
) -> None:
    small = effort.population < FULL_POPULATION
    strategy = ms.search_strategy.EvolutionarySearch(
        population_size=effort.population,
        init_min_unmeasured=effort.population // 2 if small else 50,
        genetic_num_iters=1 if small else 4,
    )
    contexts, weights = ms.relax_integration.extracted_tasks_to_tune_contexts(
        list(tasks), str(folder), strategy=strategy, num_threads=effort.threads
    )
    with tempfile.TemporaryDirectory() as code:
        ms.tune.tune_tasks(
            tasks=contexts, task_weights=weights, work_dir=str(folder),
            max_trials_global=effort.trials, num_trials_per_iter=min(each, effort.trials),
            cost_model=ms.cost_model.CostModel.create("xgb", num_tuning_cores=effort.threads),
            database=kept, builder=Prepare(Path(code)), runner=Measure(runner),
        )  # fmt: skip
