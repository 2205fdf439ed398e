"""Operators that are left as such, legalised for GPUs: in forms that are right there."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.schedules.gpu.scan import scan
from tvm_dnnfusion.schedules.gpu.scatter import scatter_nd

SORTS = ("relax.sort", "relax.argsort", "relax.topk", "relax.bucketize")
"""Operators that `DispatchSortScan` has right forms for, which legalising would not choose."""

OURS = {"relax.cumsum": scan, "relax.cumprod": scan, "relax.scatter_nd": scatter_nd}


def legalized(mod: tvm.IRModule) -> tvm.IRModule:
    """The module under the current target: scans and scatters as kernels of our own, sorts in TVM's
    forms.

    All operators but sorts are legalised on the way. Raises ScheduleFailed for a scan over an axis
    whose length is not known.
    """
    mod = relax.transform.LegalizeOps(OURS, skip_ops=list(SORTS))(mod)
    sorts: Any = relax.backend.DispatchSortScan()
    return sorts(mod)
