"""SchedulePass: every PrimFunc that has no schedule yet gets one."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.pipeline import device_for, schedule_module


@tvm.transform.module_pass(opt_level=0, name="DNNFusionSchedule")
class SchedulePass:
    """Schedule the kernels of LowerPass by their kind, all others in the plain way.

    Relax ops that are left are legalised first, so that none of them stays a naive loop.
    """

    def __init__(self, device: DeviceSpec | str | None = None):
        self.device = device

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Schedule all kernels."""
        return schedule_module(mod, device_for(device=self.device))
