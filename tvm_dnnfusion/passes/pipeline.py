"""The Relax pipeline "dnnfusion": DNNFusionPass, then what TVM needs to build for its VM.

ex = tvm.compile(mod, target, relax_pipeline="dnnfusion")
mod = relax.get_pipeline("dnnfusion", planner="tvm")(mod)
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.passes.dnnfusion import DNNFusionPass

NAME = "dnnfusion"


def register_pipeline(name: str = NAME, **options: Any) -> None:
    """Make the pipeline known to Relax under a name; registering a name again does nothing.

    Parameters
    ----------
    name : what `relax.get_pipeline` and `tvm.compile(relax_pipeline=...)` are asked for.
    options : defaults for DNNFusionPass; `relax.get_pipeline(name, **more)` may override them.
    """
    if name in relax.pipeline.PIPELINE_MAP:
        return

    @relax.register_pipeline(name)
    def make(**more: Any) -> tvm.transform.Pass:
        return _pipeline({**options, **more})


def _pipeline(options: dict[str, Any]) -> tvm.transform.Pass:
    @tvm.transform.module_pass(opt_level=0, name=f"{NAME}_pipeline")
    def run(mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        fused = DNNFusionPass(**options)(mod)
        return relax.get_pipeline("default_build")(fused)

    return run
