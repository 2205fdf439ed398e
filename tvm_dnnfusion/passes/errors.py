"""Errors that cross TVM's pass infrastructure as what they are.

TVM hands an exception of a pass on by the name of its class; a name that it does not know comes out
as RuntimeError.
"""

from __future__ import annotations

import tvm_ffi

from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.ecg.graph import GraphError
from tvm_dnnfusion.planners import PlannerError
from tvm_dnnfusion.planners.plan_io import PlanError

KEPT = (PlanError, PlannerError, DeviceError, GraphError)


def register_errors() -> None:
    """Make the errors known to TVM; doing it again changes nothing."""
    for kind in KEPT:
        tvm_ffi.register_error(kind.__name__, kind)
