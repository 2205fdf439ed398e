"""The whole way of one function: graph, rewriting, plan, lowering, schedules.

`fuse` is what `DNNFusionPass` runs and what `tvm_dnnfusion.compile` builds on; it keeps the result
of every step, so that each decision can be shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.codegen.form import BY_WORKLOAD, Form, Tuned, module_hash, workload_of
from tvm_dnnfusion.codegen.lower import Lowered, lower
from tvm_dnnfusion.codegen.variants import Variants
from tvm_dnnfusion.codegen.winograd_budget import WEIGHTS_GROWTH, check_growth
from tvm_dnnfusion.codegen.winograd_choice import MAX_TILE
from tvm_dnnfusion.codegen.winograd_matrices import SIZES
from tvm_dnnfusion.cost.database import DatabaseCost, Measure
from tvm_dnnfusion.cost.learned import learned_cost, with_threads
from tvm_dnnfusion.cost.protocol import Cost
from tvm_dnnfusion.devices.gpus import LIMITS, RULES_LIMIT
from tvm_dnnfusion.devices.registry import get, host, spec_for_target, target_dict
from tvm_dnnfusion.devices.registry import names as device_names
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.ecg.graph import Graph
from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.errors import DataShapeError
from tvm_dnnfusion.frontend.relax import Imported, from_relax
from tvm_dnnfusion.frontend.to_relax import to_relax
from tvm_dnnfusion.planners import check_plan, get_planner, planner_names
from tvm_dnnfusion.planners import plan as make_plan
from tvm_dnnfusion.planners.plan import Plan
from tvm_dnnfusion.profile.database import FILE_NAME, ProfileDB
from tvm_dnnfusion.profile.store import ProfileFileError
from tvm_dnnfusion.profile.trials import UNITS, TuningDB, subject_key
from tvm_dnnfusion.rewrite import RewriteOptions, RewriteResult, rewrite
from tvm_dnnfusion.schedules.dispatch import VERSION, check_prepared, schedule_kernel
from tvm_dnnfusion.schedules.gpu import forms
from tvm_dnnfusion.settings import Debug, read
from tvm_dnnfusion.trace import Trace

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a user may choose.

    `planner` is a name ("dnnfusion", "tvm", "none") or an object with `plan(ecg, device, cost)`;
    `rewriting` None leaves the graph as it is; `plan` is applied instead of planning; `cost`
    answers for the yellow cells of table 3. `winograd` is the largest m of Winograd's F(m, r) that
    3x3 and 5x5 convolutions may take: 6, 4, 2, or 0 for none; `winograd_memory` is how many times
    their memory all weights together may take for it (docs/winograd.md). `tuned` answers with
    tuning records, as `tuned_by` makes it; None: the templates' own choices.
    """

    planner: Any = "dnnfusion"
    rewriting: RewriteOptions | None = field(default_factory=RewriteOptions)
    device: DeviceSpec | None = None
    cost: Cost | None = None
    plan: Plan | None = None
    function: str = "main"
    winograd: int = MAX_TILE
    winograd_memory: float = WEIGHTS_GROWTH
    tuned: Tuned | None = None


@dataclass(frozen=True)
class Fused:
    """The results of all steps. `source` is the graph as imported, `graph` the rewritten one."""

    module: tvm.IRModule
    imported: Imported
    source: Graph
    graph: Graph
    rewriting: RewriteResult | None
    plan: Plan
    lowered: Lowered
    device: DeviceSpec
    winograd: int = MAX_TILE
    winograd_memory: float = WEIGHTS_GROWTH


