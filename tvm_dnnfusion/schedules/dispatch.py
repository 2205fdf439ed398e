"""Which schedule a kernel gets: by the kind of its block and the kind of the device.

A schedule that fails is tried once more with the outputs in loops of their own, then replaced by
the plain one, with a warning that names the kernel. Where that fails too, a CPU's kernel is left as
it is; a GPU's takes TVM's own rules, since without threads it would not be legal.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from tvm import s_tir
from tvm.error import InternalError
from tvm.s_tir.schedule import ScheduleError

from tvm_dnnfusion.codegen.form import TRACE
from tvm_dnnfusion.codegen.params import ATTR, DEFAULT, Choices, params_of
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.schedules.cpu.attention import attention_block
from tvm_dnnfusion.schedules.cpu.borders import finish
from tvm_dnnfusion.schedules.cpu.common import Kernel, ScheduleFailed
from tvm_dnnfusion.schedules.cpu.conv import conv_block
from tvm_dnnfusion.schedules.cpu.convpool import convpool_block
from tvm_dnnfusion.schedules.cpu.depthwise import depthwise_block
from tvm_dnnfusion.schedules.cpu.lanes import whole
from tvm_dnnfusion.schedules.cpu.maps import map_block
from tvm_dnnfusion.schedules.cpu.matmul import matmul_block
from tvm_dnnfusion.schedules.cpu.phases import apart
from tvm_dnnfusion.schedules.cpu.plain import plain_block
from tvm_dnnfusion.schedules.cpu.pool import pool_block
from tvm_dnnfusion.schedules.cpu.ragged import parted
from tvm_dnnfusion.schedules.cpu.registers import on_stack
from tvm_dnnfusion.schedules.cpu.rows import rows_block
from tvm_dnnfusion.schedules.cpu.winograd import winograd_block
from tvm_dnnfusion.schedules.gpu.attention import attention_block as gpu_attention_block
from tvm_dnnfusion.schedules.gpu.between import whole_between
from tvm_dnnfusion.schedules.gpu.common import GpuKernel, check_bound, idle
from tvm_dnnfusion.schedules.gpu.conv import conv_block as gpu_conv_block
from tvm_dnnfusion.schedules.gpu.conv import convpool_block as gpu_convpool_block
from tvm_dnnfusion.schedules.gpu.depthwise import depthwise_block as gpu_depthwise_block
from tvm_dnnfusion.schedules.gpu.limits import check_limits
from tvm_dnnfusion.schedules.gpu.maps import map_block as gpu_map_block
from tvm_dnnfusion.schedules.gpu.matmul import matmul_block as gpu_matmul_block
from tvm_dnnfusion.schedules.gpu.narrow import narrow_integers
from tvm_dnnfusion.schedules.gpu.overhang import overhanging
from tvm_dnnfusion.schedules.gpu.plain import fallback
from tvm_dnnfusion.schedules.gpu.plain import plain_block as gpu_plain_block
from tvm_dnnfusion.schedules.gpu.rows import rows_block as gpu_rows_block
from tvm_dnnfusion.schedules.gpu.window import pool_block as gpu_pool_block

# A schedule takes a `Kernel` (of a GPU a `GpuKernel`), and changes its `sch` or returns the
# function that it built in its place.
Schedule = Callable[[Any], Any]

# Part of the key of a measured latency: raise it when a schedule changes, or how blocks are
# measured.
VERSION = 6

_CPU: dict[str, Schedule] = {
    "map": map_block, "rows": rows_block, "pool": pool_block, "conv": conv_block,
    "dwconv": depthwise_block, "matmul": matmul_block, "convpool": convpool_block,
    "attention": attention_block,
    "planes": matmul_block, "plain": plain_block, "winograd": winograd_block,
}  # fmt: skip

_GPU: dict[str, Schedule] = {
    "map": gpu_map_block, "conv": gpu_conv_block, "convpool": gpu_convpool_block,
    "dwconv": gpu_depthwise_block, "matmul": gpu_matmul_block,
    "rows": gpu_rows_block, "attention": gpu_attention_block, "pool": gpu_pool_block,
    "plain": gpu_plain_block,
}  # fmt: skip

SCHEDULES: Mapping[str, dict[str, Schedule]] = {"cpu": _CPU, "gpu": _GPU}

# What a schedule that does not fit a kernel raises; TypeError where TVM will not mix two dtypes.
_FAILURES = (ScheduleError, ScheduleFailed, InternalError, LookupError, TypeError, ValueError)

_FEATURED: dict[tuple[str, str, str], Schedule] = {}


# TVM's build fuses once more; kernels of this pattern (OpPatternKind::kOpaque) it leaves alone.
OPAQUE = 8


class TraceError(Exception):
    """A recorded trace does not fit the kernel."""

    exit_code = 2


class ScheduleWarning(UserWarning):
    """A kernel fell back to the plain schedule."""


def register_schedule(
    device_kind: str, block_kind: str, schedule: Schedule, feature: str = ""
) -> None:
    """Use `schedule` for kernels of a kind on devices of a kind ("cpu", "gpu").

    With a `feature` only on devices that have it ("dotprod", "i8mm": `DeviceSpec.features`).
    """
    if device_kind not in SCHEDULES:
        raise ValueError(f"no device kind {device_kind!r}; there are {sorted(SCHEDULES)}")
    if feature:
        _FEATURED[device_kind, block_kind, feature] = schedule
    else:
        SCHEDULES[device_kind][block_kind] = schedule


def _schedule_for(device: DeviceSpec, block_kind: str) -> Schedule:
    """The schedule of a kind, that for the device's last feature that has one before all others."""
    for feature in reversed(device.features):
        if (device.kind, block_kind, feature) in _FEATURED:
            return _FEATURED[device.kind, block_kind, feature]
    return SCHEDULES[device.kind][block_kind]


