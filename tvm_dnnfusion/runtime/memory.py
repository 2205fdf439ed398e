"""What a compiled function holds while it runs, counted from its module.

Nothing is run: TVM's memory planning is applied to a copy, and what it allocates is added up.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, s_tir
from tvm.s_tir import SBlock


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: constants, planned activations, results, and the largest workspace of a kernel.

    `weights` counts equal constants once, as the executable stores them. `results` are allocated
    anew in each run, for the caller. `workspace` is what one kernel allocates for stages of its
    own, in the worst kernel, on one thread. Tensors of symbolic shape are not counted.
    """

    weights: int
    activations: int
    results: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.results + self.workspace

    def to_dict(self) -> dict[str, int]:
        """JSON data."""
        return {**asdict(self), "total": self.total}


def memory_of(mod: tvm.IRModule, entry: str = "main") -> Memory:
    """The memory of a fused and scheduled function, as TVM's default pipeline plans it."""
    passes = relax.transform
    planned = tvm.transform.Sequential(
        [
            passes.RewriteDataflowReshape(),
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
        ]
    )(mod)
    weights: dict[Any, int] = {}
    sizes = {"relax.memory.alloc_storage": 0, "relax.builtin.alloc_tensor": 0}

    def visit(node: Any) -> None:
        if isinstance(node, tvm.ir.GenericConst) and isinstance(node.value, tvm.runtime.Tensor):
            data = node.value.numpy()
            weights[data.dtype.str, data.shape, hashlib.sha1(data.tobytes()).digest()] = data.nbytes
        elif isinstance(node, relax.Call) and getattr(node.op, "name", None) in sizes:
            sizes[node.op.name] += _allocated(node)

    relax.analysis.post_order_visit(planned[entry].body, visit)
    kernels = {gv: f for gv, f in mod.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}
    storage, results = sizes.values()
    return Memory(sum(weights.values()), storage, results, _workspace(tvm.IRModule(kernels)))


def _allocated(call: Any) -> int:
    """Bytes of an allocation; 0 where its shape is symbolic."""
    shape = call.args[0]
    dims = shape.values if isinstance(shape, relax.ShapeExpr) else ()
    if not dims or not all(isinstance(d, tvm.tirx.IntImm) for d in dims):
        return 0
    itemsize = 1 if "storage" in call.op.name else _itemsize(str(call.ty.dtype))
    return _product([int(d) for d in dims]) * itemsize


def _workspace(kernels: tvm.IRModule) -> int:
    """The most that one kernel allocates, each stage no larger than the part that is alive."""
    passes = s_tir.transform
    compact = tvm.transform.Sequential(
        [
            passes.LowerInitBlock(),
            passes.PlanAndUpdateBufferAllocationLocation(),
            passes.ConvertBlocksToOpaque(),
            passes.CompactBufferAllocation(),
        ]
    )(kernels)
    return max((_stages(func) for func in compact.functions.values()), default=0)


def _stages(func: Any) -> int:
    found: list[int] = []

    def visit(block: Any) -> None:
        for buffer in block.alloc_buffers:
            if all(isinstance(n, tvm.tirx.IntImm) for n in buffer.ty.shape):
                extents = [int(n) for n in buffer.ty.shape]
                found.append(_product(extents) * _itemsize(str(buffer.ty.dtype)))

    tvm_ffi.structural_walk(func.body, [(SBlock, visit)])
    return sum(found)


def _itemsize(dtype: str) -> int:
    return (tvm.DataType(dtype).bits + 7) // 8


def _product(values: list[int]) -> int:
    out = 1
    for v in values:
        out *= v
    return out
