"""The schedule that fits every kernel: stages inlined where possible, each other one a grid.

Kernels of other forms (sorting, loops inside of blocks) get TVM's own fallback rule; what that does
not take either has no legal form on a GPU, and is refused with its name.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm.s_tir import dlight

from tvm_dnnfusion.devices.registry import target_dict
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.schedules.cpu.common import ScheduleFailed
from tvm_dnnfusion.schedules.cpu.plain import inline, is_simple
from tvm_dnnfusion.schedules.gpu.common import GpuKernel
from tvm_dnnfusion.schedules.gpu.limits import check_limits
from tvm_dnnfusion.schedules.gpu.maps import stage


def plain_block(k: GpuKernel) -> None:
    """Schedule a kernel whose blocks are single stores."""
    if not all(is_simple(k, name) for name in k.all()):
        raise ScheduleFailed("loops inside of blocks")
    for name in k.all():
        inline(k, name)
    for name in k.all():
        stage(k, name)


def fallback(func: Any, device: DeviceSpec) -> Any:
    """TVM's rules for any GPU; None where they do not apply.

    Those for reductions have groups of a fixed size: where that is too large, its last rule alone.
    It folds without barriers, and is taken too where a target says how wide warps are: with more
    than one work-item TVM writes barriers in a branch for the first of a group, which hang.
    """
    rules = (dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(), dlight.gpu.Fallback())
    made = _ruled(func, device, rules[-1:] if _wide_warps(device) else rules)
    if made is None:
        return None
    try:
        check_limits(made, device)
    except ScheduleFailed:
        return _ruled(func, device, rules[-1:])
    return made


def _wide_warps(device: DeviceSpec) -> bool:
    return target_dict(device).get("thread_warp_size", 1) != 1


def _ruled(func: Any, device: DeviceSpec, rules: tuple[Any, ...]) -> Any:
    apply: Any = dlight.ApplyDefaultSchedule(*rules)
    with tvm.target.Target(target_dict(device)):
        mod = apply(tvm.IRModule({"main": func}))
    made = mod["main"]
    return made if (made.attrs or {}).get("tirx.is_scheduled") else None
