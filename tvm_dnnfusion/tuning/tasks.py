"""The blocks of a planned model that can be tuned: equal ones once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import tvm_ffi

from tvm_dnnfusion.codegen.form import Form, module_hash, workload_of
from tvm_dnnfusion.codegen.params import DEFAULT, Choices, TemplateParams, Value, params_of
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import flops
from tvm_dnnfusion.pipeline import Fused
from tvm_dnnfusion.profile.trials import TIME, Subject, subject_key
from tvm_dnnfusion.schedules.dispatch import VERSION, ScheduleWarning, schedule_kernel


@dataclass(frozen=True)
class Candidate:
    """A scheduled function, and the parameters that made it, as they were used.

    `offers` are the values that its template could take, by parameter; `digest` is the same for
    candidates that are the same code.
    """

    params: TemplateParams
    func: Any
    digest: int
    offers: dict[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One different block of a model; `blocks` are the names of all that are equal to it."""

    form: Form
    graph: Graph
    device: DeviceSpec
    signature: str
    blocks: tuple[str, ...]
    unit: str = TIME

    @property
    def name(self) -> str:
        """The name of the first block."""
        return self.blocks[0]

    def candidate(self, params: TemplateParams = DEFAULT) -> Candidate:
        """The block's kernel with these parameters.

        Raises ParamsError where they do not fit.
        """
        choices = Choices(params, {})
        kernel = self.form.kernel(self.graph, self.device, choices)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScheduleWarning)
            func = schedule_kernel(kernel.func, self.device, choices)
        return Candidate(params_of(choices.used), func, _digest(func), choices.offers or {})

    @cached_property
    def kernel(self) -> Any:
        """The block's function as its template makes it by itself, not scheduled."""
        return self.form.kernel(self.graph, self.device).func

    @cached_property
    def subject(self) -> Subject:
        """The block as the records know it."""
        device = self.device
        key = subject_key(self.signature, device.name, device.cores, str(VERSION), self.unit)
        kind = str(self.kernel.attrs["dnnfusion.kind"])
        work = sum(flops(op, self.graph) for op in self.form.ops)
        return Subject(
            key, self.signature, device.name, device.cores, str(VERSION), self.unit, kind,
            module_hash(workload_of(self.kernel)), int(work),
        )  # fmt: skip


def tasks_of(fused: Fused, unit: str = TIME) -> tuple[Task, ...]:
    """The different blocks of a model that have a kernel, in order."""
    found: dict[str, list[Form]] = {}
    for form in fused.lowered.forms.values():
        found.setdefault(form.signature(fused.graph, fused.device), []).append(form)
    return tuple(
        Task(forms[0], fused.graph, fused.device, text, tuple(f.name for f in forms), unit)
        for text, forms in found.items()
    )


def _digest(func: Any) -> int:
    return int(tvm_ffi.structural_hash(workload_of(func)))
