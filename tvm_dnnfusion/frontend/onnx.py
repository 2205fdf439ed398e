"""ONNX in: a file or a model becomes a Relax module that is ready for the ECG.

First step of the pipeline. Reads and checks the model, computes its constant parts, imports it
with the nodes' names as origins, and cleans up with TVM's standard passes. Batch normalisation
stays one operator: the rewriting rules fold it.

The function `main` gets two attributes: "input_names" and "output_names", the ONNX names in
order; its parameters have these names with everything but letters, digits and _ replaced.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter
import tvm
from onnx.defs import onnx_opset_version
from tvm import relax

from tvm_dnnfusion.frontend.errors import (
    InputError,
    InvalidModelError,
    NodeImportError,
    UnsupportedOperatorError,
    UnsupportedOpsetError,
)
from tvm_dnnfusion.frontend.onnx_file import read_model
from tvm_dnnfusion.frontend.onnx_fold import fold_constants
from tvm_dnnfusion.frontend.onnx_import import Importer, first_line
from tvm_dnnfusion.frontend.relax_fold import calls, fold_layout
from tvm_dnnfusion.frontend.shapes import Shapes, resolve_shapes

OLDEST_OPSET = 7
"""Before opset 7 binary operators broadcast by an attribute that TVM does not read: older models
are converted first."""


def load_onnx(
    model: str | Path | onnx.ModelProto,
    shapes: Shapes | None = None,
    *,
    allow_symbolic: bool = False,
) -> tvm.IRModule:
    """Import an ONNX model.

    Parameters
    ----------
    model : path of a file, or the model.
    shapes : input name -> shape in elements, for inputs with symbolic dimensions.
    allow_symbolic : keep dimensions that have no number symbolic; they limit what can be fused.

    Returns
    -------
    module whose function `main` takes the inputs in ONNX's order, with constants embedded; read
    the names of the nodes that an expression came from with `origins_of`.

    Raises
    ------
    InputError
        One of its subclasses, which names what is wrong and the way out.
    """
    proto, source = _open(model)
    proto, opset = _with_opset(proto, source)
    resolved = resolve_shapes(proto.graph, shapes, source, allow_symbolic)
    fixed = {n: list(s) for n, s in resolved.items() if all(isinstance(d, int) and d for d in s)}
    importer = Importer(source, fold_constants(proto), fixed)
    mod = _import(importer, proto, opset, source)
    return clean_up(_named(mod, importer, proto.graph))


def clean_up(mod: tvm.IRModule) -> tvm.IRModule:
    """Bring an imported module into the form that planning wants: names kept, constants folded."""
    mod["main"] = fold_layout(mod["main"])
    passes = [relax.transform.Normalize(), relax.transform.CanonicalizeBindings()]
    # FoldConstant writes a call of a function that it does not add when it meets this operator
    if not calls(mod["main"], "relax.dynamic_strided_slice"):
        passes.append(relax.transform.FoldConstant())
    passes.append(relax.transform.DeadCodeElimination())
    return tvm.transform.Sequential(passes)(mod)


def _open(model: str | Path | onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with its local functions inlined, and the name that errors give it."""
    if isinstance(model, onnx.ModelProto):
        proto, source = model, f"model {model.graph.name or 'without a name'}"
    else:
        proto, source = read_model(model), str(model)
    return (onnx.inliner.inline_local_functions(proto) if proto.functions else proto), source


def _with_opset(proto: onnx.ModelProto, source: str) -> tuple[onnx.ModelProto, int]:
    """The model, brought to the oldest opset that can be imported, and its opset."""
    found = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not found and any(node.domain in ("", "ai.onnx") for node in proto.graph.node):
        raise UnsupportedOpsetError(
            source,
            "it names no operator set (opset_import): it is damaged or was cut off",
            "Export the model again",
        )
    version = int(found[0]) if found else onnx_opset_version()
    if version > onnx_opset_version():
        raise UnsupportedOpsetError(
            source,
            f"opset {version} is newer than {onnx_opset_version()}, the last that "
            f"onnx {onnx.__version__} knows",
            "Update onnx, or export with an older opset",
        )
    if version >= OLDEST_OPSET:
        return proto, version
    try:
        return onnx.version_converter.convert_version(proto, OLDEST_OPSET), OLDEST_OPSET
    except Exception as err:
        raise UnsupportedOpsetError(
            source,
            f"opset {version} is older than {OLDEST_OPSET}, and cannot be converted: "
            f"{first_line(err)}",
            "Export the model with a newer opset",
        ) from err


def _import(importer: Importer, proto: onnx.ModelProto, opset: int, source: str) -> tvm.IRModule:
    """Run the importer; where it fails and the model is invalid, say that instead."""
    complaint = _complaint(proto)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mod = importer.import_graph(proto.graph, opset)
    except UnsupportedOperatorError:
        raise
    except Exception as err:
        if complaint is None and isinstance(err, NodeImportError):
            raise
        reason = err.reason if isinstance(err, InputError) else first_line(err)
        refused = f"onnx.checker refuses it: {complaint}; " if complaint else ""
        raise InvalidModelError(
            source,
            f"{refused}the import fails: {reason}",
            "Export the model again, or mend it until onnx.checker.check_model accepts it",
        ) from err
    if complaint is not None:
        warnings.warn(f"{source}: imported, but onnx.checker says: {complaint}", stacklevel=3)
    return mod


def _complaint(proto: onnx.ModelProto) -> str | None:
    """What onnx.checker has against the model, in one line.

    The checker refuses some models that import and run well, so its word counts only when the
    import fails too.
    """
    if proto.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        return None
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as err:
        return " ".join(str(err).split())[:300]
    return None


def _named(mod: tvm.IRModule, importer: Importer, graph: onnx.GraphProto) -> tvm.IRModule:
    mod["main"] = mod["main"].with_attrs(
        {
            "input_names": list(importer.input_names),
            "output_names": [output.name for output in graph.output],
        }
    )
    return mod
