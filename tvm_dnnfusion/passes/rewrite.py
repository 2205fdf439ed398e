"""RewritePass: the mathematical-property rules over one function, Relax in and Relax out."""

from __future__ import annotations

from typing import Any

import tvm

from tvm_dnnfusion.frontend.relax import from_relax
from tvm_dnnfusion.frontend.to_relax import to_relax
from tvm_dnnfusion.passes import attrs
from tvm_dnnfusion.rewrite import RewriteOptions, rewrite


@tvm.transform.module_pass(opt_level=0, name="DNNFusionRewrite")
class RewritePass:
    """Rewrite a function; the report goes to the attribute "dnnfusion.rewrite".

    Source: DNNFusion (PLDI'21), section 4.2.
    """

    def __init__(self, options: RewriteOptions | None = None, function: str = "main"):
        self.options = options or RewriteOptions()
        self.function = function

    def transform_module(self, mod: tvm.IRModule, ctx: Any) -> tvm.IRModule:
        """Rewrite the function."""
        imported = from_relax(mod, self.function)
        result = rewrite(imported.graph, self.options)
        return attrs.put(to_relax(imported, result.graph), attrs.REWRITE, result.report.to_dict())
