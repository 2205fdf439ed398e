"""HalfPass: float16 arithmetic for the heavy operators of one function, after rewriting.

Convolutions and products multiply and add in float16, and hand float16 on to what TVM counts among
the followers (elementwise operators, movement, poolings); softmax, attention, normalisations and
means are computed in float32, as are the function's inputs and results. Rewriting comes first: it
folds normalisations into weights while those are exact.

    conv(x, w): float32  ->  astype(conv(astype(x, "float16"), astype(w, "float16")), "float32")

TVM 0.27 would narrow attention too, and loses its scale and its masks while doing so (its rule
passes on query, key and value only). In float32 the block is the kernel that it is without float16,
and a mask of -1e9 stays a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import GenericConst

from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.passes.rewrite import RewritePass
from tvm_dnnfusion.rewrite import RewriteOptions

_ATTENTION = ("relax.nn.attention", "relax.nn.attention_bias")
_POLICY = "TMixedPrecisionPolicy"
_NEVER = 2
"""The policy of operators that stay in float32, TVM 0.27 `include/tvm/relax/op_attr_types.h`."""


@tvm.transform.module_pass(opt_level=0, name="DNNFusionHalf")
class HalfPass:
    """Float16 for a device that computes in it.

    Sums are of float16 too, unless the device keeps them in float32 (`with_sums`): their errors
    grow with their length (docs/arm.md has measured ones). Raises DeviceError for a device that
    only stores float16.
    """

    def __init__(self, device: DeviceSpec, rewriting: RewriteOptions | None = None):
        if not device.fp16:
            raise DeviceError(
                f"device {device.name} does not compute in float16: name a CPU that does (its "
                'features have "fullfp16"), or compile without float16'
            )
        self.rewriting = rewriting

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Rewrite, then narrow."""
        if self.rewriting is not None:
            mod = RewritePass(self.rewriting)(mod)
        with _in_float32(_ATTENTION):
            return relax.transform.ToMixedPrecision(out_dtype="float16")(mod)


@contextmanager
def _in_float32(names: tuple[str, ...]) -> Iterator[None]:
    """These operators as TVM treats a softmax, until the block ends."""
    before = {op: op.get_attr(_POLICY) for op in map(tvm.ir.Op.get, names)}
    try:
        for op in before:
            _set(op, _NEVER)
        yield
    finally:
        for op, policy in before.items():
            _set(op, policy)


def _set(op: Any, policy: int) -> None:
    op.reset_attr(_POLICY)
    op.set_attr(_POLICY, policy)


def holds_float16(mod: tvm.IRModule) -> bool:
    """Whether a parameter or a constant of a module is in float16."""
    found: list[bool] = []

    def typed(node: Any) -> None:
        found.append(str(getattr(node.ty, "dtype", "")) == "float16")

    for func in mod.functions.values():
        if isinstance(func, relax.Function):
            for param in func.params:
                typed(param)
            tvm_ffi.structural_walk(func.body, [(GenericConst, typed)])
    return any(found)
