"""What the GPU schedules share: grids of work-groups, vectors of four, private accumulators.

A stage becomes one OpenCL kernel: its places are cut into work-items, work-items into work-groups.
Work-items that stand side by side handle vectors that lie side by side, so that the loads of a
work-group are whole cache lines. What a work-item keeps, it keeps in private arrays that are read
by constant indices only: compilers for Mali and Adreno put those in registers, any other in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock, SBlockRealize

from tvm_dnnfusion.codegen.gpu_rows import GROUP
from tvm_dnnfusion.schedules.cpu.common import Kernel, ScheduleFailed, product

__all__ = ["GpuKernel", "Kernel", "ScheduleFailed", "product"]

VECTOR_BYTES = 16
"""Bytes of one vector access: float4 or half8. Source: the same guides ask for 128 bits."""

_CONDITION = tvm.ir.Op.get("prim.if_then_else")
_VECTOR_TYPES = ("float32", "float16", "int32", "uint32")


class GpuKernel(Kernel):
    """A schedule under way for a GPU."""

    def lanes_of(self, block: str) -> int:
        """Lanes of a vector access by which the block's last axis can be cut; 1 for none.

        Its loads and its store must be contiguous in that axis, or not depend on it, and no
        condition may: else the vector falls apart into scalars.
        """
        found = self.sch.get(self.sch.get_sblock(block))
        loops, kinds = self.loops(block), [int(iv.iter_type) for iv in found.iter_vars]
        if not loops or not kinds or kinds[-1] != 0 or len(kinds) != len(loops):
            return 1
        if 2 in kinds:
            return 1
        return self.lanes_along(block, len(kinds) - 1)

    def lanes_along(self, block: str, axis: int) -> int:
        """Lanes of a vector access along one axis of a block; 1 where there is none."""
        found = self.sch.get(self.sch.get_sblock(block))
        var, dom = found.iter_vars[axis].var, found.iter_vars[axis].dom.extent
        dtypes = _types(found)
        if not isinstance(dom, tirx.IntImm) or not dtypes <= set(_VECTOR_TYPES):
            return 1
        widest = max(tvm.DataType(t).bits // 8 for t in dtypes)
        lanes = VECTOR_BYTES // widest
        while lanes > 1 and int(dom) % lanes:
            lanes //= 2
        return lanes if lanes > 1 and _contiguous(found, var, lanes) else 1

    def grid(self, loops: Sequence[Any]) -> Any:
        """Loops fused into one, cut into work-groups; returns the loop over work-items."""
        fused = self.sch.fuse(*loops) if len(loops) > 1 else loops[0]
        items = group_size(self.extent(fused), self.group())
        outer, inner = self.sch.split(fused, [None, items])
        self.sch.bind(outer, "blockIdx.x")
        self.sch.bind(inner, "threadIdx.x")
        return inner

    def group(self) -> int:
        """Work-items of a group on this device."""
        gpu = self.device.gpu
        return GROUP if gpu is None else min(GROUP, gpu.work_group)


def check_bound(func: Any) -> None:
    """ScheduleFailed where a stage would run on the host, which has not the device's memory."""
    body = func.body.block.body
    for nest in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
        bound: list[Any] = []
        tvm_ffi.structural_walk(
            nest, [(tirx.For, lambda x, b=bound: b.append(x.thread_binding is not None))]
        )
        if not any(bound):
            raise ScheduleFailed("a stage that no work-item computes")


def idle(func: Any) -> Any | None:
    """The function without a body where what it makes has no elements; None where it has some."""
    shape = func.params[-1].ty.shape
    if not any(isinstance(n, tirx.IntImm) and int(n) == 0 for n in shape):
        return None
    root = func.body.block
    empty = SBlock([], [], [], root.name_hint, tirx.Evaluate(tirx.const(0, "int32")))
    return func.with_body(SBlockRealize([], tirx.const(True, "bool"), empty))


def group_size(items: int, most: int) -> int:
    """Work-items of a group: the most that divide all of them, unless that is less than a half.

    Then the last group has idle ones, which a condition keeps from working.
    """
    if items <= most:
        return items
    best = max(n for n in range(1, most + 1) if items % n == 0)
    return best if 2 * best >= most else most


def _types(block: Any) -> set[str]:
    """The dtypes of what a block reads and writes."""
    regions = [*block.reads, *block.writes]
    return {str(r.source.ty.dtype) for r in regions}


def _contiguous(block: Any, var: Any, lanes: int) -> bool:
    """Whether vectors along a variable are vectors in memory, or one element for all lanes."""
    analyzer: Any = sym.Analyzer()
    for iv in block.iter_vars:
        analyzer.bind(iv.var, iv.dom)
    # indices may be of int64, as those of TVM's own reflecting pad are
    lane, start = tirx.Var("lane", var.ty.dtype), tirx.Var("start", var.ty.dtype)
    analyzer.bind(lane, _range(lanes))
    extent = next(iv.dom.extent for iv in block.iter_vars if iv.var.same_as(var))
    analyzer.bind(start, _range(int(extent) // lanes))

    def at(expr: Any, place: Any) -> Any:
        return tvm_ffi.structural_map(expr, [(tirx.Var, lambda v: place if v.same_as(var) else v)])

    def follows(node: Any) -> bool:
        offset = _offset(node)
        step = analyzer.simplify(at(offset, start * lanes + lane) - at(offset, start * lanes))
        return analyzer.can_prove_equal(step, 0) or analyzer.can_prove_equal(step, lane)

    good = True

    def load(node: Any) -> None:
        nonlocal good
        good = good and follows(node)

    def call(node: Any) -> None:
        nonlocal good
        if node.op.same_as(_CONDITION) and uses(node.args[0], var):
            good = False

    def cast(node: Any) -> None:  # TVM shares vectors of such numbers between kernels, by the host
        nonlocal good
        if "float" in str(node.ty.dtype) and uses(node.value, var) and not _reads(node.value):
            good = False

    tvm_ffi.structural_walk(
        block.body,
        [(TensorLoad, load), (tirx.BufferStore, load), (tvm.ir.Call, call), (tirx.Cast, cast)],
    )
    return good


def _reads(expr: Any) -> bool:
    """Whether an expression loads something."""
    found: list[Any] = []
    tvm_ffi.structural_walk(expr, [(TensorLoad, found.append)])
    return bool(found)


def _range(extent: int) -> Any:
    zero: Any = 0
    stop: Any = extent
    return tvm.ir.Range(zero, stop)


def _offset(node: Any) -> Any:
    """The place in memory of a load or store."""
    source = getattr(node, "source", None)
    shape = (node.buffer if source is None else source).ty.shape
    offset: Any = 0
    for i, n in zip(node.indices, shape):
        offset = offset * n + i
    return offset


def uses(expr: Any, var: Any) -> bool:
    """Whether a variable occurs in an expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(
        expr, [(tirx.Var, lambda v: found.append(v) if v.same_as(var) else None)]
    )
    return bool(found)