def check_choices(
    planner: Any = "dnnfusion",
    device: Any = None,
    rewrite: Any = True,
    winograd: Any = MAX_TILE,
    winograd_memory: Any = WEIGHTS_GROWTH,
) -> None:
    """Refuse choices that no step can use, before any work is done.

    Raises PlannerError or DeviceError for unknown names, TypeError for values of another kind,
    ValueError for a `winograd` that there is not and a `winograd_memory` below 1.
    """
    if winograd not in (0, *SIZES):
        raise ValueError(f"winograd is {winograd!r}; give 0 (none) or the largest of {SIZES}")
    check_growth(winograd_memory)
    if isinstance(planner, str):
        get_planner(planner)
    elif isinstance(planner, type) or not callable(getattr(planner, "plan", None)):
        known = ", ".join(planner_names())
        raise TypeError(f"planner is {planner!r}; give a name ({known}) or an object with `plan`")
    if isinstance(device, str):
        get(device)
    elif device is not None and not isinstance(device, DeviceSpec):
        known = ", ".join(device_names())
        raise TypeError(f"device is {device!r}; give a DeviceSpec, a name ({known}) or None")
    if not isinstance(rewrite, (bool, RewriteOptions)):
        raise TypeError(f"rewrite is {rewrite!r}; give True, False or RewriteOptions")


def device_for(target: Any = None, device: DeviceSpec | str | None = None) -> DeviceSpec:
    """The device to plan for: the one given, else that of the target, else the host."""
    if isinstance(device, DeviceSpec):
        return device
    if device is not None:
        return get(device)
    current = target if target is not None else tvm.target.Target.current(allow_none=True)
    if current is None:
        return host()
    return spec_for_target(target_fields(current))


def cost_for(
    profile: ProfileDB | str | Path | None,
    device: DeviceSpec,
    measure: Measure | None = None,
    *,
    threads: int | None = None,
    variants: Variants | None = None,
) -> Cost:
    """What answers for the yellow cells: database, latency model, measurement, in this order.

    The analytic estimate stands in for the model where none fits the device; the database is asked
    where one is given, or measuring fills it. `variants` are the user's limits on Winograd's tiles:
    latencies under them have keys of their own.
    """
    estimate = learned_cost(device if threads is None else with_threads(device, threads))
    if profile is None and measure is None:
        return estimate
    if not isinstance(profile, ProfileDB):
        profile = ProfileDB(Path(profile) if profile is not None else read().cache / FILE_NAME)
    tag = variants.tag if variants is not None else None
    return DatabaseCost(
        profile, device, estimate, measure,
        schedule_version=str(VERSION), threads=threads, tag=tag,
    )  # fmt: skip


def tuned_by(records: TuningDB | str | Path | None, device: DeviceSpec) -> Tuned | None:
    """Answers with the best tuning record of a form on a device; None without records.

    Raises ProfileFileError for a file that is absent, or holds no tuning records.
    """
    if records is None:
        return None
    if not isinstance(records, TuningDB):
        if not Path(records).exists():
            raise ProfileFileError(f"there are no tuning records at {records}")
        records = TuningDB(records, read_only=True)
    db = records
    imported = any(s.form.startswith(BY_WORKLOAD) for s in db.subjects())

    def best(form: str) -> str | None:
        keys = (subject_key(form, device.name, device.cores, str(VERSION), u) for u in UNITS)
        return next((trial.params for k in keys if (trial := db.taken(k)) is not None), None)

    def find(form: Form, graph: Graph) -> str | None:
        text = best(form.signature(graph, device))
        if text is not None or not imported:
            return text
        return best(BY_WORKLOAD + module_hash(workload_of(form.kernel(graph, device).func)))

    return find


def target_fields(target: Any) -> dict[str, object]:
    """A TVM target, or what one is made from, as a dictionary; of a CPU the keys only where they
    name a device: TVM gives every target some."""
    made = target if isinstance(target, tvm.target.Target) else tvm.target.Target(target)
    fields = {str(k): v for k, v in dict(made.export()).items() if v is not None}
    kept = _CPU_FIELDS if fields["kind"] == "llvm" else _GPU_FIELDS
    if set(map(str, fields.get("keys", ()))) & set(device_names()):
        kept = (*kept, "keys")
    found: dict[str, object] = {
        k: ([str(x) for x in v] if hasattr(v, "__iter__") and not isinstance(v, str) else v)
        for k, v in fields.items()
        if k in kept and not (k == RULES_LIMIT and v == LIMITS[k][1])
    }
    return {**found, "host": target_fields(made.host)} if made.host is not None else found


