"""HalfPass: float16 arithmetic for the heavy operators of one function, after rewriting.

Convolutions and products multiply and add in float16, and hand float16 on to what TVM counts among
the followers (elementwise operators, movement, poolings); softmax, normalisations and means are
computed in float32, as are the function's inputs and results. Rewriting comes first: it
folds normalisations into weights while those are exact.

    conv(x, w): float32  ->  astype(conv(astype(x, "float16"), astype(w, "float16")), "float32")
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.devices.registry import DeviceError
from tvm_dnnfusion.devices.spec import DeviceSpec
from tvm_dnnfusion.passes.rewrite import RewritePass
from tvm_dnnfusion.rewrite import RewriteOptions
from tvm_dnnfusion.rewrite.rules import attention

ATTENTION_RULES = frozenset(rule.name for rule in attention.RULES)


@tvm.transform.module_pass(opt_level=0, name="DNNFusionHalf")
class HalfPass:
    """Float16 for a device that computes in it.

    Sums are of float16 too: errors grow with their length (docs/arm.md has measured ones). Raises
    DeviceError for a device that only stores float16.
    """

    def __init__(self, device: DeviceSpec, rewriting: RewriteOptions | None = None):
        if not device.fp16:
            raise DeviceError(
                f"device {device.name} does not compute in float16: name a CPU that does (its "
                'features have "fullfp16"), or compile without float16'
            )
        # TVM's attention operator in float16 gives wrong results under a mask: it stays written out
        self.rewriting = rewriting and replace(
            rewriting, disabled=rewriting.disabled | ATTENTION_RULES
        )

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Rewrite, then narrow."""
        if self.rewriting is not None:
            mod = RewritePass(self.rewriting)(mod)
        return relax.transform.ToMixedPrecision(out_dtype="float16")(mod)
