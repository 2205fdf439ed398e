"""ClassifyPass: mapping types, properties, FLOPs and bytes of every op, as a module attribute."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_dnnfusion.ecg.metrics import extend
from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.passes import attrs
from tvm_dnnfusion.report.summary import graph_summary


@tvm.transform.module_pass(opt_level=0, name="DNNFusionClassify")
class ClassifyPass:
    """Attach the ECG of a function to the module (attribute "dnnfusion.ecg", JSON).

    The functions are not changed. Source: DNNFusion (PLDI'21), section 3.1.
    """

    def __init__(self, function: str = "main"):
        self.function = function

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Classify the ops of the function."""
        graph = from_relax(mod, self.function).graph
        return attrs.put(mod, attrs.ECG, graph_summary(extend(graph)))
