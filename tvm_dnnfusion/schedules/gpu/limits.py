"""Whether a scheduled kernel keeps within what a device offers one work-group.

Schedules choose by the same limits; this looks at what came of it, TVM's own rules included, whose
groups have a fixed size.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, sym, tirx

from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.schedules.cpu.common import ScheduleFailed

ITEMS, SHARED = "threadIdx.", "shared"


def check_limits(func: Any, device: DeviceSpec) -> None:
    """ScheduleFailed where a group has more work-items, or more bytes in local memory, than the
    device allows."""
    gpu = device.gpu
    if gpu is None:
        return
    items = group_items(func)
    if items > gpu.work_group:
        raise ScheduleFailed(f"a group of {items} work-items; {device.name} has {gpu.work_group}")
    local = local_bytes(func)
    if local > gpu.local_bytes:
        raise ScheduleFailed(f"{local} bytes of local memory; {device.name} has {gpu.local_bytes}")


def group_items(func: Any) -> int:
    """Work-items of the largest group of a function's kernels."""
    return max(_items(nest) for nest in _nests(func))


def local_bytes(func: Any) -> int:
    """Bytes of local memory that a group of the largest kernel of a function takes."""
    if not _shared(func.body):
        return 0
    passes = s_tir.transform
    small = tvm.transform.Sequential(
        [passes.LowerCrossThreadReduction(), passes.LowerInitBlock(),
         passes.PlanAndUpdateBufferAllocationLocation(), passes.ConvertBlocksToOpaque(),
         passes.CompactBufferAllocation()]
    )(tvm.IRModule({"main": func}))["main"]  # fmt: skip
    return max(sum(_bytes(b) for b in _shared(nest)) for nest in _nests(small))


def _nests(func: Any) -> list[Any]:
    """The loop nests of a function, each of which becomes a kernel."""
    body = func.body.block.body
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]


def _items(nest: Any) -> int:
    """Work-items of a group of a nest."""
    axes: dict[str, int] = {}

    def loop(node: Any) -> None:
        tag = "" if node.thread_binding is None else str(node.thread_binding.thread_tag)
        if tag.startswith(ITEMS):
            axes[tag] = max(axes.get(tag, 1), _most(node.extent))

    def launch(node: Any) -> None:  # TVM's kernels for sorting name their work-items themselves
        if node.attr_key == "thread_extent" and str(node.node.thread_tag).startswith(ITEMS):
            tag = str(node.node.thread_tag)
            axes[tag] = max(axes.get(tag, 1), _most(node.value))

    tvm_ffi.structural_walk(nest, [(tirx.For, loop), (tirx.AttrStmt, launch)])
    return math.prod(axes.values())


def _most(extent: Any) -> int:
    """The largest value of an extent, which TVM's kernels for sorting compute."""
    analyzer: Any = sym.Analyzer()
    return int(analyzer.const_int_bound(extent).max_value)


def _shared(body: Any) -> list[Any]:
    """The buffers in local memory that blocks of a statement allocate."""
    found: list[Any] = []

    def block(node: Any) -> None:
        found.extend(b for b in node.alloc_buffers if b.scope() == SHARED)

    tvm_ffi.structural_walk(body, [(s_tir.SBlock, block)])
    return found


def _bytes(buffer: Any) -> int:
    each = tvm.DataType(str(buffer.ty.dtype)).bits // 8
    return each * math.prod(int(n) for n in buffer.ty.shape)
