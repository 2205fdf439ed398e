"""From a record back to the function that it is of."""

from __future__ import annotations

from typing import Any

from tvm_dnnfusion.codegen.form import TRACE, recorded
from tvm_dnnfusion.schedules.dispatch import schedule_kernel
from tvm_dnnfusion.tuning.tasks import Task


def function_of(task: Task, text: str) -> Any:
    """The scheduled function of a block under a record: parameters, or a trace.

    Raises ParamsError or TraceError for a record that does not fit.
    """
    params, trace = recorded(text)
    if trace is None:
        return task.candidate(params).func
    return schedule_kernel(task.kernel.with_attr(TRACE, trace), task.device)