_CPU_FIELDS = ("kind", "mcpu", "mtriple", "mattr", "num-cores")
_GPU_FIELDS = ("kind", "keys", "device", "arch", "tag", "max_num_threads", "thread_warp_size",
               "max_shared_memory_per_block", RULES_LIMIT)  # fmt: skip


def fuse(mod: tvm.IRModule, options: Options, progress: Progress | None = None) -> Fused:
    """Rewrite, plan, lower and schedule one function of a module.

    Parameters
    ----------
    mod : any Relax module; functions other than `options.function` are kept.
    progress : called with the name of each step before it begins.

    Raises
    ------
    PlanError when a given plan does not fit the graph.
    """
    say, trace = progress or (lambda step: None), Trace()
    device = options.device or device_for()
    imported = from_relax(mod, options.function)
    if device.kind == "gpu":
        _check_shapes(imported.graph, device)
    trace.step("import", lambda: f"{len(imported.graph.ops)} ops")
    say("rewrite")
    rewriting, graph = _rewritten(imported, options, trace)
    say("plan")
    plan = _planned(graph, options, device)
    trace.step("plan", lambda: f"{len(plan.blocks)} blocks by {plan.planner} for {device.name}")
    trace.plan(plan)
    say("lower")
    tiles, growth = options.winograd, options.winograd_memory
    lowered = lower(imported, graph, plan, device, tiles, growth, options.tuned)
    trace.step("lower", lambda: f"{len(set(lowered.kernel_of.values()))} different kernels")
    trace.module("lower", lowered.module)
    say("schedule")
    module = schedule_module(lowered.module, device)
    trace.step("schedule", lambda: "done")
    trace.module("schedule", module)
    source = imported.graph
    return Fused(module, imported, source, graph, rewriting, plan, lowered, device, tiles, growth)


def _check_shapes(graph: Graph, device: DeviceSpec) -> None:
    """Raises DataShapeError where the shape of a tensor depends on values: TVM computes such on the
    host, and the kernels that would read them are the GPU's."""
    for op in graph.ops:
        if op.kind in ("nonzero", "unique") or op.kind.endswith("non_max_suppression"):
            node = ", ".join(op.origins) or op.name
            raise DataShapeError(
                f"op {op.kind} (node {node})",
                f"the shape of its result depends on values, which kernels of {device.name} cannot "
                "follow",
                "Compile for a CPU, or export the model without it",
            )


def _rewritten(
    imported: Imported, options: Options, trace: Trace
) -> tuple[RewriteResult | None, Graph]:
    if options.rewriting is None:
        return None, imported.graph
    result = rewrite(imported.graph, options.rewriting)
    trace.step("rewrite", lambda: f"{len(result.report.steps)} steps, {len(result.graph.ops)} ops")
    trace.rewriting(result)
    if trace.level >= Debug.IR:
        trace.module("rewrite", to_relax(imported, result.graph))
    return result, result.graph


def _planned(graph: Graph, options: Options, device: DeviceSpec) -> Plan:
    if options.plan is not None:
        return check_plan(options.plan, graph)
    return make_plan(extend(graph), planner=options.planner, device=device, cost=options.cost)


def schedule_module(mod: tvm.IRModule, device: DeviceSpec) -> tvm.IRModule:
    """All kernels of a module scheduled; ops that are left are legalised first, and then too."""
    with tvm.target.Target(target_dict(device) or {"kind": "llvm"}):
        if device.kind == "gpu":  # sorts and scans: TVM's forms for CPUs have none on a GPU
            mod = forms.legalized(mod)
        legal = relax.transform.LegalizeOps()(mod)
    out = {}
    for gv, func in legal.functions.items():
        if isinstance(func, tvm.tirx.PrimFunc) and not (func.attrs or {}).get("tirx.is_scheduled"):
            func = schedule_kernel(func, device)
        elif isinstance(func, tvm.tirx.PrimFunc):  # as TVM schedules sorts
            check_prepared(func, device, gv.name_hint)
        out[gv] = func
    return tvm.IRModule(out, attrs=legal.attrs)
