"""MetaSchedule's evolutionary search, with its XGBoost cost model, on the TIR of a block.

The loops are TVM's own: rules that tile, vectorise and compute elsewhere, mutated and ranked by the
model that is trained on what was measured. Measuring is ours, so that a candidate ends in the same
process, with the same limits and records, as one of a template. The block's own schedule was
measured before and stays the best until a trace beats it; where it is a trace itself, it is also
among the search's first individuals.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
from collections import deque
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir
from tvm.error import InternalError
from tvm.s_tir import meta_schedule as ms

from tvm_dnnfusion.codegen.form import recorded, trace_text, workload_of
from tvm_dnnfusion.codegen.params import DEFAULT, ParamsError
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.schedules.cpu.common import Kernel, ScheduleFailed
from tvm_dnnfusion.schedules.dispatch import SCHEDULES, done
from tvm_dnnfusion.tuning.bayesian import MissingExtra
from tvm_dnnfusion.tuning.proposals import Proposal
from tvm_dnnfusion.tuning.tasks import Task

_INTRINSICS = "tvm.s_tir.tensor_intrin"
BATCH = 8
"""Candidates that the search hands out at a time, after which its model learns of them."""
MAX_TRIALS = 1 << 20
"""More than any budget: the budget is the tuner's."""


class MetaScheduleProposer:
    """Candidates of one block, as MetaSchedule asks for them.

    Raises MissingExtra without XGBoost.
    """

    name = "metaschedule"

    def __init__(self, task: Task, tried: dict[str, float | None], seed: int = 0) -> None:
        load_intrinsics()
        self._task = task
        self._module = workload_of(task.kernel)
        self._target = tvm.target.Target(target_dict(task.device))
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(self._module)
        self._context = ms.TuneContext(
            self._module,
            target=self._target,
            space_generator="post-order-apply",
            search_strategy="evolutionary",
            task_name=task.name,
            rand_state=seed + 1,
            num_threads=task.device.cores,
            logger=_silent(),
        )
        self._model = _model(task.device.cores)
        self._seed_with(tried)
        self._context.pre_tuning(
            MAX_TRIALS,
            BATCH,
            design_spaces=self._context.generate_design_space(),
            database=self._database,
            cost_model=self._model,
        )
        self._open: deque[Any] = deque()
        self._batch: list[Any] = []
        self._results: list[Any] = []

    def propose(self) -> Proposal | None:
        """The next candidate; None where the search has no more."""
        while True:
            if not self._open and not self._more():
                return None
            made = self._proposal(self._open[0])
            if made is not None:
                return made
            self._told(None)

    def tell(self, proposal: Proposal, cost: float | None) -> None:
        """Hand the cost of the candidate proposed last to the search."""
        self._told(cost)

    def _more(self) -> bool:
        """Tell the model and the search of a batch, and ask for the next one."""
        if self._batch:
            self._model.update(self._context, self._batch, self._results)
            self._context.notify_runner_results(self._batch, self._results)
        found = self._context.generate_measure_candidates()
        self._batch, self._results = list(found or ()), []
        self._open = deque(self._batch)
        return bool(self._batch)

    def _proposal(self, candidate: Any) -> Proposal | None:
        """What to measure; None where our passes after the schedule do not take its code."""
        func = self._task.kernel
        try:
            made = done(candidate.sch.mod["main"], func, "trace", False)
        except (InternalError, LookupError, ValueError):
            return None
        return Proposal(
            trace_text(candidate.sch.trace), made, int(tvm_ffi.structural_hash(workload_of(made)))
        )

    def _told(self, cost: float | None) -> None:
        candidate = self._open.popleft()
        if cost is None:
            self._results.append(ms.runner.RunnerResult(None, "the candidate failed"))
            return
        self._results.append(ms.runner.RunnerResult([cost * 1e-6], None))
        self._commit(candidate.sch.trace, cost)

    def _commit(self, trace: Any, cost: float) -> None:
        info = ms.arg_info.ArgInfo.from_prim_func(self._module["main"])
        self._database.commit_tuning_record(
            ms.database.TuningRecord(trace, self._workload, [cost * 1e-6], self._target, info)
        )

    def _seed_with(self, tried: dict[str, float | None]) -> None:
        """The first individuals: what was measured before, and the template's own schedule."""
        for text, cost in tried.items():
            trace = trace_of(self._task, text) if cost is not None else None
            if trace is not None and cost is not None:
                self._commit(trace, cost)


def trace_of(task: Task, text: str) -> Any | None:
    """A record as a trace of the block's own TIR; None for parameters that change the TIR, and for
    schedules that are not made of TVM's primitives alone."""
    params, found = recorded(text)
    sch = s_tir.Schedule(workload_of(task.kernel))
    try:
        if found is not None:
            s_tir.schedule.Trace.apply_json_to_schedule(json.loads(found), sch)
            return sch.trace
        if params != DEFAULT:
            return None
        kind = str(task.kernel.attrs["dnnfusion.kind"])
        own = s_tir.Schedule(task.kernel)
        made = SCHEDULES[task.device.kind][kind](Kernel(own, task.device))
    except (ParamsError, ScheduleFailed, InternalError, LookupError, TypeError, ValueError):
        return None
    return own.trace if made is None else None


def _model(cores: int) -> Any:
    try:
        import xgboost  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "MetaSchedule's cost model needs XGBoost: pip install 'tvm-dnnfusion[tune]', or take "
            "--search genetic"
        ) from error
    return ms.cost_model.CostModel.create("xgb", num_tuning_cores=cores)


def load_intrinsics() -> None:
    """Load the tensor intrinsics of CPUs only. A `TuneContext` imports TVM's package of them, which
    also parses those of all GPUs: half a minute of every process, for nothing."""
    if _INTRINSICS in sys.modules:
        return
    found = importlib.util.find_spec(_INTRINSICS)
    if found is not None:
        sys.modules[_INTRINSICS] = importlib.util.module_from_spec(found)  # it is not executed
        for part in ("x86", "arm_cpu"):
            importlib.import_module(f"{_INTRINSICS}.{part}")


def _silent() -> logging.Logger:
    """MetaSchedule logs every step; what matters stands in the records."""
    logger = logging.getLogger("tvm.s_tir.meta_schedule.dnnfusion")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
