"""One call from a model to a built module: `tvm_dnnfusion.compile`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm

from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.codegen.winograd_budget import WEIGHTS_GROWTH
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec, with_sums
from tvm_dnnfusion.devices.threads import ThreadReport, configure
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend import load
from tvm_dnnfusion.measuring import block_measurer
from tvm_dnnfusion.passes.dnnfusion import load_plan, rewrite_options
from tvm_dnnfusion.passes.half import HalfPass, holds_float16
from tvm_dnnfusion.pipeline import (
    Fused,
    Options,
    Progress,
    check_choices,
    cost_for,
    device_for,
    fuse,
    tuned_by,
)
from tvm_dnnfusion.planners import plan as make_plan
from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.profile.database import ProfileDB
from tvm_dnnfusion.profile.trials import TuningDB
from tvm_dnnfusion.report.explain import Explanation, explain
from tvm_dnnfusion.report.stats import Stats, statistics
from tvm_dnnfusion.report.summary import summarise
from tvm_dnnfusion.rewrite import RewriteOptions
from tvm_dnnfusion.rewrite.report import RewriteReport
from tvm_dnnfusion.runtime.memory import Memory, memory_of


@dataclass(frozen=True)
class Compiled:
    """A compiled model with everything that was decided on the way.

    `original` is the imported module, `module` the fused and scheduled one, `executable` what TVM
    built from it. `fused` holds the results of the steps.
    """

    original: tvm.IRModule
    executable: Any
    fused: Fused
    target: Any
    threads: ThreadReport

    @property
    def module(self) -> tvm.IRModule:
        """The fused and scheduled module."""
        return self.fused.module

    @property
    def source_graph(self) -> Graph:
        """The graph as imported."""
        return self.fused.source

    @property
    def graph(self) -> Graph:
        """The rewritten graph, which the plan is of."""
        return self.fused.graph

    @property
    def plan(self) -> Plan:
        """The plan that was applied."""
        return self.fused.plan

    @property
    def rewrite_report(self) -> RewriteReport | None:
        """What rewriting did; None where it was off."""
        return self.fused.rewriting.report if self.fused.rewriting else None

    @property
    def device(self) -> DeviceSpec:
        """The device that was planned for."""
        return self.fused.device

    @cached_property
    def stats(self) -> Stats:
        """Operators, kernels, intermediate bytes and FLOPs: before, FuseOps' plan, after."""
        source = extend(self.source_graph)
        baseline = make_plan(source, planner="tvm", device=self.device)
        after = summarise(extend(self.graph), self.source_graph)
        return statistics(summarise(source), after, self.plan, baseline)

    @cached_property
    def memory(self) -> Memory:
        """Bytes of weights, activations, results and workspace."""
        return memory_of(self.module)

    def explain(self, a: str, b: str) -> Explanation:
        """Why two layers (by origin or op name) share a kernel, or why they do not."""
        return explain(self.plan, summarise(extend(self.graph), self.source_graph), a, b)


def compile(
    model: Any,
    target: Any = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    params: Any = None,
    planner: Any = "dnnfusion",
    rewrite: bool | RewriteOptions = True,
    device: DeviceSpec | str | None = None,
    profile: ProfileDB | str | Path | None = None,
    measure: bool = False,
    plan: Plan | str | Path | None = None,
    threads: int | None = None,
    winograd: int = MAX_TILE,
    winograd_memory: float = WEIGHTS_GROWTH,
    tuning_records: TuningDB | str | Path | None = None,
    float16: bool = False,
    float16_sums: str = "float16",
    progress: Progress | None = None,
) -> Compiled:
    """Fuse and build a model.

    Parameters
    ----------
    model : path of an ONNX file or a Relay module (JSON), an ONNX ModelProto, a Relax IRModule, or
        a torch ExportedProgram.
    target : a TVM target (dict, tag or Target); default: this machine.
    shapes : input shapes, for models that leave them open.
    params : parameters of a Relay module: a file, its bytes, or arrays by name.
    planner : "dnnfusion", "tvm" (FuseOps' groups), "none", or an object with `plan`.
    rewrite : True, False, or RewriteOptions.
    device : DeviceSpec or its name, where the target does not say enough.
    profile : path of the profile database that answers for the yellow cells of table 3.
    measure : whether to measure what the database does not hold.
    plan : a plan to apply instead of planning.
    threads : threads for measuring, and in force for running afterwards; default: a sensible count.
    winograd : largest m of Winograd's F(m, r) for 3x3 and 5x5 convolutions: 6, 4, 2, or 0 for none.
    winograd_memory : how many times their memory all weights together may take for it: at least 1;
        where the fastest tiles need more, those that save the least time per byte give way.
    tuning_records : what `dnnfusion tune` wrote: its best parameters win over the templates' own.
    float16 : convolutions and products in float16, on a device that computes in it (docs/arm.md).
    float16_sums : "float16", or "float32" to accumulate what is float16 in the wider type: for
        `float16`, and for models that are in float16 themselves.
    progress : called with the name of each step before it begins.

    Raises
    ------
    InputError for a model that cannot be read or imported, PlanError for a plan of another model,
    DeviceError for an unknown device or target, PlannerError for an unknown planner, TypeError for
    a planner, device, rewrite or winograd_memory of another kind, ValueError for a `winograd` or
    `float16_sums` that there is not or a `winograd_memory` below 1: the last four before the model
    is read.
    """
    check_choices(planner, device, rewrite, winograd, winograd_memory)
    say = progress or (lambda step: None)
    chosen = device_for(target, device)
    wide = with_sums(chosen, float16_sums)
    rewriting = rewrite_options(rewrite)
    half = HalfPass(chosen, rewriting) if float16 else None
    report = configure(threads)
    say("import")
    original = load(model, shapes, params=params)
    if float16 or holds_float16(original):  # other models would get smaller tiles for nothing
        chosen = wide
    variants = Variants(chosen, winograd, winograd_memory)
    measurer = block_measurer(chosen, report.count, variants) if measure else None
    cost = cost_for(profile, chosen, measurer, threads=threads, variants=variants)
    given = load_plan(plan)
    tuned = tuned_by(tuning_records, chosen)
    options = Options(
        planner, rewriting, chosen, cost, given, "main", winograd, winograd_memory, tuned
    )
    fused = fuse(half(original) if half is not None else original, options, progress)
    built_for = target if target is not None else target_dict(chosen)
    made = built_for if isinstance(built_for, tvm.target.Target) else tvm.target.Target(built_for)
    say("build")
    return Compiled(original, tvm.compile(fused.module, target=made), fused, made, report)
