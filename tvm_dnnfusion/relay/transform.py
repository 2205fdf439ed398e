"""`relay.transform` for scripts that were written for Relay.

    mod = relay.transform.Sequential([DNNFusionPass()])(mod)

`Sequential` is TVM's, and takes what a Relay script holds: an IRModule, the JSON text or path of a
saved module, or the pair (module, params) that Relay's frontends returned. Of Relay's own passes,
those with a Relax pass of the same meaning are here under their old names; another name's error
says what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from tvm_dnnfusion.relay.entry import constant
from tvm_dnnfusion.relay.module import load_json
from tvm_dnnfusion.relay.params import Params, load_params

SAME = {
    "DeadCodeElimination": "DeadCodeElimination",
    "EliminateCommonSubexpr": "EliminateCommonSubexpr",
    "FastMath": "FastMathTransform",
    "FoldConstant": "FoldConstant",
    "FuseOps": "FuseOps",
    "InferType": "Normalize",
    "RemoveUnusedFunctions": "DeadCodeElimination",
    "SimplifyInference": "DecomposeOpsForInference",
    "ToANormalForm": "Normalize",
    "ToMixedPrecision": "ToMixedPrecision",
}
"""Pass of Relay -> pass of Relax that does the same; their arguments may differ."""

INSTEAD = {
    "AlterOpLayout": "DNNFusionPass chooses the layouts of its kernels",
    "AnnotateTarget": "use relax.transform.FuseOpsByPattern",
    "CanonicalizeOps": "load_json writes bias_add as add",
    "CombineParallelConv2D": "there is no such pass in Relax",
    "CombineParallelDense": "use relax.transform.CombineParallelMatmul",
    "ConvertLayout": "use relax.transform.ConvertLayout({'relax.nn.conv2d': ['NHWC', 'OHWI']})",
    "DefuseOps": "load_json inlines fused functions",
    "DynamicToStatic": "load_json takes constant operands as attributes",
    "EtaExpand": "Relax modules hold no constructors",
    "FakeQuantizationToInteger": "there is no such pass in Relax",
    "FlattenAtrousConv": "there is no such pass in Relax",
    "FoldExplicitPadding": "there is no such pass in Relax",
    "FoldScaleAxis": "DNNFusionPass folds scales into convolutions",
    "BackwardFoldScaleAxis": "DNNFusionPass folds scales into convolutions",
    "ForwardFoldScaleAxis": "DNNFusionPass folds scales into convolutions",
    "Inline": "load_json inlines functions",
    "Legalize": "use relax.transform.LegalizeOps",
    "MergeComposite": "use relax.transform.FuseOpsByPattern",
    "MergeCompilerRegions": "use relax.transform.MergeCompositeFunctions",
    "PartitionGraph": "use relax.transform.FuseOpsByPattern and MergeCompositeFunctions",
    "PartialEvaluate": "there is no such pass in Relax",
    "SimplifyExpr": "DNNFusionPass's rewriting does this",
    "ToGraphNormalForm": "Relax has one form, with a binding for each value",
}
"""Pass of Relay without such a pass -> what to do instead."""


class Sequential(tvm.transform.Sequential):
    """tvm.transform.Sequential that also takes what Relay scripts hold."""

    def __call__(self, mod: Any) -> tvm.IRModule:
        """Run the passes on a module.

        Parameters
        ----------
        mod : an IRModule (of Relax, as load_json returns it), the JSON text or the path of a saved
            Relay module, or a pair of one of these and its parameters.

        Raises
        ------
        InputError for a file that cannot be used, TypeError for anything else.
        """
        return super().__call__(as_module(mod))


def as_module(given: Any) -> tvm.IRModule:
    """The Relax module of what a Relay script holds."""
    mod, params = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if isinstance(mod, str | bytes | Path):
        return load_json(mod, params)
    if not isinstance(mod, tvm.IRModule):
        raise TypeError(
            f"a module is an IRModule, the JSON or the path of a saved Relay module, or a pair of "
            f"these and parameters, not a {type(mod).__module__}.{type(mod).__qualname__}"
        )
    return mod if params is None else _bound(mod, params)


def _bound(mod: tvm.IRModule, params: Params) -> tvm.IRModule:
    """The module with parameters of main as constants, by Relay's names where they are kept."""
    func = mod["main"]
    kept = (func.attrs or {}).get("input_names")
    names = [str(p.name) for p in func.params] if kept is None else [str(n) for n in kept]
    given = load_params(params)
    bound = {
        str(p.name): constant(given[n])
        for n, p in zip(names, func.params, strict=True)
        if n in given
    }
    out = relax.transform.BindParams("main", bound)(mod)
    if kept is not None:
        out["main"] = out["main"].with_attr("input_names", [n for n in names if n not in given])
    return out


def _pass(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(relax.transform, SAME[name])
    return found


def __getattr__(name: str) -> Any:
    """A pass of Relay by its old name."""
    if name in SAME:
        return _pass(name)
    if name in INSTEAD:
        raise AttributeError(f"relay.transform.{name} is gone: {INSTEAD[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> Sequence[str]:
    return sorted({*globals(), *SAME})