def schedule_kernel(func: Any, device: DeviceSpec, choices: Choices | None = None) -> Any:
    """The scheduled PrimFunc, with attributes `dnnfusion.schedule` and `tirx.is_scheduled`.

    Its parameters are those of its attribute; `choices` takes their place for a search that wants
    to know what was asked for. Raises ParamsError where they do not fit the kernel.
    """
    if choices is None:
        text = (func.attrs or {}).get(ATTR)
        choices = Choices(params_of(str(text)) if text is not None else DEFAULT)
    trace = (func.attrs or {}).get(TRACE)
    if trace is not None:
        return done(replayed(func, str(trace)), func, "trace", device.kind == "gpu")
    kind = str((func.attrs or {}).get("dnnfusion.kind", "plain"))
    name = str((func.attrs or {}).get("global_symbol", "kernel"))
    table, gpu = SCHEDULES[device.kind], device.kind == "gpu"
    if gpu and (nothing := idle(func)) is not None:
        return done(nothing, func, "none", gpu)
    make = GpuKernel if gpu else Kernel
    kind = kind if kind in table or not gpu else "map"
    for choice, separate in dict.fromkeys(((kind, False), (kind, True), ("plain", False))):
        sch = s_tir.Schedule(func)
        try:
            made = _schedule_for(device, choice)(make(sch, device, separate, choices))
            made = made if made is not None else sch.mod["main"]
            if gpu:
                check_bound(made)
                check_limits(made, device)
            return done(made, func, choice, gpu)
        except _FAILURES as error:
            if choice != "plain" and not separate:
                continue  # once more, with the outputs in loops of their own
            if gpu and choice == kind == "plain":
                continue  # a form that TVM's rules are for
            warnings.warn(
                f"kernel {name}: schedule {choice!r} failed ({_line(error)})",
                ScheduleWarning,
                stacklevel=2,
            )
    if gpu:
        return _by_rules(func, device, name)
    return func.with_attr("dnnfusion.schedule", "none").with_attr("op_pattern", OPAQUE)


def check_prepared(func: Any, device: DeviceSpec, name: str) -> None:
    """ScheduleFailed where a kernel that came scheduled asks for larger groups than there are."""
    try:
        check_limits(func, device)
    except ScheduleFailed as error:
        raise ScheduleFailed(f"kernel {name} has no form for {device.name}: {error}") from error


def _by_rules(func: Any, device: DeviceSpec, name: str) -> Any:
    """A GPU kernel under TVM's own rules. Raises ScheduleFailed where they do not apply either."""
    try:
        made, why = fallback(func, device), "TVM's rules do not apply"
    except _FAILURES as error:
        made, why = None, _line(error)
    if made is None:
        nodes = [str(x) for x in (func.attrs or {}).get("dnnfusion.origins", ())]
        of = f" (node {', '.join(nodes[:3])})" if nodes else ""
        raise ScheduleFailed(
            f"kernel {name}{of} has no form that a GPU can run ({why}). Compile for a CPU, or "
            "export the model without it"
        )
    check_prepared(made, device, name)
    return done(made, func, "dlight", True)


def done(made: Any, func: Any, choice: str, gpu: bool) -> Any:
    """The scheduled body finished: borders taken out of loops, small buffers on the stack."""
    out = parted(made)
    out = (
        whole_between(narrow_integers(overhanging(out)))
        if gpu
        else on_stack(whole(finish(apart(out))))
    )
    for key, value in (func.attrs or {}).items():
        out = out.with_attr(key, value)
    out = out.with_attr("dnnfusion.schedule", choice).with_attr("tirx.is_scheduled", True)
    return out.with_attr("op_pattern", OPAQUE)


def replayed(func: Any, trace: str) -> Any:
    """The function under a trace of MetaSchedule's, given as JSON.

    Raises TraceError for one that is of another function.
    """
    sch = s_tir.Schedule(func)
    try:
        s_tir.schedule.Trace.apply_json_to_schedule(json.loads(trace), sch)
    except (ScheduleError, InternalError, LookupError, TypeError, ValueError) as error:
        name = str((func.attrs or {}).get("global_symbol", "kernel"))
        message = f"the tuning record of kernel {name} is not its own: {_line(error)}"
        raise TraceError(message) from error
    return sch.mod["main"]


def _line(error: Exception) -> str:
    lines = [x for x in str(error).strip().splitlines() if x.strip()]
    return lines[-1].strip()[:200] if lines else type(error).__name__
